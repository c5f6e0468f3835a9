package twin

import (
	"encoding/binary"

	"aarch64.com/isthmus/translate"
)

// head is the start of an ICMP message: type, code, and what the second word
// says in the terms of its family.
type head struct {
	typ, code byte
	mtu       int // Packet Too Big, Fragmentation Needed
	tooBig    bool
	pointer   int // Parameter Problem
}

// icmpMessage translates an ICMP message (RFC 7915 4.2, 4.3, 5.2, 5.3).
func (w *work) icmpMessage(l4 []byte) translate.Verdict {
	h, n := w.old, w.new
	// RFC 7915 1.2: "Fragmented ICMP/ICMPv6 packets will not be translated by
	// IP/ICMP translators."
	if h.offset > 0 || h.more {
		return translate.FragmentedICMP
	}
	if len(l4) < 8 {
		return translate.ShortTransport
	}
	if typ, ok := echo(l4[0], h.version, n.version); ok {
		w.body[0] = typ
		w.checksum(h, l4, n, 2, false)
		return translate.Forward
	}
	w.icmp = true
	if v := w.icmpError(l4); v != translate.Forward {
		return v
	}
	// RFC 7915 4.2: "All ICMPv4 messages that are to be translated require that the
	// ICMPv6 checksum field be calculated as part of the translation since ICMPv6,
	// unlike ICMPv4, has a pseudo-header checksum".
	w.checksum(h, l4, n, 2, false)
	return translate.Forward
}

// echo: RFC 7915 4.2: "ICMPv4 echo and echo reply (Type 8 and Type 0): Adjust the
// Type values to 128 and 129, respectively"; 5.2: "to 8 and 0, respectively".
func echo(typ byte, from, to int) (byte, bool) {
	request, reply := byte(8), byte(0)
	if from == 6 {
		request, reply = 128, 129
	}
	newRequest, newReply := byte(8), byte(0)
	if to == 6 {
		newRequest, newReply = 128, 129
	}
	switch typ {
	case request:
		return newRequest, true
	case reply:
		return newReply, true
	}
	return 0, false
}

// read4 reads the head of an ICMPv4 message, read6 that of an ICMPv6 message.
func read4(l4 []byte) head {
	return head{typ: l4[0], code: l4[1], mtu: int(binary.BigEndian.Uint16(l4[6:8])), pointer: int(l4[4])}
}

func read6(l4 []byte) head {
	word := int(binary.BigEndian.Uint32(l4[4:8]))
	return head{typ: l4[0], code: l4[1], mtu: word, pointer: word}
}

// figure3 and figure6 are RFC 7915's tables of pointers.
var figure3 = map[int]int{
	0: 0,       // Version/IHL: Version/Traffic Class
	1: 1,       // Type of Service: Traffic Class/Flow Label
	2: 4, 3: 4, // Total Length: Payload Length
	8: 7, 9: 6, // Time to Live: Hop Limit; Protocol: Next Header
	12: 8, 13: 8, 14: 8, 15: 8, // Source Address
	16: 24, 17: 24, 18: 24, 19: 24, // Destination Address
}

var figure6 = func() map[int]int {
	m := map[int]int{
		0: 0, // Version/Traffic Class: Version/IHL, Type Of Service
		1: 1, // Traffic Class/Flow Label: Type Of Service
		4: 2, 5: 2, 6: 9, 7: 8,
	}
	for i := 8; i <= 23; i++ {
		m[i] = 12
	}
	for i := 24; i <= 39; i++ {
		m[i] = 16
	}
	return m
}()

