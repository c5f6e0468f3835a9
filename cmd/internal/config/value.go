package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"aarch64.com/isthmus/translate"
)

// value is what stands behind a key. Its methods check it and store it, or
// report what is wrong with it.
type value struct {
	d    *decoder
	key  string // full name, for errors
	node *node
}

func (v value) fail(problem, remedy string) { v.d.add(v.node.off, v.key, problem, remedy) }

// failType reports a value of the wrong TOML type.
func (v value) failType(want string) {
	v.fail(fmt.Sprintf("want %s, have %s", want, v.have()), "")
}

// have names the value's type.
func (v value) have() string {
	switch v.node.kind {
	case unstable.String:
		return "a string"
	case unstable.Integer:
		return "an integer"
	case unstable.Float:
		return "a decimal number"
	case unstable.Bool:
		return "a boolean"
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	default:
		return "a date or time"
	}
}

// text gives the string, or reports that there is none.
func (v value) text(want string) (string, bool) {
	if v.node.kind != unstable.String {
		v.failType(want)
		return "", false
	}
	return v.node.text, true
}

// int gives an integer within [low, high], or reports what is wrong.
func (v value) int(low, high int) (int, bool) {
	want := fmt.Sprintf("an integer from %d to %d", low, high)
	if v.node.kind != unstable.Integer {
		v.failType(want)
		return 0, false
	}
	// Base 0 takes TOML's 0x, 0o, 0b and underscores.
	n, err := strconv.ParseInt(strings.TrimPrefix(v.node.text, "+"), 0, 64)
	if err != nil || n < int64(low) || n > int64(high) {
		v.fail(fmt.Sprintf("%s is out of range", v.node.text), "write "+want)
		return 0, false
	}
	return int(n), true
}

func (v value) integer(to *int, low, high int) {
	if n, ok := v.int(low, high); ok {
		*to = n
	}
}

func (v value) boolean(to *bool) {
	if v.node.kind != unstable.Bool {
		v.failType("true or false")
		return
	}
	*to = v.node.text == "true"
}

func (v value) oneOf(to *string, words ...string) {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	want := strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
	s, ok := v.text(want)
	switch {
	case !ok:
	case slices.Contains(words, s):
		*to = s
	default:
		v.fail(fmt.Sprintf("%q is not a choice", s), "write "+want)
	}
}

func (v value) tos(to *translate.TOS) {
	switch v.node.kind {
	case unstable.Integer:
		if n, ok := v.int(0, 255); ok {
			*to = translate.TOS{Fixed: true, Value: uint8(n)}
		}
	case unstable.String:
		var word string
		v.oneOf(&word, "copy", "zero")
		*to = translate.TOS{Fixed: word == "zero"}
	default:
		v.failType(`"copy", "zero" or an integer from 0 to 255`)
	}
}

// frameSize reads "auto" (0) or a number of bytes.
func (v value) frameSize(to *int) {
	switch v.node.kind {
	case unstable.Integer:
		if n, ok := v.int(2048, 4096); ok {
			if n != 2048 && n != 4096 {
				v.fail(fmt.Sprintf("%d is not a choice", n), "write 2048 or 4096")
				return
			}
			*to = n
		}
	case unstable.String:
		var word string
		v.oneOf(&word, "auto")
	default:
		v.failType(`"auto", 2048 or 4096`)
	}
}

// mssClamp reads "off", "auto" or a number of bytes.
func (v value) mssClamp(to *translate.MSSClamp) {
	*to = translate.MSSClamp{}
	switch v.node.kind {
	case unstable.Integer:
		v.integer(&to.Max, translate.MinMSS, translate.MaxMSS)
	case unstable.String:
		var word string
		v.oneOf(&word, "off", "auto")
		to.Auto = word == "auto"
	default:
		v.failType(`"off", "auto" or a number of bytes`)
	}
}

// each calls f for the elements of a list, or reports that it is none.
func (v value) each(want string, f func(item value)) bool {
	if v.node.kind != unstable.Array {
		v.failType(want)
		return false
	}
	for i, item := range v.node.items {
		f(value{d: v.d, key: v.key + "[" + strconv.Itoa(i) + "]", node: item})
	}
	return true
}

