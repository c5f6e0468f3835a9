package packettext

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// line is one line of text, split into words that are taken from the front. The
// first thing that goes wrong stays in err.
type line struct {
	number int
	indent int
	kind   string
	words  []string
	err    error
}

func (l *line) fail(format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf("line %d: %s: %s", l.number, l.kind, fmt.Sprintf(format, args...))
	}
	l.words = nil
}

func (l *line) more() bool { return len(l.words) > 0 }

// next takes a word; what says what it should be.
func (l *line) next(what string) string {
	if len(l.words) == 0 {
		l.fail("ends where %s should follow", what)
		return ""
	}
	w := l.words[0]
	l.words = l.words[1:]
	return w
}

func (l *line) num(max uint64, what string) uint64 {
	w := l.next(what)
	if l.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(w, 0, 64)
	if err != nil || n > max {
		l.fail("%q is no %s; write a number from 0 to %d", w, what, max)
		return 0
	}
	return n
}

func (l *line) u8(what string) uint8   { return uint8(l.num(0xff, what)) }
func (l *line) u16(what string) uint16 { return uint16(l.num(0xffff, what)) }
func (l *line) u32(what string) uint32 { return uint32(l.num(0xffffffff, what)) }

// size is a count of bytes; 128 KiB is more than any packet and keeps typing
// errors cheap.
func (l *line) size(what string) int { return int(l.num(1<<17, what)) }

// arrow takes "A > B".
func (l *line) arrow(what string) (a, b string) {
	a = l.next(what)
	if arrow := l.next(`">"`); l.err == nil && arrow != ">" {
		l.fail("%q where \">\" should be; write SOURCE > DESTINATION", arrow)
	}
	return a, l.next(what)
}

func (l *line) ports() (a, b uint16) {
	x, y := l.arrow("a port")
	rest := l.words
	l.words = []string{x, y}
	a, b = l.u16("port"), l.u16("port")
	if l.err == nil {
		l.words = rest
	}
	return a, b
}

func (l *line) address(w string, six bool) []byte {
	if l.err != nil {
		return nil
	}
	a, err := netip.ParseAddr(w)
	if err != nil || a.Zone() != "" || a.Is4() == six {
		l.fail("%q is no address of this family", w)
		return nil
	}
	return a.AsSlice()
}

// bytes takes all words that are left as hexadecimal.
func (l *line) bytes() []byte {
	b, err := hex.DecodeString(strings.Join(l.words, ""))
	if err != nil {
		l.fail("%q is no hexadecimal; write pairs of digits, as in: 00 1f", strings.Join(l.words, " "))
	}
	l.words = nil
	return b
}

// protocols are the names that may stand for a protocol number.
var protocols = map[string]uint8{
	"hopbyhop": 0, "icmp4": 1, "igmp": 2, "ip4": 4, "tcp": 6, "udp": 17, "dccp": 33, "ip6": 41,
	"routing": 43, "fragment": 44, "esp": 50, "ah": 51, "icmp6": 58, "none": 59,
	"destination": 60, "sctp": 132, "udplite": 136,
}

// protocol takes the number of the following header.
func (l *line) protocol() int {
	if len(l.words) > 0 {
		if n, ok := protocols[l.words[0]]; ok {
			l.words = l.words[1:]
			return int(n)
		}
	}
	return int(l.u8("protocol"))
}

func (l *line) unknown(w, known string) {
	l.fail("unknown word %q; it takes %s", w, known)
}

// splitLines drops comments and empty lines.
func splitLines(text string) []*line {
	var list []*line
	for i, s := range strings.Split(text, "\n") {
		s, _, _ = strings.Cut(s, "#")
		words := strings.Fields(s)
		if len(words) == 0 {
			continue
		}
		indent := 0
		for _, r := range s {
			if r != ' ' && r != '\t' {
				break
			}
			indent++
		}
		list = append(list, &line{number: i + 1, indent: indent, kind: words[0], words: words[1:]})
	}
	return list
}

// Parse gives the bytes of the packet that text describes; see the package's
// documentation for the language. Errors name the line and what to write.
func Parse(text string) ([]byte, error) {
	list := splitLines(text)
	if len(list) == 0 {
		return nil, fmt.Errorf("no packet: write a line that starts with ip4, ip6 or hex")
	}
	b, rest, err := parseBlock(list, list[0].indent)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("line %d: %s: indented less than the first line", rest[0].number, rest[0].kind)
	}
	return b, nil
}

