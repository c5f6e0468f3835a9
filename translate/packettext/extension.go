package packettext

import "encoding/binary"

// ext is an IPv6 extension header other than the Fragment Header.
type ext struct {
	kind        uint8
	body        []byte // behind Next Header and length
	next, units int    // -1: computed
}

func (l *line) ext() *ext {
	h := &ext{next: -1, units: -1}
	size := 8
	words := "hopbyhop, destination, routing or ah"
	switch w := l.next(words); w {
	case "hopbyhop", "destination":
		h.kind = protocols[w]
		h.options(l)
	case "routing":
		h.kind = protocols[w]
		h.body = make([]byte, 6)
		h.routing(l)
	case "ah":
		h.kind = protocols[w]
		size = h.ah(l)
	default:
		l.unknown(w, words)
	}
	if l.err == nil && (2+len(h.body))%size != 0 && h.units < 0 {
		l.fail("is %d bytes, no multiple of %d; fill it up or give units", 2+len(h.body), size)
	}
	return h
}

// common takes the words that all extension headers have.
func (h *ext) common(l *line, w, known string) {
	switch w {
	case "next":
		h.next = l.protocol()
	case "units":
		h.units = int(l.u8("length in units"))
	default:
		l.unknown(w, known+", next, units")
	}
}

// options fills Hop-by-Hop and Destination Options, with PadN if nothing is said.
func (h *ext) options(l *line) {
	size := 8
	for l.more() {
		switch w := l.next("word"); {
		case w == "hex":
			h.body = l.bytes()
		case w[0] >= '0' && w[0] <= '9':
			l.words = append([]string{w}, l.words...)
			if size = l.size("size in bytes"); size < 8 || size > 2048 || size%8 != 0 {
				l.fail("size %d is no multiple of 8 from 8 to 2048", size)
			}
		default:
			h.common(l, w, "a size, hex")
		}
	}
	if h.body == nil {
		for left := size - 2; left > 0 && l.err == nil; {
			if left == 1 {
				h.body = append(h.body, 0) // Pad1
				break
			}
			n := min(left, 257)
			h.body = append(append(h.body, 1, byte(n-2)), make([]byte, n-2)...)
			left -= n
		}
	}
}

func (h *ext) routing(l *line) {
	for l.more() {
		switch w := l.next("word"); {
		case w == "type":
			h.body[0] = l.u8("routing type")
		case w == "left":
			h.body[1] = l.u8("segments left")
		case w == "next" || w == "units":
			h.common(l, w, "")
		default:
			h.body = append(h.body, l.address(w, true)...)
		}
	}
}

// ah is RFC 4302 2. Its length counts 32-bit words; in IPv6 the whole is a
// multiple of 8 bytes.
func (h *ext) ah(l *line) int {
	spi, seq, icv := uint32(0), uint32(0), 12
	for l.more() {
		switch w := l.next("word"); w {
		case "spi":
			spi = l.u32("SPI")
		case "seq":
			seq = l.u32("sequence number")
		case "icv":
			icv = int(l.num(1000, "ICV length"))
		default:
			h.common(l, w, "spi, seq, icv")
		}
	}
	h.body = make([]byte, 10+icv)
	binary.BigEndian.PutUint32(h.body[2:], spi)
	binary.BigEndian.PutUint32(h.body[6:], seq)
	return 4
}

func (h *ext) number() int { return int(h.kind) }
func (h *ext) open() bool  { return h.next < 0 }

func (h *ext) encode(_ env, next int, rest []byte) []byte {
	units := (2+len(h.body))/8 - 1
	if h.kind == 51 {
		units = (2+len(h.body))/4 - 2
	}
	b := append([]byte{byte(or(h.next, next)), byte(or(h.units, units))}, h.body...)
	return append(b, rest...)
}

type fragment struct {
	id   uint32
	word uint16
	next int
}

func (l *line) fragment() *fragment {
	h := &fragment{next: -1}
	for l.more() {
		switch w := l.next("word"); w {
		case "id":
			h.id = l.u32("identification")
		case "offset":
			h.word |= l.offset() << 3
		case "more":
			h.word |= 1
		case "next":
			h.next = l.protocol()
		default:
			l.unknown(w, "id, offset, more, next")
		}
	}
	return h
}

func (h *fragment) number() int { return 44 }
func (h *fragment) open() bool  { return h.next < 0 }

func (h *fragment) encode(_ env, next int, rest []byte) []byte {
	b := make([]byte, 8)
	b[0] = byte(or(h.next, next))
	binary.BigEndian.PutUint16(b[2:], h.word)
	binary.BigEndian.PutUint32(b[4:], h.id)
	return append(b, rest...)
}

// extension is an RFC 4884 extension structure (section 7).
type extension struct {
	sum     checksum
	objects []byte
}

func (l *line) extension() *extension {
	x := &extension{}
	for l.more() {
		if w := l.next("word"); w == "checksum" {
			x.sum = l.checksum()
		} else {
			l.unknown(w, "checksum")
		}
	}
	return x
}

// object adds CLASS/TYPE and its bytes (RFC 4884 7.1).
func (x *extension) object(l *line) {
	class, typ := l.pair("class/type")
	body := l.bytes()
	n := len(body) + 4
	x.objects = append(append(x.objects, byte(n>>8), byte(n), class, typ), body...)
}

func (x *extension) appendTo(b []byte) []byte {
	if x == nil {
		return b
	}
	head := []byte{2 << 4, 0, 0, 0}
	sum := x.sum.field(add(add(0, head), x.objects), 0, false)
	binary.BigEndian.PutUint16(head[2:], sum)
	return append(append(b, head...), x.objects...)
}
