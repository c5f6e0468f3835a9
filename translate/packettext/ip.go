package packettext

import "encoding/binary"

// layer is one header, or data.
type layer interface {
	// number is the protocol number by which the header before announces it;
	// negative if it has none.
	number() int
	// open tells that the following layer has to say what it is.
	open() bool
	// encode gives the header followed by rest, which is already encoded; next is
	// the following layer's number.
	encode(e env, next int, rest []byte) []byte
}

// env is what a transport header has to know about the IP header.
type env struct {
	six      bool
	src, dst []byte
}

// encode goes from the inside to the outside, for lengths and checksums.
func encode(list []layer, e env) []byte {
	if len(list) == 0 {
		return nil
	}
	switch h := list[0].(type) {
	case *ip4:
		e = env{false, h.src, h.dst}
	case *ip6:
		e = env{true, h.src, h.dst}
	}
	next := -1
	if len(list) > 1 {
		next = list[1].number()
	}
	return list[0].encode(e, next, encode(list[1:], e))
}

// add sums 16-bit words (RFC 1071).
func add(s uint32, b []byte) uint32 {
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if s += w; s > 0xffff {
			s -= 0xffff
		}
	}
	return s
}

// pseudo sums the pseudo-header: RFC 9293 3.1 for IPv4, RFC 8200 8.1 for IPv6.
func (e env) pseudo(proto uint8, length int) uint32 {
	s := add(add(0, e.src), e.dst)
	s = add(s, []byte{0, proto})
	return add(s, []byte{byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)})
}

// checksum is what a line says about its checksum field.
type checksum struct {
	how   string // "": right; value, wrong, partial
	value uint16
}

func (l *line) checksum() checksum {
	if len(l.words) > 0 && (l.words[0] == "wrong" || l.words[0] == "partial") {
		return checksum{how: l.next("checksum")}
	}
	return checksum{"value", l.u16("checksum (or: wrong, partial)")}
}

// field gives the bytes that belong into the field, where total is the sum of all
// that it covers, itself 0, and pseudo the pseudo-header's part of that.
func (c checksum) field(total, pseudo uint32, udp bool) uint16 {
	right := ^uint16(total)
	if udp && right == 0 {
		right = 0xffff
	}
	switch c.how {
	case "value":
		return c.value
	case "wrong":
		return c.wrong(right)
	case "partial":
		return uint16(pseudo)
	}
	return right
}

// wrong adds one, in one's complement.
func (checksum) wrong(right uint16) uint16 {
	return uint16(add(uint32(right), []byte{0, 1}))
}

type ip6 struct {
	src, dst     []byte
	version      uint8
	class, hop   uint8
	flow         uint32
	length, next int // -1: computed
}

func (l *line) ip6() *ip6 {
	h := &ip6{version: 6, hop: 64, length: -1, next: -1}
	a, b := l.arrow("an address")
	h.src, h.dst = l.address(a, true), l.address(b, true)
	for l.more() {
		switch w := l.next("word"); w {
		case "hop":
			h.hop = l.u8("hop limit")
		case "class":
			h.class = l.u8("traffic class")
		case "flow":
			h.flow = uint32(l.num(1<<20-1, "flow label"))
		case "length":
			h.length = int(l.u16("payload length"))
		case "next":
			h.next = l.protocol()
		case "version":
			h.version = uint8(l.num(15, "version"))
		default:
			l.unknown(w, "hop, class, flow, length, next, version")
		}
	}
	return h
}

func (h *ip6) number() int { return 41 }
func (h *ip6) open() bool  { return h.next < 0 }

// or gives n, or what was computed if n is negative.
func or(n, computed int) int {
	if n < 0 {
		return computed
	}
	return n
}