// parseBlock reads the lines of one packet, which are indented alike, and gives
// those behind it.
func parseBlock(list []*line, indent int) (b []byte, rest []*line, err error) {
	var layers []layer
	var tail []byte // padding and extensions
	var ext *extension
	keep := -1
	ended := false
	for len(list) > 0 && list[0].indent >= indent {
		l := list[0]
		if list = list[1:]; l.indent > indent {
			return nil, nil, fmt.Errorf("line %d: %s: indented for no reason; only a packet quoted by an icmp line is", l.number, l.kind)
		}
		switch l.kind {
		case "cut":
			keep, ended = l.size("length"), true
		case "padding":
			base := len(encode(layers, env{}))
			if keep >= 0 {
				base = min(base, keep)
			}
			tail, ended = append(tail, l.padding(base+len(tail))...), true
		case "extension":
			tail = ext.appendTo(tail)
			ext, ended = l.extension(), true
		case "object":
			if ext == nil {
				l.fail("needs an extension line before it")
			} else {
				ext.object(l)
			}
		default:
			if ended {
				l.fail("comes after the packet's end (cut, padding, extension)")
				break
			}
			layers = l.layer(layers)
			if ic, ok := lastICMP(layers); ok && l.err == nil && len(list) > 0 && list[0].indent > indent {
				if ic.quote, list, err = parseBlock(list, list[0].indent); err != nil {
					return nil, nil, err
				}
			}
		}
		if l.more() {
			l.fail("%q is one word too many", l.words[0])
		}
		if l.err != nil {
			return nil, nil, l.err
		}
		if ended || len(layers) == 0 {
			continue
		}
		// The line before may depend on this one for its Next Header.
		if err := announced(layers, l, len(list) == 0 || list[0].indent < indent || endsPacket(list[0].kind)); err != nil {
			return nil, nil, err
		}
	}
	b = encode(layers, env{})
	if keep >= 0 {
		if keep > len(b) {
			return nil, nil, fmt.Errorf("cut %d: the packet has only %d bytes", keep, len(b))
		}
		b = b[:keep]
	}
	return ext.appendTo(append(b, tail...)), list, nil
}

func endsPacket(kind string) bool {
	return kind == "cut" || kind == "padding" || kind == "extension" || kind == "object"
}

// announced checks that a header whose follower has no protocol number, or that
// has no follower, was given one.
func announced(layers []layer, l *line, last bool) error {
	n := len(layers)
	if n >= 2 && layers[n-1].number() < 0 && layers[n-2].open() {
		return fmt.Errorf("line %d: %s has no protocol number of its own; write proto (ip4) or next (others) in the line before", l.number, l.kind)
	}
	if last && layers[n-1].open() {
		return fmt.Errorf("line %d: %s: nothing follows; write proto (ip4) or next (others), as in: next none", l.number, l.kind)
	}
	return nil
}

func lastICMP(layers []layer) (*icmp, bool) {
	if len(layers) == 0 {
		return nil, false
	}
	ic, ok := layers[len(layers)-1].(*icmp)
	return ic, ok
}

// padding is for bytes behind a packet that is have bytes long so far.
func (l *line) padding(have int) []byte {
	if !l.more() {
		l.fail("how much? write: padding 6, padding to 46, or padding hex 00 01")
		return nil
	}
	switch l.words[0] {
	case "hex":
		l.words = l.words[1:]
		return l.bytes()
	case "to":
		l.words = l.words[1:]
		n := l.size("length")
		if l.err == nil && n < have {
			l.fail("to %d: there are %d bytes already", n, have)
			return nil
		}
		return make([]byte, n-min(n, have))
	}
	return make([]byte, l.size("length"))
}

// layer adds what the line describes.
func (l *line) layer(layers []layer) []layer {
	switch l.kind {
	case "ip4":
		return append(layers, l.ip4())
	case "ip6":
		return append(layers, l.ip6())
	case "option":
		if len(layers) > 0 {
			if h, ok := layers[len(layers)-1].(*ip4); ok {
				h.options = append(h.options, l.option()...)
				if len(h.options) > 1<<10 {
					l.fail("more options than any header holds")
				}
				return layers
			}
		}
		l.fail("belongs behind an ip4 line")
		return layers
	case "ext":
		return append(layers, l.ext())
	case "fragment":
		return append(layers, l.fragment())
	case "tcp":
		return append(layers, l.tcp())
	case "udp", "udplite", "dccp":
		return append(layers, l.datagram())
	case "icmp4", "icmp6":
		return append(layers, l.icmp())
	case "data", "zero", "hex":
		return append(layers, l.data())
	}
	l.fail("unknown line; it starts with ip4, ip6, option, ext, fragment, tcp, udp, udplite, dccp, icmp4, icmp6, data, zero, hex, cut, padding, extension or object")
	return layers
}
