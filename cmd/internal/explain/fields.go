package explain

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"aarch64.com/isthmus/translate"
)

// Field is one field of a packet, named alike in both families so that before
// and after stand side by side.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// dissect takes a packet apart as far as it goes. partial: its transport checksum
// is for hardware to complete.
func dissect(p []byte, partial bool) []Field {
	return (&dissector{partial: partial}).packet(p)
}

type dissector struct {
	prefix  string // before names: what it is inside of
	quoted  bool   // inside an ICMP error, where what is cut off is no fault
	partial bool
	out     []Field
}

func (d *dissector) packet(p []byte) []Field {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		d.v4(p)
	case len(p) >= 40 && p[0]>>4 == 6:
		d.v6(p)
	default:
		d.add("bytes", "%d, no whole IP header: %x", len(p), p[:min(len(p), 40)])
	}
	return d.out
}

func (d *dissector) add(name, format string, args ...any) {
	d.out = append(d.out, Field{d.prefix + name, fmt.Sprintf(format, args...)})
}

// right says whether a one's complement sum is that of a right checksum.
func right(s uint16) string {
	if s == 0xffff {
		return "right"
	}
	return "wrong"
}

func (d *dissector) v4(p []byte) {
	head, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	d.add("version", "IPv4, header of %d bytes", head)
	d.add("traffic class", "0x%02x", p[1])
	d.add("length", "%d bytes", total)
	frag := binary.BigEndian.Uint16(p[6:])
	flags := []string{}
	for _, f := range []struct {
		bit  uint16
		name string
	}{{0x8000, "reserved bit"}, {0x4000, "DF"}, {0x2000, "MF"}} {
		if frag&f.bit != 0 {
			flags = append(flags, f.name)
		}
	}
	d.add("identification", "0x%04x", binary.BigEndian.Uint16(p[4:]))
	d.add("flags", "%s", none(flags))
	offset := int(frag&0x1fff) * 8
	d.add("offset", "%d", offset)
	d.add("hop limit", "%d", p[8])
	d.add("protocol", "%d, %s", p[9], translate.ProtocolName(p[9]))
	if head < 20 || head > len(p) {
		d.add("header sum", "0x%04x", binary.BigEndian.Uint16(p[10:]))
		return
	}
	d.add("header sum", "0x%04x, %s", binary.BigEndian.Uint16(p[10:]), right(translate.Sum(p[:head])))
	d.add("source", "%v", netip.AddrFrom4([4]byte(p[12:])))
	d.add("destination", "%v", netip.AddrFrom4([4]byte(p[16:])))
	if head > 20 {
		d.add("options", "%x", p[20:head])
	}
	end := min(max(total, head), len(p))
	pseudo := append(append([]byte{}, p[12:20]...), 0, p[9], byte((total-head)>>8), byte(total-head))
	d.transport(translate.V4, p[9], p[head:end], pseudo, offset > 0, frag&0x2000 != 0 || end < total)
}

func (d *dissector) v6(p []byte) {
	payload := int(binary.BigEndian.Uint16(p[4:]))
	d.add("version", "IPv6, header of 40 bytes")
	d.add("traffic class", "0x%02x", p[0]<<4|p[1]>>4)
	if flow := binary.BigEndian.Uint32(p) & 0xfffff; flow != 0 {
		d.add("flow label", "0x%05x", flow)
	}
	d.add("length", "%d + %d bytes", 40, payload)
	next, at := p[6], 40
	end := min(40+payload, len(p))
	var chain []string
	later, cut := false, end < 40+payload
	var fragment []Field
walk:
	for at+8 <= end && !later {
		n := 8
		switch next {
		case 44:
			word := binary.BigEndian.Uint16(p[at+2:])
			flags := []string{}
			if word&1 != 0 {
				flags = append(flags, "M")
				cut = true
			}
			fragment = []Field{
				{d.prefix + "identification", fmt.Sprintf("0x%08x", binary.BigEndian.Uint32(p[at+4:]))},
				{d.prefix + "flags", none(flags)},
				{d.prefix + "offset", fmt.Sprintf("%d", word&^7)},
			}
			later = word>>3 != 0
		case 0, 43, 60:
			n += int(p[at+1]) * 8
		default:
			break walk
		}
		chain = append(chain, fmt.Sprintf("%s (%d bytes)", translate.ProtocolName(next), n))
		next, at = p[at], at+n
	}
	d.out = append(d.out, fragment...)
	d.add("hop limit", "%d", p[7])
	d.add("protocol", "%d, %s", next, translate.ProtocolName(next))
	d.add("source", "%v", netip.AddrFrom16([16]byte(p[8:])))
	d.add("destination", "%v", netip.AddrFrom16([16]byte(p[24:])))
	if len(chain) > 0 {
		d.add("options", "%s", strings.Join(chain, ", "))
	}
	if at > end {
		return
	}
	length := 40 + payload - at
	pseudo := append(append([]byte{}, p[8:40]...), byte(length>>24), byte(length>>16), byte(length>>8), byte(length), 0, 0, 0, next)
	d.transport(translate.V6, next, p[at:end], pseudo, later, cut)
}

