package twin

import (
	"encoding/binary"
	"net/netip"

	"aarch64.com/isthmus/translate"
)

// parseIPv4 takes an IPv4 header apart (RFC 791 3.1). quoted is for the packet
// in an ICMP error: it may be cut short, its checksum and options are not judged.
func parseIPv4(p []byte, quoted bool) (h header, pointer int, v translate.Verdict) {
	if len(p) < 20 {
		return h, 0, translate.ShortHeader
	}
	if p[0]>>4 != 4 {
		return h, 0, translate.BadVersion
	}
	h.version = 4
	h.length = int(p[0]&0x0f) * 4
	h.tos = p[1]
	h.total = int(binary.BigEndian.Uint16(p[2:4]))
	h.id = uint32(binary.BigEndian.Uint16(p[4:6]))
	h.dontFragment = p[6]&0x40 != 0
	h.more = p[6]&0x20 != 0
	h.offset = (int(p[6]&0x1f)<<8 | int(p[7])) * 8
	h.fragment = h.more || h.offset > 0
	h.ttl = p[8]
	h.proto = p[9]
	h.src = netip.AddrFrom4([4]byte(p[12:16]))
	h.dst = netip.AddrFrom4([4]byte(p[16:20]))

	// RFC 1812 5.2.2: "The packet length reported by the Link Layer must be
	// large enough to hold the minimum length legal IP datagram"; "The IP
	// header length field must be large enough"; "The IP total length field must
	// be large enough to hold the IP datagram header"; the checksum must be
	// correct.
	if h.total < 20 || !quoted && h.total > len(p) {
		return h, 0, translate.BadLength
	}
	if h.length < 20 || h.length > h.total {
		return h, 0, translate.BadHeaderLength4
	}
	if h.length > len(p) {
		return h, 0, translate.ShortHeader
	}
	if quoted {
		return h, 0, translate.Forward
	}
	if ones(p[:h.length]) != 0xffff {
		return h, 0, translate.BadChecksum4
	}
	if pointer, v = options(p[:h.length]); v != translate.Forward {
		return h, pointer, v
	}
	return h, 0, wholeFragment(h)
}

// options reads the options for source routes.
//
// RFC 7915 4.1: "If any of the IPv4 options are present in the IPv4 packet, they
// MUST be ignored and the packet translated normally [...]. However, if an
// unexpired source route option is present, then the packet MUST instead be
// discarded, and an ICMPv4 'Destination Unreachable, Source Route Failed' [...]
// error message SHOULD be returned to the sender."
func options(p []byte) (pointer int, v translate.Verdict) {
	at := 20
	for at < len(p) {
		kind := p[at]
		if kind == 0 { // RFC 791 3.1: end of option list
			break
		}
		if kind == 1 { // no operation
			at++
			continue
		}
		rest := p[at:]
		if len(rest) < 2 || rest[1] < 2 || int(rest[1]) > len(rest) {
			return at, translate.BadOption4
		}
		option := rest[:rest[1]]
		if kind == 131 || kind == 137 { // loose and strict source and record route
			if len(option) < 3 {
				return at, translate.BadOption4
			}
			// RFC 791 3.1: "If the pointer is greater than the length, the source
			// route is empty". The pointer is relative to the option, from 1.
			if int(option[2]) <= len(option) {
				return at, translate.SourceRoute4
			}
		}
		at += len(option)
	}
	return 0, translate.Forward
}