// head4to6 is RFC 7915 4.2.
func head4to6(h head) (n head, v translate.Verdict) {
	v = translate.Forward
	switch h.typ {
	case 3: // Destination Unreachable
		switch h.code {
		case 0, 1, 5, 6, 7, 8, 11, 12:
			n = head{typ: 1, code: 0} // "Set the Code to 0 (No route to destination)"
		case 2:
			// "Translate to an ICMPv6 Parameter Problem (Type 4, Code value 1) and make
			// the Pointer point to the IPv6 Next Header field."
			n = head{typ: 4, code: 1, pointer: 6}
		case 3:
			n = head{typ: 1, code: 4} // "(Port unreachable)"
		case 4:
			n = head{typ: 2, mtu: h.mtu, tooBig: true} // "Packet Too Big message (Type 2) with code set to 0"
		case 9, 10, 13, 15:
			n = head{typ: 1, code: 1} // "(Communication with destination administratively prohibited)"
		default: // 14: "Drop"; "Other Code values: Silently drop."
			v = translate.ICMP4Code
		}
	case 11: // "Time Exceeded (Type 11): Set the Type to 3 [...]. The Code is unchanged."
		n = head{typ: 3, code: h.code}
	case 12: // Parameter Problem
		if h.code != 0 && h.code != 2 { // "Code 1 (Missing a required option): Silently drop."
			v = translate.ICMP4Code
			break
		}
		p, ok := figure3[h.pointer]
		if !ok { // "n/a": silently dropped
			v = translate.ICMP4Pointer
		}
		n = head{typ: 4, code: 0, pointer: p}
	case 4, 13, 14, 15, 16, 17, 18: // "Obsoleted in ICMPv6. Silently drop."
		v = translate.ICMP4Obsolete
	case 5, 9, 10: // "Single-hop message. Silently drop."
		v = translate.ICMP4SingleHop
	default: // "Unknown ICMPv4 types: Silently drop."
		v = translate.ICMP4Unknown
	}
	return n, v
}

// head6to4 is RFC 7915 5.2.
func head6to4(h head) (n head, v translate.Verdict) {
	v = translate.Forward
	switch {
	case h.typ == 1:
		switch h.code {
		case 0, 2, 3:
			n = head{typ: 3, code: 1} // "Set the Code to 1 (Host unreachable)."
		case 1:
			n = head{typ: 3, code: 10}
		case 4:
			n = head{typ: 3, code: 3}
		default:
			v = translate.ICMP6Code
		}
	case h.typ == 2:
		n = head{typ: 3, code: 4, mtu: h.mtu, tooBig: true}
	case h.typ == 3:
		n = head{typ: 11, code: h.code}
	case h.typ == 4 && h.code == 0:
		p, ok := figure6[h.pointer]
		if !ok {
			v = translate.ICMP6Pointer
		}
		n = head{typ: 12, code: 0, pointer: p}
	case h.typ == 4 && h.code == 1: // "Translate this to an ICMPv4 protocol unreachable (Type 3, Code 2)."
		n = head{typ: 3, code: 2}
	case h.typ == 4: // "Code 2 (Unrecognized IPv6 option encountered): Silently drop."
		v = translate.ICMP6Code
	case h.typ >= 130 && h.typ <= 132, h.typ == 143:
		v = translate.ICMP6Multicast
	case h.typ >= 133 && h.typ <= 137:
		v = translate.ICMP6Neighbour
	default:
		v = translate.ICMP6Unknown
	}
	return n, v
}

// extended tells the messages with an RFC 4884 length attribute (its section 4):
// ICMPv4 Destination Unreachable, Time Exceeded and Parameter Problem, ICMPv6
// Destination Unreachable and Time Exceeded.
func extended(version int, typ byte) bool {
	if version == 4 {
		return typ == 3 || typ == 11 || typ == 12
	}
	return typ == 1 || typ == 3
}

// icmpError translates an ICMP error and the packet that it quotes, up to its
// checksum.
func (w *work) icmpError(l4 []byte) translate.Verdict {
	from, to := w.old.version, w.new.version
	var m head
	var v translate.Verdict
	if from == 4 {
		m, v = head4to6(read4(l4))
	} else {
		m, v = head6to4(read6(l4))
		if v == translate.Forward && to == 6 { // RFC 7757 4.2.2: and back
			m, v = head4to6(m)
		}
	}
	if v != translate.Forward {
		return v
	}

	// RFC 4884 4: the length attribute counts the quote, in 32-bit words in ICMPv4
	// and in 64-bit words in ICMPv6. What is behind are extensions.
	quote := l4[8:]
	var extensions []byte
	if extended(from, l4[0]) {
		n := int(l4[5]) * 4
		if from == 6 {
			n = int(l4[4]) * 8
		}
		if n > 0 && n <= len(quote) {
			// A quote under 128 bytes is not RFC 4884's (section 4.1), and a message
			// that can't have extensions loses them.
			if n >= 128 && extended(to, m.typ) {
				extensions = quote[n:]
			}
			quote = quote[:n]
		}
	}

	datagram, total, v := w.quoted(quote)
	if v != translate.Forward {
		return v
	}
	if m.tooBig {
		m.mtu = w.pathMTU(m.mtu, total)
	}
	w.body = w.assemble(m, datagram, extensions)
	return translate.Forward
}

