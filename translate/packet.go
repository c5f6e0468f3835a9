package translate

import "encoding/binary"

// Family is an IP version.
type Family uint8

const (
	V4 Family = 4
	V6 Family = 6
)

// IPv4 header, RFC 791 3.1:
//
//	 0               1               2               3
//	+-------+-------+---------------+-------------------------------+
//	|   4   |  IHL  | type of serv. |         total length        2 |
//	+-------+-------+---------------+-------------------------------+
//	|         identification      4 | 0 DF MF | fragment offset   6 |
//	+---------------+---------------+-------------------------------+
//	| time to live 8|  protocol   9 |         header checksum    10 |
//	+---------------+---------------+-------------------------------+
//	|                       source address                       12 |
//	|                     destination address                    16 |
//	|                       options (IHL > 5)                    20 |
//
// IPv6 header, RFC 8200 3:
//
//	+-------+---------------+---------------------------------------+
//	|   6   | traffic class |               flow label              |
//	+-------+---------------+-------+---------------+---------------+
//	|        payload length       4 | next header 6 | hop limit   7 |
//	+-------------------------------+---------------+---------------+
//	|                       source address                        8 |
//	|                     destination address                    24 |
//
// Fragment Header, RFC 8200 4.5:
//
//	+---------------+---------------+-------------------------+---+-+
//	|  next header  |       0       |   fragment offset     2 | 0 |M|
//	+---------------+---------------+-------------------------+---+-+
//	|                         identification                      4 |
const (
	header4Len  = 20
	header6Len  = 40
	fragmentLen = 8

	flagDF = 0x4000
	flagMF = 0x2000

	minMTU6    = 1280 // RFC 8200 5
	minMTU4    = 68   // RFC 791 3.2
	maxPacket4 = 65535
	// Up to here an IPv4 packet may have been made from one of 1280 bytes, so
	// that DF stays clear (RFC 7915 5.1).
	clearDF = minMTU6 - header6Len + header4Len

	maxExtensions = 16
)

// Protocol numbers.
const (
	protoHopByHop     = 0
	protoICMP4        = 1
	protoIGMP         = 2
	protoTCP          = 6
	protoUDP          = 17
	protoDCCP         = 33
	protoRouting      = 43
	protoFragment     = 44
	protoESP          = 50
	protoAH           = 51
	protoICMP6        = 58
	protoDestinations = 60
	protoUDPLite      = 136
)

// checksumAt says where a transport header has a checksum that covers the
// addresses, and how long the header is at least. Protocols that are not known
// pass unchanged (RFC 7915 4.5).
func checksumAt(proto uint8) (offset, header int) {
	switch proto {
	case protoTCP:
		return 16, 20
	case protoUDP, protoUDPLite:
		return 6, 8
	case protoDCCP:
		return 6, 12
	}
	return 0, 0
}

// header is what translation takes from an IP header, and puts into one.
type header struct {
	src, dst addr
	payload  int // bytes behind the header and behind the Fragment Header
	tos, ttl uint8
	proto    uint8
	flags    headerFlags
	offset   uint16 // fragment offset, units of 8 bytes
	id       uint32
}

type headerFlags uint8

const (
	isFragment headerFlags = 1 << iota // has, or gets, a Fragment Header
	more                               // more fragments follow
	dontFrag                           // IPv4 DF
	generateID                         // IPv4 identification from State
)

// parsed is a header with its place in the packet.
type parsed struct {
	header
	fam   Family
	l4    int // where the payload starts
	total int // IP packet length by its header
	bad   int // the byte that a parameter problem points at
}

