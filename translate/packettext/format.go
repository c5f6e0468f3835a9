package packettext

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// Format describes the packet p in the language that Parse reads: Parse of it
// gives p again, for any p. What has no readable form is hexadecimal.
func Format(p []byte) string {
	// A header that Parse would not write the same way (reserved bits, lengths
	// that contradict each other) is given as bytes, with all that follows.
	for depth := 32; depth > 0; depth-- {
		f := &formatter{depth: depth}
		f.packet(p, "")
		if got, err := Parse(f.text.String()); err == nil && bytes.Equal(got, p) {
			return f.text.String()
		}
		depth = min(depth, f.used)
	}
	f := &formatter{}
	f.hex("", p)
	return f.text.String()
}

type formatter struct {
	text  strings.Builder
	depth int // headers that may still be written
	used  int
}

func (f *formatter) line(indent, format string, args ...any) {
	f.text.WriteString(indent)
	fmt.Fprintf(&f.text, format, args...)
	f.text.WriteByte('\n')
}

// header tells whether one more header may be written.
func (f *formatter) header() bool {
	if f.depth == 0 {
		return false
	}
	f.depth--
	f.used++
	return true
}

// hex writes bytes, 32 to a line.
func (f *formatter) hex(indent string, b []byte) {
	for first := true; first || len(b) > 0; first = false {
		n := min(len(b), 32)
		f.line(indent, "%s", strings.TrimRight(fmt.Sprintf("hex % x", b[:n]), " "))
		b = b[n:]
	}
}

// bytes writes data in the shortest form.
func (f *formatter) bytes(indent string, b []byte) {
	if len(b) == 0 {
		return
	}
	from := 0
	if len(b) >= 4 {
		from = int(binary.BigEndian.Uint16(b)) * 2
	}
	switch {
	case bytes.Equal(b, pattern(len(b), 0)):
		f.line(indent, "data %d", len(b))
	case len(b) >= 8 && bytes.Equal(b, pattern(len(b), from)):
		f.line(indent, "data %d from %d", len(b), from)
	case len(b) >= 8 && len(b) <= 1<<17 && len(bytes.Trim(b, "\x00")) == 0:
		f.line(indent, "zero %d", len(b))
	default:
		f.hex(indent, b)
	}
}

// packet writes an IP packet, with padding behind it.
func (f *formatter) packet(p []byte, indent string) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4 && int(p[0]&15)*4 >= 20 && int(p[0]&15)*4 <= len(p) && f.header():
		f.ip4(p, indent)
	case len(p) >= 40 && p[0]>>4 == 6 && f.header():
		f.ip6(p, indent)
	default:
		f.hex(indent, p)
	}
}

func (f *formatter) padding(indent string, b []byte) {
	switch {
	case len(b) == 0:
	case len(bytes.Trim(b, "\x00")) == 0:
		f.line(indent, "padding %d", len(b))
	default:
		f.line(indent, "padding hex % x", b)
	}
}

// name is a protocol number as it is written.
func name(proto uint8) string {
	for _, n := range []string{"none", "tcp", "udp", "esp", "ah", "icmp4", "icmp6", "sctp", "dccp", "udplite"} {
		if protocols[n] == proto {
			return n
		}
	}
	return fmt.Sprint(proto)
}

// sum writes a checksum that is not the right one.
func sum(have, right uint16) string {
	switch {
	case have == right:
		return ""
	case have == (checksum{}).wrong(right):
		return " checksum wrong"
	}
	return fmt.Sprintf(" checksum 0x%04x", have)
}

// number writes " word n" unless n is usual.
func number(word string, n, usual int) string {
	if n == usual {
		return ""
	}
	return fmt.Sprintf(" %s %d", word, n)
}

func (f *formatter) ip4(p []byte, indent string) {
	src, dst := netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
	head, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	s := fmt.Sprintf("ip4 %v > %v ttl %d", src, dst, p[8]) + number("tos", int(p[1]), 0)
	if id := binary.BigEndian.Uint16(p[4:]); id != 0 {
		s += fmt.Sprintf(" id 0x%04x", id)
	}
	frag := binary.BigEndian.Uint16(p[6:])
	for i, w := range []string{" reserved", " df", " mf"} {
		if frag&(0x8000>>i) != 0 {
			s += w
		}
	}
	offset := int(frag&0x1fff) * 8
	s += number("offset", offset, 0)
	rest, behind := p[head:], []byte(nil)
	if total >= head && total <= len(p) {
		rest, behind = p[head:total], p[total:]
	} else {
		s += fmt.Sprintf(" length %d", total)
	}
	b := bytes.Clone(p[:head])
	b[10], b[11] = 0, 0
	s += sum(binary.BigEndian.Uint16(p[10:]), ^uint16(add(0, b)))

	f.follow(indent, s, "proto", p[9], offset, rest, env{false, p[12:16], p[16:20]}, p[20:head])
	f.padding(indent, behind)
}

