package packettext

import (
	"encoding/binary"
	"strings"
)

// of is what "of N" says: count N bytes of data instead of what follows.
type of struct {
	given bool
	n     int
}

func (o of) data(rest []byte) []byte {
	if o.given {
		return pattern(o.n, 0)
	}
	return rest
}

func (l *line) of() of { return of{true, int(l.num(0xffff, "length"))} }

type tcp struct {
	src, dst       uint16
	seq, ack       uint32
	flags          uint8
	window, urgent uint16
	options        []byte
	sum            checksum
	of             of
}

// tcpFlags are the flags' letters, from the lowest bit (RFC 9293 3.1).
const tcpFlags = "FSRPAUEC"

func (l *line) tcp() *tcp {
	h := &tcp{flags: 0x10}
	h.src, h.dst = l.ports()
	for l.more() {
		switch w := l.next("word"); w {
		case "seq":
			h.seq = l.u32("sequence number")
		case "ack":
			h.ack = l.u32("acknowledgment number")
		case "flags":
			h.flags = 0
			for _, c := range l.next("flags") {
				i := strings.IndexRune(tcpFlags, c)
				if i < 0 && c != '-' {
					l.fail("flag %q is none of %s", c, tcpFlags)
				}
				if i >= 0 {
					h.flags |= 1 << i
				}
			}
		case "window":
			h.window = l.u16("window")
		case "urgent":
			h.urgent = l.u16("urgent pointer")
		case "options":
			b := l.next("hexadecimal")
			rest := l.words
			l.words = []string{b}
			h.options = l.bytes()
			if len(h.options)%4 != 0 || len(h.options) > 40 {
				l.fail("options of %d bytes; they are a multiple of 4, up to 40", len(h.options))
			}
			if l.err == nil {
				l.words = rest
			}
		case "checksum":
			h.sum = l.checksum()
		case "of":
			h.of = l.of()
		default:
			l.unknown(w, "seq, ack, flags, window, urgent, options, checksum, of")
		}
	}
	return h
}

func (h *tcp) number() int { return 6 }
func (h *tcp) open() bool  { return false }

func (h *tcp) encode(e env, _ int, rest []byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, h.src)
	binary.BigEndian.PutUint16(b[2:], h.dst)
	binary.BigEndian.PutUint32(b[4:], h.seq)
	binary.BigEndian.PutUint32(b[8:], h.ack)
	b[12], b[13] = byte(5+len(h.options)/4)<<4, h.flags
	binary.BigEndian.PutUint16(b[14:], h.window)
	binary.BigEndian.PutUint16(b[18:], h.urgent)
	b = append(b, h.options...)
	data := h.of.data(rest)
	pseudo := e.pseudo(6, len(b)+len(data))
	binary.BigEndian.PutUint16(b[16:], h.sum.field(add(add(pseudo, b), data), pseudo, false))
	return append(b, rest...)
}

// datagram is UDP, UDP-Lite or DCCP.
type datagram struct {
	proto    uint8
	src, dst uint16
	length   int    // -1: computed; UDP-Lite: checksum coverage
	typ      uint8  // DCCP
	seq      uint32 // DCCP, 24 bits
	sum      checksum
	of       of
}

func (l *line) datagram() *datagram {
	h := &datagram{proto: protocols[l.kind], length: -1}
	known := map[string]string{
		"udp":     "length, checksum, of",
		"udplite": "coverage, checksum, of",
		"dccp":    "type, seq, checksum, of",
	}[l.kind]
	h.src, h.dst = l.ports()
	for l.more() {
		switch w := l.next("word"); {
		case w == "checksum":
			h.sum = l.checksum()
		case w == "of":
			h.of = l.of()
		case w == "length" && l.kind == "udp", w == "coverage" && l.kind == "udplite":
			h.length = int(l.u16("length"))
		case w == "type" && l.kind == "dccp":
			h.typ = uint8(l.num(15, "packet type"))
		case w == "seq" && l.kind == "dccp":
			h.seq = uint32(l.num(1<<24-1, "sequence number"))
		default:
			l.unknown(w, known)
		}
	}
	return h
}

func (h *datagram) number() int { return int(h.proto) }
func (h *datagram) open() bool  { return false }