// parse4 reads an IPv4 header. quoted is set for the packet inside an ICMP error,
// which may be cut short, has been on the wire for longer, and is not judged.
func parse4(p []byte, quoted bool) (h parsed, v Verdict) {
	if len(p) < header4Len {
		return h, ShortHeader
	}
	if p[0]>>4 != 4 {
		return h, BadVersion
	}
	h.fam = V4
	h.l4 = int(p[0]&15) * 4
	h.total = int(binary.BigEndian.Uint16(p[2:]))
	switch {
	case h.total > len(p) && !quoted, h.total < header4Len:
		return h, BadLength
	case h.l4 < header4Len || h.l4 > h.total:
		return h, BadHeaderLength4
	case h.l4 > len(p):
		return h, ShortHeader
	case !quoted && sum(p[:h.l4]) != 0xffff:
		return h, BadChecksum4
	}
	frag := binary.BigEndian.Uint16(p[6:])
	h.tos, h.ttl, h.proto = p[1], p[8], p[9]
	h.src = from4(binary.BigEndian.Uint32(p[12:]))
	h.dst = from4(binary.BigEndian.Uint32(p[16:]))
	h.payload = h.total - h.l4
	h.id = uint32(binary.BigEndian.Uint16(p[4:]))
	h.offset = frag & 0x1fff
	if frag&flagDF != 0 {
		h.flags |= dontFrag
	}
	if frag&flagMF != 0 {
		h.flags |= more
	}
	if frag&(flagMF|0x1fff) != 0 {
		h.flags |= isFragment
	}
	if quoted {
		return h, Forward
	}
	if v, h.bad = options4(p[:h.l4]); v != Forward {
		return h, v
	}
	return h, h.checkFragment()
}

// options4 looks for what may not be ignored among the options (RFC 7915 4.1).
func options4(p []byte) (v Verdict, at int) {
	const (
		end         = 0
		nop         = 1
		looseRoute  = 131
		strictRoute = 137
	)
	for i := header4Len; i < len(p); {
		switch p[i] {
		case end:
			return Forward, 0
		case nop:
			i++
			continue
		}
		if i+1 >= len(p) || p[i+1] < 2 || i+int(p[i+1]) > len(p) {
			return BadOption4, i
		}
		// The pointer is 1-based within the option; past its end, all hops are done.
		if p[i] == looseRoute || p[i] == strictRoute {
			if p[i+1] < 3 {
				return BadOption4, i
			}
			if p[i+2] <= p[i+1] {
				return SourceRoute4, i
			}
		}
		i += int(p[i+1])
	}
	return Forward, 0
}

// parse6 reads an IPv6 header and what stands before the transport header.
func parse6(p []byte, quoted bool) (h parsed, v Verdict) {
	if len(p) < header6Len {
		return h, ShortHeader
	}
	if p[0]>>4 != 6 {
		return h, BadVersion
	}
	h.fam = V6
	h.payload = int(binary.BigEndian.Uint16(p[4:]))
	h.total = header6Len + h.payload
	if h.payload == 0 && p[6] == protoHopByHop {
		return h, Jumbogram
	}
	if h.total > len(p) && !quoted {
		return h, BadLength
	}
	h.tos, h.ttl = p[0]<<4|p[1]>>4, p[7]
	h.src = load6((*[16]byte)(p[8:]))
	h.dst = load6((*[16]byte)(p[24:]))
	if v := h.extensions(p[:min(h.total, len(p))], quoted); v != Forward {
		return h, v
	}
	h.payload = h.total - h.l4
	if quoted {
		return h, Forward
	}
	return h, h.checkFragment()
}

