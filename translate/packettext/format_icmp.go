package packettext

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

func (f *formatter) icmp(indent string, proto uint8, b []byte, e env) (string, func()) {
	h := &icmp{six: proto == 58, typ: b[0], code: b[1], word: binary.BigEndian.Uint32(b[4:])}
	s := "icmp4 "
	request, reply := uint8(8), uint8(0)
	if h.six {
		s, request, reply = "icmp6 ", 128, 129
	}
	query := h.typ == request || h.typ == reply
	switch {
	case h.typ == request && h.code == 0:
		s += fmt.Sprintf("echo id %d seq %d", h.word>>16, h.word&0xffff)
	case h.typ == reply && h.code == 0:
		s += fmt.Sprintf("echo-reply id %d seq %d", h.word>>16, h.word&0xffff)
	default:
		s += fmt.Sprintf("%d/%d", h.typ, h.code) + h.words()
	}
	s += sum(binary.BigEndian.Uint16(b[2:]), encoded(h, e, b[8:], 2))
	if note := h.note(); note != "" {
		s += " # " + note
	}
	if query || len(b) == 8 || !h.quotes() {
		return s, func() { f.bytes(indent, b[8:]) }
	}
	return s, func() { f.quote(indent+"  ", h, b[8:]) }
}

// quotes tells the messages that contain a packet.
func (h *icmp) quotes() bool {
	if h.six {
		return h.typ < 128
	}
	return h.typ == 3 || h.typ == 4 || h.typ == 5 || h.typ == 11 || h.typ == 12
}

// extensible tells where RFC 4884 has a length field: its lowest bit in the
// second word, and what it counts in. unit is 0 where it has none.
func (h *icmp) extensible() (shift, unit int) {
	switch {
	case h.six && (h.typ == 1 || h.typ == 3):
		return 24, 8
	case !h.six && (h.typ == 3 || h.typ == 11 || h.typ == 12):
		return 16, 4
	}
	return 0, 0
}

// words writes an error's second word.
func (h *icmp) words() string {
	s, left := "", h.word
	if shift, unit := h.extensible(); unit > 0 && left>>shift&0xff > 0 {
		s = fmt.Sprintf(" length %d", left>>shift&0xff)
		left &^= 0xff << shift
	}
	switch {
	case !h.six && h.typ == 3 && h.code == 4 && left <= 0xffff, h.six && h.typ == 2:
		return s + fmt.Sprintf(" mtu %d", left)
	case !h.six && h.typ == 12 && left&0xffffff == 0:
		return s + fmt.Sprintf(" pointer %d", left>>24)
	case h.six && h.typ == 4:
		return s + fmt.Sprintf(" pointer %d", left)
	case left != 0:
		return s + fmt.Sprintf(" word 0x%08x", left)
	}
	return s
}

// quote writes the packet inside an error: as far as its length field or the RFC
// 4884 length says, then padding and extensions.
func (f *formatter) quote(indent string, h *icmp, b []byte) {
	shift, unit := h.extensible()
	n := int(h.word>>shift&0xff) * unit
	if n == 0 || n > len(b) {
		n = len(b)
	}
	tail := b[n:]
	f.packet(b[:n], indent)
	if len(tail) == 0 {
		return
	}
	x := &extension{}
	if len(tail) >= 4 && bytes.Equal(tail[:2], []byte{2 << 4, 0}) {
		x.objects = tail[4:]
		s := "extension" + sum(binary.BigEndian.Uint16(tail[2:]), binary.BigEndian.Uint16(x.appendTo(nil)[2:]))
		var lines []string
		o := tail[4:]
		for len(o) >= 4 {
			size := int(binary.BigEndian.Uint16(o))
			if size < 4 || size > len(o) {
				break
			}
			lines = append(lines, strings.TrimRight(fmt.Sprintf("object %d/%d % x", o[2], o[3], o[4:size]), " "))
			o = o[size:]
		}
		if len(o) == 0 {
			f.line(indent, "%s", s)
			for _, l := range lines {
				f.line(indent, "%s", l)
			}
			return
		}
	}
	f.padding(indent, tail)
}
