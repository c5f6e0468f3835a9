package routes

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"aarch64.com/isthmus/proxy/sniff"
)

// value is what stands behind a key. Its methods check and store it, or report
// what is wrong with it.
type value struct {
	r    *reader
	key  string
	off  int
	node *unstable.Node
}

func (v value) fail(problem, remedy string) { v.r.bad(v.off, v.key, problem, remedy) }

// text gives a string, or reports that there is none.
func (v value) text(example string) (string, bool) {
	if v.node.Kind != unstable.String {
		v.fail("not a string", "write one such as "+example)
		return "", false
	}
	return string(v.node.Data), true
}

// each calls f for the elements of a list, or reports that it is none.
func (v value) each(example string, f func(item value)) {
	if v.node.Kind != unstable.Array {
		v.fail("not a list", "write one such as "+example)
		return
	}
	i := 0
	for it := v.node.Children(); it.Next(); i++ {
		item := value{r: v.r, key: v.key + "[" + strconv.Itoa(i) + "]", off: v.off, node: it.Node()}
		if item.node.Raw.Length > 0 {
			item.off = int(item.node.Raw.Offset)
		}
		f(item)
	}
}

func (v value) host() {
	s, ok := v.text(`"www.example.com"`)
	if !ok {
		return
	}
	name, wild := strings.CutPrefix(s, "*.")
	canonical, err := sniff.Host(name)
	switch {
	case err != nil:
		v.fail(fmt.Sprintf("%q is no host name: %v", s, err), `write one such as "www.example.com" or "*.example.com", international ones as A-labels (xn--...)`)
	case canonical != name:
		v.fail(fmt.Sprintf("%q is not in its one form", s), fmt.Sprintf("write %q", strings.TrimSuffix(s, name)+canonical))
	case wild && CheckHost(s) != nil:
		v.fail(fmt.Sprintf("%q is for a whole top-level domain", s), `write a domain of two labels or more, such as "*.example.com"`)
	default:
		v.r.route.Host, v.r.place.host = s, v.off
	}
}

// maxProject is the longest name of a project, in bytes.
const maxProject = 64

func (v value) projectName(to *string) {
	s, ok := v.text(`"shop"`)
	if !ok {
		return
	}
	bad := s == "" || len(s) > maxProject || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
	if bad {
		v.fail(fmt.Sprintf("%q can be no project's name", s), fmt.Sprintf("write 1 to %d ASCII characters without spaces and quotes, or leave it out", maxProject))
		return
	}
	*to = s
}

func (v value) backends() {
	const example = `["2001:db8::1"]`
	list := &v.r.route.Backends
	v.each(example, func(item value) {
		s, ok := item.text(`"2001:db8::1"`)
		if !ok {
			return
		}
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "":
			item.fail(fmt.Sprintf("%q is no IPv6 address", s), `write a VM's, such as "2001:db8::1"; names are never looked up`)
			return
		case slices.Contains(*list, a):
			item.fail(a.String()+" comes twice", "remove one")
			return
		case len(*list) == MaxBackends:
			item.fail("too many backends", fmt.Sprintf("give at most %d", MaxBackends))
			return
		}
		if v.r.reach != nil {
			if err := v.r.reach(a); err != nil {
				item.fail(fmt.Sprintf("%v: %v", a, err), "give a VM's address within vm_prefixes of [proxy]")
				return
			}
		}
		*list = append(*list, a)
	})
	if !v.r.broken && len(*list) == 0 {
		v.fail("empty", "write one such as "+example)
	}
}

func (v value) port(to *uint16) {
	const remedy = "write a port from 1 to 65535, or 0 for not served"
	if v.node.Kind != unstable.Integer {
		v.fail("not a number", remedy)
		return
	}
	// Base 0 takes TOML's 0x, 0o, 0b and underscores.
	n, err := strconv.ParseUint(strings.TrimPrefix(string(v.node.Data), "+"), 0, 16)
	if err != nil {
		v.fail(fmt.Sprintf("%s is no port", v.node.Data), remedy)
		return
	}
	*to = uint16(n)
}

func (v value) header() {
	const choice = `write "off", "v1" or "v2"`
	s, ok := v.text(`"v2"`)
	if !ok {
		return
	}
	i := slices.Index([]string{"off", "v1", "v2"}, s)
	if i < 0 {
		v.fail(fmt.Sprintf("%q is not a choice", s), choice)
		return
	}
	v.r.route.Header = Header(i)
}

func (v value) prefixes() {
	const example = `["2001:db8:64::/64"]`
	list := []netip.Prefix{}
	v.each(example, func(item value) {
		s, ok := item.text(`"2001:db8:64::/64"`)
		if !ok {
			return
		}
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil || !p.Addr().Is6() || p.Addr().Is4In6():
			item.fail(fmt.Sprintf("%q is no IPv6 prefix", s), "write one such as "+`"2001:db8:64::/64"`)
		case p != p.Masked():
			item.fail(fmt.Sprintf("%q has bits set behind its length", s), fmt.Sprintf("write %q", p.Masked()))
		default:
			list = append(list, p)
		}
	})
	v.r.project.prefixes = list
}