func (h *datagram) encode(e env, _ int, rest []byte) []byte {
	data := h.of.data(rest)
	b := make([]byte, 8, 12+len(rest))
	if h.proto == 33 {
		// The short form, 24 bits of sequence number; the checksum covers
		// everything (RFC 4340 5.1, 9.2).
		b = b[:12]
		b[4], b[8] = 3, h.typ<<1
		b[9], b[10], b[11] = byte(h.seq>>16), byte(h.seq>>8), byte(h.seq)
	}
	binary.BigEndian.PutUint16(b, h.src)
	binary.BigEndian.PutUint16(b[2:], h.dst)
	whole := len(b) + len(data)
	covered := append(b[:len(b):len(b)], data...)
	length := whole // in the pseudo-header
	switch h.proto {
	case 17:
		n := or(h.length, whole)
		binary.BigEndian.PutUint16(b[4:], uint16(n))
		binary.BigEndian.PutUint16(covered[4:], uint16(n))
		// The datagram ends where its own length says (RFC 768).
		length = n
		covered = covered[:min(max(n, 8), whole)]
	case 136:
		n := or(h.length, whole)
		binary.BigEndian.PutUint16(b[4:], uint16(n))
		binary.BigEndian.PutUint16(covered[4:], uint16(n))
		if n >= 8 && n < whole {
			covered = covered[:n] // RFC 3828 3.1; 0 is everything
		}
	}
	pseudo := e.pseudo(h.proto, length)
	sum := h.sum.field(add(pseudo, covered), pseudo, h.proto != 33)
	binary.BigEndian.PutUint16(b[6:], sum)
	return append(b, rest...)
}

// icmp is an ICMPv4 or ICMPv6 message.
type icmp struct {
	six       bool
	typ, code uint8
	word      uint32 // the header's second
	quote     []byte // what stands indented below
	sum       checksum
	of        of
}

// pair takes A/B.
func (l *line) pair(what string) (a, b uint8) {
	w := l.next(what)
	if l.err != nil {
		return 0, 0
	}
	x, y, _ := strings.Cut(w, "/")
	rest := l.words
	l.words = []string{x, y}
	a, b = l.u8(what), l.u8(what)
	if l.err == nil {
		l.words = rest
	}
	return a, b
}

func (l *line) icmp() *icmp {
	h := &icmp{six: l.kind == "icmp6"}
	if len(l.words) > 0 && strings.HasPrefix(l.words[0], "echo") {
		switch w := l.next("type"); {
		case w == "echo":
			h.typ = map[bool]uint8{false: 8, true: 128}[h.six]
		case w == "echo-reply":
			h.typ = map[bool]uint8{false: 0, true: 129}[h.six]
		default:
			l.unknown(w, "echo, echo-reply or TYPE/CODE")
		}
	} else {
		h.typ, h.code = l.pair("TYPE/CODE")
	}
	for l.more() {
		switch w := l.next("word"); w {
		case "id":
			h.word |= uint32(l.u16("identifier")) << 16
		case "seq":
			h.word |= uint32(l.u16("sequence number"))
		case "mtu":
			if h.six {
				h.word |= l.u32("MTU")
			} else {
				h.word |= uint32(l.u16("MTU"))
			}
		case "pointer":
			if h.six {
				h.word |= l.u32("pointer")
			} else {
				h.word |= uint32(l.u8("pointer")) << 24
			}
		case "length": // RFC 4884 4.1 to 4.5
			if h.six {
				h.word |= uint32(l.u8("length")) << 24
			} else {
				h.word |= uint32(l.u8("length")) << 16
			}
		case "word":
			h.word |= l.u32("second word")
		case "checksum":
			h.sum = l.checksum()
		case "of":
			h.of = l.of()
		default:
			l.unknown(w, "id, seq, mtu, pointer, length, word, checksum, of")
		}
	}
	return h
}

func (h *icmp) number() int {
	if h.six {
		return 58
	}
	return 1
}

func (h *icmp) open() bool { return false }

func (h *icmp) encode(e env, _ int, rest []byte) []byte {
	b := make([]byte, 8)
	b[0], b[1] = h.typ, h.code
	binary.BigEndian.PutUint32(b[4:], h.word)
	b = append(b, h.quote...)
	data := h.of.data(rest)
	pseudo := uint32(0)
	if h.six {
		pseudo = e.pseudo(58, len(b)+len(data))
	}
	binary.BigEndian.PutUint16(b[2:], h.sum.field(add(add(pseudo, b), data), pseudo, false))
	return append(b, rest...)
}

// data is any bytes.
type data []byte

func (l *line) data() data {
	switch l.kind {
	case "hex":
		return l.bytes()
	case "zero":
		return make([]byte, l.size("length"))
	}
	n, from := l.size("length"), 0
	if l.more() {
		if w := l.next("from"); w != "from" {
			l.unknown(w, "from")
		}
		from = l.size("start")
	}
	return pattern(n, from)
}

// pattern is a 16-bit counter, high byte first, from the byte from on.
func pattern(n, from int) []byte {
	b := make([]byte, n)
	for i := range b {
		at := from + i
		b[i] = byte(at >> 1)
		if at%2 == 0 {
			b[i] = byte(at >> 9)
		}
	}
	return b
}

func (d data) number() int { return -1 }
func (d data) open() bool  { return false }

func (d data) encode(_ env, _ int, rest []byte) []byte {
	return append(append([]byte{}, d...), rest...)
}