// queues reads "all" (nil) or a list of queue numbers.
func (v value) queues(to *[]int) {
	const want = `"all" or a list of queue numbers, such as [0, 1]`
	if v.node.kind == unstable.String {
		if v.node.text != "all" {
			v.fail(fmt.Sprintf("%q is not a choice", v.node.text), "write "+want)
		}
		return
	}
	var list []int
	if !v.each(want, func(item value) {
		n, ok := item.int(0, maxQueue)
		if ok && slices.Contains(list, n) {
			item.fail(fmt.Sprintf("queue %d comes twice", n), "remove one")
		}
		list = append(list, n)
	}) {
		return
	}
	if len(list) == 0 {
		v.fail("no queue", "write "+want)
	}
	slices.Sort(list)
	*to = list
}

// maxQueue is the highest queue number that the kernel gives a device.
const maxQueue = 4095

// ifname reads the name of a network interface, by the kernel's rule
// (dev_valid_name in net/core/dev.c).
func (v value) ifname(to *string) {
	s, ok := v.text("the name of an interface")
	if !ok {
		return
	}
	bad := s == "" || len(s) > 15 || s == "." || s == ".." ||
		strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r > '~' })
	if bad {
		v.fail(fmt.Sprintf("%q cannot be an interface's name", s), "write 1 to 15 characters without spaces, / and :")
		return
	}
	*to = s
}

// ifnames reads a list of interfaces.
func (v value) ifnames(to *[]string) {
	var list []string
	v.each("a list of interfaces", func(item value) {
		var name string
		item.ifname(&name)
		if name != "" && slices.Contains(list, name) {
			item.fail(name+" comes twice", "remove one")
		}
		list = append(list, name)
	})
	if len(list) > 0 {
		*to = list
	}
}

// listen reads address:port, or nothing.
func (v value) listen(to *string) {
	s, ok := v.text("an address and a port")
	if !ok || s == "" {
		return
	}
	const remedy = `write "address:port", such as "[::1]:9464", or "" for none`
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		v.fail(fmt.Sprintf("%q is not an address and a port", s), remedy)
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		v.fail(fmt.Sprintf("%q is not a port number", port), remedy)
		return
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		v.fail(fmt.Sprintf("%q is not an IP address", host), remedy)
		return
	}
	*to = s
}

// path reads the absolute path of a Unix socket, or nothing.
func (v value) path(to *string) {
	s, ok := v.text("a path")
	if !ok || s == "" {
		return
	}
	const longest = 107 // sun_path in unix(7), without its final 0
	if !filepath.IsAbs(s) || len(s) > longest || strings.ContainsRune(s, 0) {
		v.fail(fmt.Sprintf("%q cannot be a socket's path", s), fmt.Sprintf("write an absolute path of at most %d bytes, or \"\" for none", longest))
		return
	}
	*to = s
}

// directory reads the absolute path of a directory, or nothing.
func (v value) directory(to *string) {
	s, ok := v.text("a path")
	if !ok {
		return
	}
	if s != "" && (!filepath.IsAbs(s) || strings.ContainsRune(s, 0)) {
		v.fail(fmt.Sprintf("%q is not an absolute path", s), `write one such as "/var/lib/isthmus", or "" for none`)
		return
	}
	*to = s
}

// duration reads a time span of at least low.
func (v value) duration(to *time.Duration, low time.Duration) {
	s, ok := v.text("a duration")
	if !ok {
		return
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < low {
		v.fail(fmt.Sprintf("%q is not a duration of at least %v", s, low), `write a number and h, m or s, such as "24h" or "1h30m"`)
		return
	}
	*to = d
}

func (v value) dnsLabel(to *string) {
	s, ok := v.text("a DNS label")
	if !ok || s == "" {
		return
	}
	if !isLabel(s) {
		v.fail(fmt.Sprintf("%q is not a DNS label", s), "write 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end")
		return
	}
	*to = s
}

func (v value) dnsName(to *string) {
	s, ok := v.text("a DNS name")
	if !ok || s == "" {
		return
	}
	labels := strings.Split(s, ".")
	if len(s) > 253 || slices.ContainsFunc(labels, func(l string) bool { return !isLabel(l) }) {
		v.fail(fmt.Sprintf("%q is not a DNS name", s), `write labels of lower-case letters, digits and hyphens, such as "infra.example.com", with no dot at the end`)
		return
	}
	*to = s
}

// isLabel follows the host name rule of RFC 1123 section 2.1, in lower case.
func isLabel(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' &&
		!strings.ContainsFunc(s, func(r rune) bool {
			return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-')
		})
}
