package translate_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"aarch64.com/isthmus/translate"
)

// checkOutcome holds what comes out against an independent decoder, and against
// what is true of any result whatever the twin thinks of it.
func checkOutcome(t testing.TB, pr *pair, p []byte, m translate.Meta, mtuOut int, o outcome) {
	t.Helper()
	if err := outcomeError(pr, p, m, mtuOut, o); err != nil {
		t.Fatalf("%v: %v\nin  %x\nout %x%x\nmeta %+v, MTU %d, config %+v", o.verdict, err, p, o.whole, o.err, m, mtuOut, pr.config)
	}
}

func outcomeError(pr *pair, p []byte, m translate.Meta, mtuOut int, o outcome) error {
	if o.err != nil {
		return ownErrorError(p, o.err)
	}
	if o.whole == nil {
		return nil
	}
	in := decode(p[:pr.plan.Len]) // gopacket refuses some that a router has to forward
	ttl := int(p[7])
	if p[0]>>4 == 4 {
		ttl = int(p[8])
	}
	limit := mtuOut
	switch {
	case limit == 0 || m.SegmentSize > 0:
		limit = 1 << 20
	case pr.plan.To == translate.V6:
		limit = max(limit, 1280)
	default:
		limit = max(limit, 68)
	}
	for i, f := range o.packets {
		d := decode(f)
		switch {
		case d.err != nil:
			return fmt.Errorf("packet %d: %w", i, d.err)
		case d.length != len(f):
			return fmt.Errorf("packet %d has %d bytes, its header says %d", i, len(f), d.length)
		case d.headerSum != 0xffff:
			return fmt.Errorf("packet %d: IPv4 header checksum", i)
		case len(f) > limit:
			return fmt.Errorf("packet %d has %d bytes, the link takes %d", i, len(f), limit)
		case ttl != d.ttl+1:
			return fmt.Errorf("packet %d: hop limit %d became %d", i, ttl, d.ttl)
		}
	}
	whole := decode(o.whole)
	// A checksum that verified verifies; damage is still there, and no repair.
	if in.whole && whole.whole && in.known && !m.PartialChecksum && (in.checksum != 0 || in.proto != layers.IPProtocolUDP) {
		if a, b := in.sum%0xffff, whole.sum%0xffff; a != b || a == 0 && in.sum != 0 && whole.sum == 0 {
			return fmt.Errorf("transport sum %04x became %04x", in.sum, whole.sum)
		}
	}
	if o.verdict == translate.Split {
		return reassemblyError(whole, o.packets)
	}
	return nil
}

// reassemblyError puts fragments together (RFC 791 3.2, RFC 8200 4.5) and compares
// with the packet before it was cut.
func reassemblyError(whole decoded, packets [][]byte) error {
	var payload []byte
	more := true
	for i, f := range packets {
		d := decode(f)
		if !more || d.offset != whole.offset+len(payload) || d.id != whole.id || d.proto != whole.proto {
			return fmt.Errorf("fragment %d: offset %d, identification %#x, protocol %v", i, d.offset, d.id, d.proto)
		}
		if d.more && len(d.payload)%8 != 0 {
			return fmt.Errorf("fragment %d has %d bytes, no multiple of 8", i, len(d.payload))
		}
		payload = append(payload, d.payload...)
		more = d.more
	}
	if more != whole.more || !bytes.Equal(payload, whole.payload) {
		return fmt.Errorf("the fragments make another packet of %d bytes, not %d", len(payload), len(whole.payload))
	}
	return nil
}

// ownErrorError checks an ICMP error of our own about p.
func ownErrorError(p, e []byte) error {
	d, in := decode(e), decode(p)
	limit, typeAt := 576, layers.IPProtocolICMPv4
	src, dst := p[12:16], p[16:20]
	addressed := len(e) >= 20 && bytes.Equal(e[16:20], src)
	if e[0]>>4 == 6 {
		limit, typeAt = 1280, layers.IPProtocolICMPv6
		src, dst = p[8:24], p[24:40]
		addressed = bytes.Equal(e[24:40], src)
	}
	switch {
	case d.err != nil:
		return d.err
	case len(e) > limit:
		return fmt.Errorf("an ICMP error of %d bytes", len(e))
	case d.sum != 0xffff || d.headerSum != 0xffff || d.proto != typeAt:
		return fmt.Errorf("an ICMP error that does not verify")
	case !addressed:
		return fmt.Errorf("an ICMP error that does not go to the source")
	case in.offset > 0:
		return fmt.Errorf("an ICMP error about a fragment that is not the first")
	case e[0]>>4 == 4 && (src[0] >= 224 || dst[0] >= 224), e[0]>>4 == 6 && (src[0] == 0xff || dst[0] == 0xff):
		return fmt.Errorf("an ICMP error about multicast")
	case !bytes.HasPrefix(p, d.payload[8:]):
		return fmt.Errorf("an ICMP error that does not quote the packet")
	}
	if len(in.payload) > 0 && in.err == nil {
		typ := in.payload[0]
		if in.proto == layers.IPProtocolICMPv4 && p[0]>>4 == 4 && (typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12) ||
			in.proto == layers.IPProtocolICMPv6 && p[0]>>4 == 6 && (typ < 128 || typ == 137) {
			return fmt.Errorf("an ICMP error about an ICMP error")
		}
	}
	return nil
}