// options writes IPv4 options.
func (f *formatter) options(indent string, b []byte) {
	for len(b) > 0 {
		n := 1
		switch {
		case len(bytes.Trim(b, "\x00")) == 0 && len(b) < 4:
			return // what fills the header up
		case b[0] == 0:
			f.line(indent, "option end")
		case b[0] == 1:
			f.line(indent, "option nop")
		case bytes.HasPrefix(b, []byte{148, 4, 0, 0}):
			f.line(indent, "option router-alert")
			n = 4
		case len(b) >= 3 && (b[0] == 7 || b[0] == 131 || b[0] == 137) && b[1] >= 3 && int(b[1]) <= len(b) && b[1]%4 == 3:
			n = int(b[1])
			s := "option lsrr"
			for w, k := range routeOptions {
				if k == b[0] {
					s = "option " + w
				}
			}
			s += fmt.Sprintf(" %d", b[2])
			for a := b[3:n]; len(a) > 0; a = a[4:] {
				s += " " + netip.AddrFrom4([4]byte(a)).String()
			}
			f.line(indent, "%s", s)
		default:
			n = len(b)
			f.line(indent, "option hex % x", b)
		}
		b = b[n:]
	}
}

func (f *formatter) ip6(p []byte, indent string) {
	src, dst := netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
	w := binary.BigEndian.Uint32(p)
	s := fmt.Sprintf("ip6 %v > %v hop %d", src, dst, p[7]) +
		number("class", int(w>>20&0xff), 0) + number("flow", int(w&0xfffff), 0)
	total := 40 + int(binary.BigEndian.Uint16(p[4:]))
	rest, behind := p[40:], []byte(nil)
	if total <= len(p) {
		rest, behind = p[40:total], p[total:]
	} else {
		s += fmt.Sprintf(" length %d", total-40)
	}
	f.follow(indent, s, "next", p[6], 0, rest, env{true, p[8:24], p[24:40]}, nil)
	f.padding(indent, behind)
}

// follow writes a header's line s, and what follows it: protocol number proto,
// bytes b. word is what the line calls that number.
func (f *formatter) follow(indent, s, word string, proto uint8, offset int, b []byte, e env, options []byte) {
	rest := ""
	var body func()
	if offset == 0 {
		rest, body = f.transport(indent, proto, b, e)
	}
	if body == nil {
		s += fmt.Sprintf(" %s %s", word, name(proto))
	}
	f.line(indent, "%s", s)
	f.options(indent, options)
	if body == nil {
		f.bytes(indent, b)
		return
	}
	if rest != "" {
		f.line(indent, "%s", rest)
	}
	body()
}

// transport gives the line of the header that b starts with, and what writes the
// rest; body is nil if there is no such header.
func (f *formatter) transport(indent string, proto uint8, b []byte, e env) (s string, body func()) {
	least := map[uint8]int{0: 8, 1: 8, 4: 20, 6: 20, 17: 8, 33: 12, 41: 40, 43: 8, 44: 8, 51: 12, 58: 8, 60: 8, 136: 8}[proto]
	if least == 0 || len(b) < least || !f.header() {
		return "", nil
	}
	switch proto {
	case 4, 41:
		return "", func() { f.packet(b, indent) }
	case 0, 43, 51, 60:
		return f.ext(indent, proto, b, e)
	case 44:
		word := binary.BigEndian.Uint16(b[2:])
		s := fmt.Sprintf("fragment id 0x%08x offset %d", binary.BigEndian.Uint32(b[4:]), word&^7)
		if word&1 != 0 {
			s += " more"
		}
		return "", func() { f.follow(indent, s, "next", b[0], int(word&^7), b[8:], e, nil) }
	case 6:
		return f.tcp(indent, b, e)
	case 1, 58:
		return f.icmp(indent, proto, b, e)
	}
	return f.datagram(indent, proto, b, e)
}