// assemble puts the message together. RFC 1812 4.3.2.3: ICMPv4 errors stay within
// 576 bytes; RFC 4443 2.4 c: ICMPv6 errors within 1280.
func (w *work) assemble(m head, datagram, extensions []byte) []byte {
	to := w.new.version
	limit, unit := 576, 4
	if to == 6 {
		limit, unit = 1280, 8
	}
	room := limit - w.new.size(to) - 8
	words := 0
	if len(extensions) > 0 {
		// RFC 4884 4: at least 128 bytes of quote, in whole words. Extensions for
		// which that leaves no room go.
		most := 0
		for most+unit+len(extensions) <= room {
			most += unit
		}
		if most < 128 {
			extensions = nil
		} else {
			if len(datagram) > 128 {
				datagram = datagram[:min(len(datagram)/unit*unit, most)]
			}
			for len(datagram) < 128 {
				datagram = append(datagram, 0) // "MUST be zero padded"
			}
			words = len(datagram) / unit
		}
	}
	if len(extensions) == 0 && len(datagram) > room {
		datagram = datagram[:room]
	}

	b := []byte{m.typ, m.code, 0, 0, 0, 0, 0, 0}
	switch {
	case to == 4 && m.tooBig:
		binary.BigEndian.PutUint16(b[6:], uint16(m.mtu))
	case to == 4 && m.typ == 12:
		b[4] = byte(m.pointer)
	case to == 6 && (m.typ == 2 || m.typ == 4):
		binary.BigEndian.PutUint32(b[4:], uint32(m.mtu+m.pointer))
	}
	if to == 4 {
		b[5] = byte(words)
	} else if words > 0 {
		b[4] = byte(words)
	}
	b = append(b, datagram...)
	return append(b, extensions...)
}

// plateaus: RFC 1191 7, table 7-1.
var plateaus = []int{65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68}

// pathMTU is the MTU that a translated Packet Too Big says; total is the length
// of the quoted packet. 0 means that a link's MTU is not known: then it fits the
// largest IPv6 packet that has no jumbo payload (RFC 8200 3).
func (w *work) pathMTU(said, total int) int {
	in, out := w.in.MTUIn, w.in.MTUOut
	if in <= 0 {
		in = 40 + 65535
	}
	if out <= 0 {
		out = 40 + 65535
	}
	switch {
	case w.new.version == 4:
		// RFC 7915 5.2: "minimum((MTU value in the Packet Too Big Message)-20,
		// MTU_of_IPv4_nexthop, (MTU_of_IPv6_nexthop)-20)". RFC 791 3.2: no IPv4 link
		// has less than 68; the field has 16 bits.
		return min(max(min(said-20, max(out, 68), in-20), 68), 65535)
	case w.old.version == 4:
		// RFC 7915 4.2: "if the IPv4 router set the MTU field to zero, [...] then the
		// translator MUST use the plateau values specified in [RFC1191] to determine a
		// likely path MTU". The greatest one below the total length.
		if said == 0 {
			said = 68
			for _, p := range plateaus {
				if p < total {
					said = p
					break
				}
			}
		}
		// "maximum(1280, minimum((MTU value in the Packet Too Big Message) + 20,
		// MTU_of_IPv6_nexthop, (MTU_of_IPv4_nexthop) + 20))"
		return max(1280, min(said+20, out, in+20))
	}
	// Both, one after the other.
	return max(1280, min(said, out, in))
}