// decoded is a packet as gopacket reads it.
type decoded struct {
	err       error
	length    int // by the header's length field
	ttl       int
	proto     layers.IPProtocol
	offset    int // bytes
	more      bool
	id        uint32
	headerSum uint16 // 0xffff: verifies
	payload   []byte // behind IP header and Fragment Header

	// Of a packet that is no fragment, and whose protocol has one:
	whole, known bool
	checksum     uint16
	sum          uint16 // over pseudo-header and all; 0xffff: verifies
}

func decode(p []byte) (d decoded) {
	df := gopacket.NilDecodeFeedback
	d.headerSum = 0xffff
	var pseudo []byte
	if len(p) > 0 && p[0]>>4 == 4 {
		var ip layers.IPv4
		if d.err = ip.DecodeFromBytes(p, df); d.err != nil {
			return d
		}
		d.length, d.ttl, d.proto = int(ip.Length), int(ip.TTL), ip.Protocol
		d.offset, d.more, d.id = int(ip.FragOffset)*8, ip.Flags&layers.IPv4MoreFragments != 0, uint32(ip.Id)
		d.headerSum = add16(ip.Contents)
		d.payload = ip.Payload
		if d.proto != layers.IPProtocolICMPv4 {
			pseudo = append(append(pseudo, ip.SrcIP.To4()...), ip.DstIP.To4()...)
		}
	} else if len(p) == 40 && p[0]>>4 == 6 && p[4]|p[5] == 0 {
		// Nothing behind the header: legal, but gopacket refuses it.
		d.length, d.ttl, d.proto = 40, int(p[7]), layers.IPProtocol(p[6])
		return d
	} else {
		var ip layers.IPv6
		if d.err = ip.DecodeFromBytes(p, df); d.err != nil {
			return d
		}
		d.length, d.ttl, d.proto = 40+int(ip.Length), int(ip.HopLimit), ip.NextHeader
		d.payload = ip.Payload
		// gopacket takes a Hop-by-Hop header for a part of the IPv6 header.
		if ip.HopByHop != nil {
			d.proto = ip.HopByHop.NextHeader
		}
	loop:
		for {
			switch d.proto {
			case layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination, layers.IPProtocolIPv6HopByHop:
				if len(d.payload) < 8 || len(d.payload) < 8+8*int(d.payload[1]) {
					break loop
				}
				d.proto, d.payload = layers.IPProtocol(d.payload[0]), d.payload[8+8*int(d.payload[1]):]
			case layers.IPProtocolIPv6Fragment:
				pk := gopacket.NewPacket(d.payload, layers.LayerTypeIPv6Fragment, gopacket.NoCopy)
				f, ok := pk.Layer(layers.LayerTypeIPv6Fragment).(*layers.IPv6Fragment)
				if !ok {
					d.err = fmt.Errorf("no Fragment Header")
					return d
				}
				d.proto, d.payload = f.NextHeader, d.payload[8:]
				d.offset, d.more, d.id = int(f.FragmentOffset)*8, f.MoreFragments, f.Identification
				if d.offset > 0 {
					break loop
				}
			default:
				break loop
			}
		}
		pseudo = append(append(pseudo, ip.SrcIP.To16()...), ip.DstIP.To16()...)
	}
	if d.whole = !d.more && d.offset == 0; !d.whole {
		return d
	}
	if pseudo != nil {
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(d.payload)))
		pseudo = append(pseudo, 0, 0, 0, byte(d.proto))
	}
	at := -1
	switch d.proto {
	case layers.IPProtocolTCP:
		at = 16
	case layers.IPProtocolUDP, layers.IPProtocolUDPLite, layers.IPProtocol(33):
		at = 6
	case layers.IPProtocolICMPv4, layers.IPProtocolICMPv6:
		at = 2
	}
	if at >= 0 && len(d.payload) >= at+2 {
		d.known = true
		d.checksum = binary.BigEndian.Uint16(d.payload[at:])
		d.sum = add16(pseudo, d.payload)
	}
	return d
}