func (f *formatter) ext(indent string, proto uint8, b []byte, e env) (string, func()) {
	n := int(b[1])*8 + 8
	if proto == 51 {
		n = int(b[1])*4 + 8
	}
	if n > len(b) || n < 12 && proto == 51 {
		return "", nil
	}
	h := b[:n]
	s := "ext "
	switch proto {
	case 0, 60:
		s += map[uint8]string{0: "hopbyhop", 60: "destination"}[proto]
		plain := &ext{}
		plain.options(&line{words: []string{fmt.Sprint(n)}})
		if bytes.Equal(plain.body, h[2:]) {
			s += fmt.Sprintf(" %d", n)
		} else {
			body := h[2:]
			return "", func() {
				// hex takes the rest of the line, so it comes last.
				next, written := f.nextWord(b[0], b[n:])
				f.line(indent, "%s%s hex % x", s, next, body)
				f.behind(indent, b[0], b[n:], e, written)
			}
		}
	case 43:
		s += fmt.Sprintf("routing type %d left %d", h[2], h[3])
		for a := h[8:]; len(a) >= 16; a = a[16:] {
			s += " " + netip.AddrFrom16([16]byte(a)).String()
		}
	case 51:
		s += fmt.Sprintf("ah spi %d seq %d icv %d", binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:]), n-12)
	}
	return "", func() { f.follow(indent, s, "next", b[0], 0, b[n:], e, nil) }
}

// nextWord says what to write where the following header can't speak for
// itself.
func (f *formatter) nextWord(proto uint8, b []byte) (s string, written bool) {
	probe := &formatter{depth: f.depth}
	if _, body := probe.transport("", proto, b, env{}); body != nil {
		return "", false
	}
	return " next " + name(proto), true
}

func (f *formatter) behind(indent string, proto uint8, b []byte, e env, plain bool) {
	if !plain {
		if s, body := f.transport(indent, proto, b, e); body != nil {
			if s != "" {
				f.line(indent, "%s", s)
			}
			body()
			return
		}
	}
	f.bytes(indent, b)
}

// encoded gives the checksum that a header would get in front of rest.
func encoded(h layer, e env, rest []byte, at int) uint16 {
	return binary.BigEndian.Uint16(h.encode(e, -1, rest)[at:])
}

func (f *formatter) tcp(indent string, b []byte, e env) (string, func()) {
	n := int(b[12]>>4) * 4
	if n < 20 || n > len(b) || b[12]&15 != 0 {
		return "", nil
	}
	h := &tcp{
		src: binary.BigEndian.Uint16(b), dst: binary.BigEndian.Uint16(b[2:]),
		seq: binary.BigEndian.Uint32(b[4:]), ack: binary.BigEndian.Uint32(b[8:]),
		flags: b[13], window: binary.BigEndian.Uint16(b[14:]), urgent: binary.BigEndian.Uint16(b[18:]),
		options: b[20:n],
	}
	s := fmt.Sprintf("tcp %d > %d", h.src, h.dst) + number("seq", int(h.seq), 0) + number("ack", int(h.ack), 0)
	if h.flags != 0x10 {
		flags := ""
		for i, c := range tcpFlags {
			if h.flags&(1<<i) != 0 {
				flags += string(c)
			}
		}
		if flags == "" {
			flags = "-"
		}
		s += " flags " + flags
	}
	s += number("window", int(h.window), 0) + number("urgent", int(h.urgent), 0)
	if n > 20 {
		s += fmt.Sprintf(" options %x", h.options)
	}
	s += sum(binary.BigEndian.Uint16(b[16:]), encoded(h, e, b[n:], 16))
	return s, func() { f.bytes(indent, b[n:]) }
}

func (f *formatter) datagram(indent string, proto uint8, b []byte, e env) (string, func()) {
	h := &datagram{proto: proto, length: -1, src: binary.BigEndian.Uint16(b), dst: binary.BigEndian.Uint16(b[2:])}
	s := fmt.Sprintf("%s %d > %d", name(proto), h.src, h.dst)
	n := 8
	if proto == 33 {
		n = 12
		h.typ, h.seq = b[8]>>1&15, uint32(b[9])<<16|uint32(b[10])<<8|uint32(b[11])
		s += number("type", int(h.typ), 0) + number("seq", int(h.seq), 0)
	} else if length := int(binary.BigEndian.Uint16(b[4:])); length != len(b) {
		h.length = length
		s += fmt.Sprintf(" %s %d", map[uint8]string{17: "length", 136: "coverage"}[proto], length)
	}
	s += sum(binary.BigEndian.Uint16(b[6:]), encoded(h, e, b[n:], 6))
	return s, func() { f.bytes(indent, b[n:]) }
}
