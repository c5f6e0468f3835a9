package twin

import (
	"encoding/binary"
	"net/netip"

	"aarch64.com/isthmus/translate"
)

// ownError builds the ICMP error that the verdict asks for, nil if none may be
// sent.
func (w *work) ownError() []byte {
	if w.res.From == translate.V4 {
		return w.ownError4()
	}
	return w.ownError6()
}

// ownError4: RFC 1812 4.3.2, RFC 792.
func (w *work) ownError4() []byte {
	var typ, code byte
	var word uint32
	switch w.res.Verdict {
	case translate.BadOption4:
		typ, code, word = 12, 0, w.bad // the pointer
	case translate.SourceRoute4:
		typ, code = 3, 5 // RFC 7915 4.1: source route failed
	case translate.LocalDestination6, translate.NoMapping4:
		typ, code = 3, 13 // RFC 1812 5.2.7.1: administratively prohibited
	case translate.TTL4:
		typ, code = 11, 0
	case translate.TooBig4:
		typ, code, word = 3, 4, w.bad // RFC 1191 4: the next-hop MTU
	default:
		return nil
	}
	h, p := w.old, w.in.Packet[:w.res.Length]
	// RFC 1812 4.3.2.7: "An ICMP error message MUST NOT be sent as the result of
	// receiving: o An ICMP error message, or o A packet which fails the IP header
	// validation tests [...], or o A packet destined to an IP broadcast or IP multicast
	// address, or [...] o A packet whose source address has a network prefix of zero or
	// is an invalid source address [...], or o Any fragment of a datagram other then
	// the first fragment".
	switch {
	case h.proto == 1 && (len(p) <= h.length || errorMessage4(p[h.length])):
		return nil
	case h.offset > 0, martian(h.src), martian(h.dst):
		return nil
	}
	src := netip.AddrFrom4(w.in.Sources.V4)
	if pool := w.in.Config.ICMPSource4; len(pool) > 0 {
		src = w.routerSource(pool)
	}
	if src.IsUnspecified() {
		return nil
	}
	// RFC 1812 4.3.2.3: "The ICMP datagram SHOULD contain as much of the original
	// datagram as possible without the length of the ICMP datagram exceeding 576 bytes."
	quote := p
	if len(quote) > 576-28 {
		quote = quote[:576-28]
	}
	body := binary.BigEndian.AppendUint32([]byte{typ, code, 0, 0}, word)
	body = append(body, quote...)
	binary.BigEndian.PutUint16(body[2:], ^ones(body))
	// RFC 1812 4.3.2.5: "SHOULD be originated with their IP Precedence field set to
	// either 6 (INTERNETWORK CONTROL) or 7".
	n := header{src: src, dst: h.src, tos: 0xc0, ttl: 64, proto: 1, dontFragment: true}
	return append(n.bytes(4, len(body)), body...)
}

// ownError6: RFC 4443 2.4, 3.
func (w *work) ownError6() []byte {
	var typ, code byte
	var word uint32
	switch w.res.Verdict {
	case translate.RoutingHeader6:
		typ, code, word = 4, 0, w.bad
	case translate.ExtensionAfterFragment6: // RFC 7915 5.1.1: "Type 1, Code 1"
		typ, code = 1, 1
	case translate.LocalDestination4, translate.LocalDestination6, translate.Denied4, translate.PrivateDestination4:
		typ, code = 1, 1
	case translate.NoMapping6:
		typ, code = 1, 5 // "Source address failed ingress/egress policy"
	case translate.HopLimit6:
		typ, code = 3, 0
	case translate.TooBig6:
		typ, code, word = 2, 0, w.bad
	default:
		return nil
	}
	p := w.in.Packet[:w.res.Length]
	from, dst := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	// RFC 4443 2.4 e: "An ICMPv6 error message MUST NOT be originated as a result of
	// receiving the following: (e.1) An ICMPv6 error message. (e.2) An ICMPv6 redirect
	// message. (e.3) A packet destined to an IPv6 multicast address. [...] (e.6) A
	// packet whose source address does not uniquely identify a single node".
	if martian(from) || martian(dst) {
		return nil
	}
	proto, payload, ok := lastHeader(p)
	if !ok || proto == 58 && (len(payload) == 0 || payload[0] < 128 || payload[0] == 137) {
		return nil
	}
	src := netip.AddrFrom16(w.in.Sources.V6)
	if pool := w.in.Config.ICMPSource6; len(pool) > 0 {
		src = w.routerSource(pool)
	}
	if src.IsUnspecified() {
		return nil
	}
	// "As much of invoking packet as possible without the ICMPv6 packet exceeding the
	// minimum IPv6 MTU".
	quote := p
	if len(quote) > 1280-48 {
		quote = quote[:1280-48]
	}
	body := binary.BigEndian.AppendUint32([]byte{typ, code, 0, 0}, word)
	body = append(body, quote...)
	n := header{src: src, dst: from, ttl: 64, proto: 58}
	binary.BigEndian.PutUint16(body[2:], ^ones(pseudo(n, 6, len(body)), body))
	return append(n.bytes(6, len(body)), body...)
}

// lastHeader walks through every extension header, also those that are not
// translated, to what the packet is about. ok is false if that is not in it.
func lastHeader(p []byte) (proto byte, payload []byte, ok bool) {
	proto, payload = p[6], p[40:]
	for range 16 {
		known := proto == 0 || proto == 43 || proto == 44 || proto == 51 || proto == 60
		if !known {
			return proto, payload, true
		}
		if len(payload) < 8 {
			return 0, nil, false
		}
		n := 8 + 8*int(payload[1])
		switch proto {
		case 44:
			n = 8
			if binary.BigEndian.Uint16(payload[2:4])>>3 != 0 {
				return 0, nil, false // not the first fragment
			}
		case 51:
			n = 4 * (int(payload[1]) + 2) // RFC 4302 2.2
		}
		proto = payload[0]
		payload = payload[min(n, len(payload)):]
	}
	return 0, nil, false
}