// extensions skips Hop-by-Hop, Routing and Destination Options and takes the
// Fragment Header (RFC 7915 5.1, 5.1.1). p ends with the packet.
func (h *parsed) extensions(p []byte, quoted bool) Verdict {
	h.proto, h.l4 = p[6], header6Len
	for range maxExtensions {
		switch h.proto {
		case protoHopByHop, protoDestinations, protoRouting, protoFragment:
		case protoAH:
			if h.flags&isFragment != 0 {
				return ExtensionAfterFragment6
			}
			return Forward
		default:
			return Forward
		}
		if h.flags&isFragment != 0 {
			return ExtensionAfterFragment6
		}
		if h.l4+8 > len(p) {
			return ExtensionTruncated6
		}
		e := p[h.l4:]
		n := 8
		if h.proto == protoFragment {
			frag := binary.BigEndian.Uint16(e[2:])
			h.flags |= isFragment
			h.offset = frag >> 3
			if frag&1 != 0 {
				h.flags |= more
			}
			h.id = binary.BigEndian.Uint32(e[4:])
		} else {
			n += int(e[1]) * 8
			if h.proto == protoRouting && e[3] != 0 && !quoted {
				h.bad = h.l4 + 3
				return RoutingHeader6
			}
		}
		if h.l4+n > len(p) {
			return ExtensionTruncated6
		}
		h.proto = e[0]
		h.l4 += n
	}
	return ExtensionChain6
}

// checkFragment refuses fragments that no receiver could put together.
func (h *parsed) checkFragment() Verdict {
	if h.flags&isFragment == 0 {
		return Forward
	}
	if h.flags&more != 0 && h.payload%8 != 0 {
		return FragmentLength
	}
	// The whole datagram must fit IPv4, its header included.
	if int(h.offset)*8+h.payload > maxPacket4-header4Len {
		return FragmentOverflow
	}
	return Forward
}

// len gives the header's length in a family.
func (h *header) len(f Family) int {
	switch {
	case f == V4:
		return header4Len
	case h.flags&isFragment != 0:
		return header6Len + fragmentLen
	}
	return header6Len
}

// put4 writes h as an IPv4 header.
func (h *header) put4(b *[header4Len]byte) {
	frag := uint64(h.offset)
	if h.flags&(dontFrag|more) != 0 {
		if h.flags&dontFrag != 0 {
			frag |= flagDF
		}
		if h.flags&more != 0 {
			frag |= flagMF
		}
	}
	x := 0x45<<56 | uint64(h.tos)<<48 | uint64(header4Len+h.payload)<<32 | uint64(h.id&0xffff)<<16 | frag
	y := uint64(h.ttl)<<56 | uint64(h.proto)<<48 | h.src.hi>>32
	y |= uint64(^fold(sum64(x)+sum64(y)+h.dst.hi>>32)) << 32
	binary.BigEndian.PutUint64(b[:], x)
	binary.BigEndian.PutUint64(b[8:], y)
	binary.BigEndian.PutUint32(b[16:], h.dst.v4())
}

// put6 writes h as an IPv6 header, and with isFragment a Fragment Header: b has
// h.len(V6) bytes. The flow label is zero (RFC 7915 4.1).
func (h *header) put6(b []byte) {
	proto, payload := h.proto, h.payload
	if h.flags&isFragment != 0 {
		f := (*[fragmentLen]byte)(b[header6Len:])
		x := uint64(h.proto)<<56 | uint64(h.offset)<<35 | uint64(h.id)
		if h.flags&more != 0 {
			x |= 1 << 32
		}
		binary.BigEndian.PutUint64(f[:], x)
		proto, payload = protoFragment, payload+fragmentLen
	}
	put6((*[header6Len]byte)(b), h.tos, payload, proto, h.ttl, h.src, h.dst)
}

func put6(b *[header6Len]byte, tos uint8, payload int, proto, ttl uint8, src, dst addr) {
	binary.BigEndian.PutUint64(b[:], 6<<60|uint64(tos)<<52|uint64(payload)<<16|uint64(proto)<<8|uint64(ttl))
	binary.BigEndian.PutUint64(b[8:], src.hi)
	binary.BigEndian.PutUint64(b[16:], src.lo)
	binary.BigEndian.PutUint64(b[24:], dst.hi)
	binary.BigEndian.PutUint64(b[32:], dst.lo)
}

// put writes h in front of the byte at, in family f, and gives where it starts.
func (h *header) put(b []byte, at int, f Family) int {
	start := at - h.len(f)
	if f == V4 {
		h.put4((*[header4Len]byte)(b[start:]))
	} else {
		h.put6(b[start:at])
	}
	return start
}
