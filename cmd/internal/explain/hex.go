package explain

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxInput is more than any packet takes, written as a dump.
const maxInput = 1 << 20

// maxPacket is an Ethernet header with tags and the longest IPv6 packet.
const maxPacket = 22 + 40 + 65535

const hexRemedy = "a packet is written as pairs of hexadecimal digits, or as the output of Wireshark, tcpdump -x, xxd or hexdump -C"

// ParseHex reads a packet: pairs of hexadecimal digits, with spaces, colons,
// commas or 0x between them as anybody likes, or lines that start with an offset,
// as Wireshark, tcpdump -x, xxd and hexdump -C write them, with or without text
// at their end. Lines that start with # are comments.
func ParseHex(text string) ([]byte, error) {
	if len(text) > maxInput {
		return nil, fmt.Errorf("the packet is %d bytes of text, more than %d; %s", len(text), maxInput, hexRemedy)
	}
	var lines []numbered
	for i, l := range strings.Split(text, "\n") {
		l = strings.TrimRight(strings.ReplaceAll(l, "\t", "    "), " \r")
		if s := strings.TrimLeft(l, " "); s != "" && s[0] != '#' {
			lines = append(lines, numbered{i + 1, s})
		}
	}
	if len(lines) == 0 {
		return nil, errors.New("the packet is empty; " + hexRemedy)
	}
	// tcpdump writes a line about the packet first.
	if word, _, _ := strings.Cut(lines[min(1, len(lines)-1)].text, " "); strings.HasSuffix(word, ":") && isDump(lines[1:]) {
		lines = lines[1:]
	}
	parse := plainHex
	if isDump(lines) {
		parse = dumpHex
	}
	p, err := parse(lines)
	switch {
	case err != nil:
		return nil, err
	case len(p) == 0:
		return nil, errors.New("the packet is empty; " + hexRemedy)
	case len(p) > maxPacket:
		return nil, fmt.Errorf("the packet has %d bytes, more than the %d that an IP packet in a frame can have; is it several packets?", len(p), maxPacket)
	}
	return p, nil
}

type numbered struct {
	n    int
	text string
}

// isDump tells a dump by its first line, whose offset is 0: 0000, 0x0000: and the
// like. No packet starts with two zero bytes, and few Ethernet addresses do.
func isDump(lines []numbered) bool {
	if len(lines) == 0 {
		return false
	}
	word, rest, _ := strings.Cut(lines[0].text, " ")
	off, err := offset(word)
	return err == nil && off == 0 && strings.TrimSpace(rest) != ""
}

// offset reads 0000, 00000010, 0x0010 with or without a colon.
func offset(word string) (int, error) {
	s := strings.TrimSuffix(word, ":")
	s = strings.TrimPrefix(strings.TrimPrefix(s, "0x"), "0X")
	if len(s) < 4 || len(s) > 8 {
		return 0, errors.New("no offset")
	}
	v, err := strconv.ParseUint(s, 16, 32)
	return int(v), err
}

// plainHex reads digits and separators only.
func plainHex(lines []numbered) ([]byte, error) {
	var out []byte
	half, high := false, byte(0)
	digits := 0
	for _, l := range lines {
		for i := 0; i < len(l.text); i++ {
			c := l.text[i]
			switch d, ok := digit(c); {
			case strings.IndexByte(" :-,;{}.|", c) >= 0:
			case c == '0' && i+1 < len(l.text) && l.text[i+1]|0x20 == 'x' && !half:
				i++
			case !ok:
				return nil, fmt.Errorf("line %d, column %d: %q is no hexadecimal digit; %s", l.n, i+1, c, hexRemedy)
			default:
				if digits++; half {
					out = append(out, high<<4|d)
				}
				half, high = !half, d
			}
		}
	}
	if half {
		return nil, fmt.Errorf("there are %d hexadecimal digits, and two make a byte: one is missing or too many", digits)
	}
	return out, nil
}

func digit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// dumpHex reads lines with offsets, which must tell where each line belongs.
func dumpHex(lines []numbered) ([]byte, error) {
	var out []byte
	for i, l := range lines {
		word, rest, _ := strings.Cut(l.text, " ")
		off, err := offset(word)
		if err != nil {
			return nil, fmt.Errorf("line %d starts with %q, which is no offset as in the lines before; %s", l.n, clip(word), hexRemedy)
		}
		if off != len(out) {
			if off == 0 {
				return nil, fmt.Errorf("line %d starts another packet: give one packet at a time", l.n)
			}
			return nil, fmt.Errorf("line %d says offset 0x%x, but the lines before have 0x%x bytes: a line is missing, cut or there twice", l.n, off, len(out))
		}
		want := -1 // the last line has no next one to tell
		if i+1 < len(lines) {
			next, _, _ := strings.Cut(lines[i+1].text, " ")
			if n, err := offset(next); err == nil && n > off {
				want = n - off
			}
		}
		b, err := dumpLine(rest, want)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", l.n, err)
		}
		out = append(out, b...)
	}
	return out, nil
}

// dumpLine reads the bytes of one line, and stops at the text behind them: after
// want bytes, at a bar, or at a gap that no dump has between bytes.
func dumpLine(s string, want int) ([]byte, error) {
	var out []byte
	for len(s) > 0 && (want < 0 || len(out) < want) {
		gap := len(s) - len(strings.TrimLeft(s, " "))
		if s = s[gap:]; s == "" || s[0] == '|' || len(out) > 0 && (gap >= 3 || gap == 2 && len(out)%16 == 0) {
			break
		}
		word, _, _ := strings.Cut(s, " ")
		s = s[len(word):]
		if len(word)%2 != 0 {
			return nil, fmt.Errorf("%q is no whole number of bytes; %s", clip(word), hexRemedy)
		}
		for j := 0; j < len(word); j += 2 {
			h, ok1 := digit(word[j])
			l, ok2 := digit(word[j+1])
			if !ok1 || !ok2 {
				return nil, fmt.Errorf("%q is not hexadecimal; %s", clip(word), hexRemedy)
			}
			out = append(out, h<<4|l)
		}
	}
	return out, nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