func (h *ip6) encode(_ env, next int, rest []byte) []byte {
	b := make([]byte, 40, 40+len(rest))
	binary.BigEndian.PutUint32(b, uint32(h.version)<<28|uint32(h.class)<<20|h.flow)
	binary.BigEndian.PutUint16(b[4:], uint16(or(h.length, len(rest))))
	b[6], b[7] = byte(or(h.next, next)), h.hop
	copy(b[8:], h.src)
	copy(b[24:], h.dst)
	return append(b, rest...)
}

type ip4 struct {
	src, dst             []byte
	version              uint8
	tos, ttl             uint8
	id                   uint16
	fragment             uint16 // flags and offset as they stand in the header
	length, proto, words int    // -1: computed
	sum                  checksum
	options              []byte
}

func (l *line) ip4() *ip4 {
	h := &ip4{version: 4, ttl: 64, length: -1, proto: -1, words: -1}
	a, b := l.arrow("an address")
	h.src, h.dst = l.address(a, false), l.address(b, false)
	for l.more() {
		switch w := l.next("word"); w {
		case "ttl":
			h.ttl = l.u8("time to live")
		case "tos":
			h.tos = l.u8("type of service")
		case "id":
			h.id = l.u16("identification")
		case "reserved":
			h.fragment |= 0x8000
		case "df":
			h.fragment |= 0x4000
		case "mf":
			h.fragment |= 0x2000
		case "offset":
			h.fragment |= l.offset()
		case "proto":
			h.proto = l.protocol()
		case "length":
			h.length = int(l.u16("total length"))
		case "words":
			h.words = int(l.num(15, "header length in 32-bit words"))
		case "version":
			h.version = uint8(l.num(15, "version"))
		case "checksum":
			h.sum = l.checksum()
		default:
			l.unknown(w, "ttl, tos, id, df, mf, reserved, offset, proto, length, words, version, checksum")
		}
	}
	return h
}

// offset takes a fragment offset in bytes and gives it in units of 8.
func (l *line) offset() uint16 {
	n := l.num(0x1fff*8, "offset in bytes")
	if n%8 != 0 {
		l.fail("offset %d is no multiple of 8", n)
	}
	return uint16(n / 8)
}

func (h *ip4) number() int { return 4 }
func (h *ip4) open() bool  { return h.proto < 0 }

func (h *ip4) encode(_ env, next int, rest []byte) []byte {
	b := make([]byte, 20, 20+len(h.options)+3+len(rest))
	b = append(b, h.options...)
	for len(b)%4 != 0 { // End of Option List
		b = append(b, 0)
	}
	b[0] = h.version<<4 | byte(or(h.words, len(b)/4))&15
	b[1] = h.tos
	binary.BigEndian.PutUint16(b[2:], uint16(or(h.length, len(b)+len(rest))))
	binary.BigEndian.PutUint16(b[4:], h.id)
	binary.BigEndian.PutUint16(b[6:], h.fragment)
	b[8], b[9] = h.ttl, byte(or(h.proto, next))
	copy(b[12:], h.src)
	copy(b[16:], h.dst)
	binary.BigEndian.PutUint16(b[10:], h.sum.field(add(0, b), 0, false))
	return append(b, rest...)
}

// routeOptions are those that list addresses (RFC 791 3.1).
var routeOptions = map[string]byte{"rr": 7, "lsrr": 131, "ssrr": 137}

func (l *line) option() []byte {
	switch w := l.next("an option"); w {
	case "end":
		return []byte{0}
	case "nop":
		return []byte{1}
	case "router-alert":
		return []byte{148, 4, 0, 0}
	case "hex":
		return l.bytes()
	case "rr", "lsrr", "ssrr":
		b := []byte{routeOptions[w], 0, l.u8("pointer")}
		for l.more() {
			b = append(b, l.address(l.next("address"), false)...)
		}
		if len(b) > 255 {
			l.fail("too many addresses")
			return nil
		}
		b[1] = byte(len(b))
		return b
	default:
		l.unknown(w, "nop, end, router-alert, lsrr, ssrr, rr, hex")
	}
	return nil
}