// parseIPv6 takes an IPv6 header and its extension headers apart (RFC 8200 3, 4).
func parseIPv6(p []byte, quoted bool) (h header, pointer int, v translate.Verdict) {
	if len(p) < 40 {
		return h, 0, translate.ShortHeader
	}
	if p[0]>>4 != 6 {
		return h, 0, translate.BadVersion
	}
	h.version = 6
	h.tos = p[0]&0x0f<<4 | p[1]>>4
	payload := int(binary.BigEndian.Uint16(p[4:6]))
	h.total = 40 + payload
	h.ttl = p[7]
	h.src = netip.AddrFrom16([16]byte(p[8:24]))
	h.dst = netip.AddrFrom16([16]byte(p[24:40]))
	// RFC 2675 2: a jumbogram has payload length 0 and a Hop-by-Hop header.
	if payload == 0 && p[6] == 0 {
		return h, 0, translate.Jumbogram
	}
	if h.total > len(p) && !quoted {
		return h, 0, translate.BadLength
	}
	if len(p) > h.total {
		p = p[:h.total]
	}

	next, at := p[6], 40
	for n := 0; ; n++ {
		known := next == 0 || next == 43 || next == 44 || next == 60
		// RFC 7915 5.1.1: "If [...] the Next Header field of the Fragment Header
		// is an extension header (except ESP, but including the Authentication
		// Header (AH)), then the packet SHOULD be dropped and logged." One step
		// further, a list of headers without an end is refused (RFC 8504 5.3).
		switch {
		case n == 16:
			return h, 0, translate.ExtensionChain6
		case h.fragment && (known || next == 51):
			return h, 0, translate.ExtensionAfterFragment6
		case !known:
			h.proto, h.length = next, at
			if quoted {
				return h, 0, translate.Forward
			}
			return h, 0, wholeFragment(h)
		}
		e := p[at:]
		if len(e) < 8 {
			return h, 0, translate.ExtensionTruncated6
		}
		length := 8 + 8*int(e[1])
		switch next {
		case 44:
			// RFC 8200 4.5: it has no length field.
			length = 8
			h.fragment = true
			h.offset = int(binary.BigEndian.Uint16(e[2:4])) / 8 * 8
			h.more = e[3]&1 != 0
			h.id = binary.BigEndian.Uint32(e[4:8])
		case 43:
			// RFC 7915 5.1: "If a Routing header with a non-zero Segments Left field
			// is present, then the packet MUST NOT be translated, and an ICMPv6
			// 'parameter problem/erroneous header field encountered' (Type 4, Code
			// 0) error message, with the Pointer field indicating the first byte of
			// the Segments Left field, SHOULD be returned to the sender."
			if e[3] != 0 && !quoted {
				return h, at + 3, translate.RoutingHeader6
			}
		}
		if len(e) < length {
			return h, 0, translate.ExtensionTruncated6
		}
		next = e[0]
		at += length
	}
}

// wholeFragment refuses fragments that can't be part of a datagram.
//
// RFC 791 3.2: all fragments but the last are a multiple of 8 bytes long;
// RFC 8200 4.5 says the same, and that a fragment may not end behind byte 65535.
// As IPv4, with 20 bytes of header, that is 65515 bytes of payload.
func wholeFragment(h header) translate.Verdict {
	payload := h.total - h.length
	if h.fragment && h.more && payload%8 != 0 {
		return translate.FragmentLength
	}
	if h.fragment && h.offset+payload > 65535-20 {
		return translate.FragmentOverflow
	}
	return translate.Forward
}

// bytes writes h as a header of family version for a payload of n bytes.
func (h header) bytes(version, n int) []byte {
	var b []byte
	if version == 4 {
		b = append(b, 0x45, h.tos)
		b = binary.BigEndian.AppendUint16(b, uint16(20+n))
		b = binary.BigEndian.AppendUint16(b, uint16(h.id))
		word := uint16(h.offset / 8)
		if h.dontFragment {
			word |= 0x4000
		}
		if h.more {
			word |= 0x2000
		}
		b = binary.BigEndian.AppendUint16(b, word)
		b = append(b, h.ttl, h.proto, 0, 0)
		b = append(b, h.src.AsSlice()...)
		b = append(b, h.dst.AsSlice()...)
		binary.BigEndian.PutUint16(b[10:], ^ones(b))
		return b
	}
	// RFC 7915 4.1: "Flow Label: 0 (all zero bits)".
	b = append(b, 0x60|h.tos>>4, h.tos<<4, 0, 0)
	if !h.fragment {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
		b = append(b, h.proto, h.ttl)
		b = append(b, h.src.AsSlice()...)
		return append(b, h.dst.AsSlice()...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(8+n))
	b = append(b, 44, h.ttl)
	b = append(b, h.src.AsSlice()...)
	b = append(b, h.dst.AsSlice()...)
	b = append(b, h.proto, 0)
	word := uint16(h.offset)
	if h.more {
		word |= 1
	}
	b = binary.BigEndian.AppendUint16(b, word)
	return binary.BigEndian.AppendUint32(b, h.id)
}

// size gives how long the header of family version is.
func (h header) size(version int) int {
	switch {
	case version == 4:
		return 20
	case h.fragment:
		return 48
	}
	return 40
}