func none(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// transport shows what is behind the IP header. cut: not all of the message is
// here, so that nothing can be said about its checksum.
func (d *dissector) transport(f translate.Family, proto uint8, b, pseudo []byte, later, cut bool) {
	if later {
		d.add("payload", "%d bytes of a later fragment", len(b))
		return
	}
	least, at := map[uint8]int{6: 20, 17: 8, 136: 8, 33: 12, 1: 8, 58: 8}[proto], map[uint8]int{6: 16, 17: 6, 136: 6, 33: 6, 1: 2, 58: 2}[proto]
	if least == 0 || len(b) < 4 {
		d.add("payload", "%d bytes", len(b))
		return
	}
	icmp := proto == 1 || proto == 58
	if icmp {
		d.add("message", "%s", translate.ICMPName(f, b[0], b[1]))
	} else {
		d.add("ports", "%d to %d", binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]))
	}
	if len(b) < at+2 {
		d.add("payload", "%d bytes in all", len(b))
		return
	}
	field := binary.BigEndian.Uint16(b[at:])
	switch {
	case cut || len(b) < least:
		d.add("checksum", "0x%04x", field)
	case proto == 17 && field == 0:
		d.add("checksum", "none")
	case d.partial:
		d.add("checksum", "0x%04x, partial", field)
	case proto == 136:
		d.add("checksum", "0x%04x", field) // covers what its header says
	case proto == 1:
		d.add("checksum", "0x%04x, %s", field, right(translate.Sum(b)))
	default:
		d.add("checksum", "0x%04x, %s", field, right(translate.Sum(append(pseudo, b...))))
	}
	if !icmp || len(b) < 8 {
		d.add("payload", "%d bytes", max(0, len(b)-least))
		return
	}
	d.icmp(f, b)
}

// icmp shows an ICMP message's second word, and the packet inside an error.
func (d *dissector) icmp(f translate.Family, b []byte) {
	word := binary.BigEndian.Uint32(b[4:])
	typ, code := b[0], b[1]
	isError := f == translate.V6 && typ < 128 || f == translate.V4 && (typ == 3 || typ == 11 || typ == 12)
	switch {
	case !isError:
		d.add("word", "0x%08x", word)
		d.add("payload", "%d bytes", len(b)-8)
		return
	case f == translate.V4 && typ == 3 && code == 4:
		d.add("MTU", "%d", word&0xffff)
	case f == translate.V6 && typ == 2:
		d.add("MTU", "%d", word)
	case f == translate.V4 && typ == 12:
		d.add("pointer", "byte %d", word>>24)
	case f == translate.V6 && typ == 4:
		d.add("pointer", "byte %d", word)
	}
	quote := b[8:]
	words, unit := int(b[5]), 4
	if f == translate.V6 {
		words, unit = int(b[4]), 8
	}
	extensible := f == translate.V4 || typ == 1 || typ == 3
	if n := words * unit; extensible && n > 0 && n < len(quote) {
		d.add("extensions", "%d bytes, behind a quote of %d", len(quote)-n, n)
		quote = quote[:n]
	}
	if d.quoted {
		d.add("payload", "%d bytes", len(quote))
		return
	}
	inside := dissector{prefix: "> ", quoted: true}
	d.out = append(d.out, inside.packet(quote)...)
}
