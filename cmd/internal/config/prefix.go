package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"aarch64.com/isthmus/translate"
)

// family is an IP version as configuration speaks of it.
type family struct {
	name    string
	is      func(netip.Addr) bool
	example string
}

var (
	family4 = family{"IPv4", netip.Addr.Is4, "192.0.2.0/24"}
	family6 = family{"IPv6", func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }, "2001:db8::/64"}
	// Of either version; IPv4 in its own form only.
	familyAny = family{"IP", func(a netip.Addr) bool { return !a.Is4In6() }, "192.0.2.0/24"}
)

// prefix reads one prefix; an address alone is a prefix of its full length.
func (v value) prefix(f family) (netip.Prefix, bool) {
	want := "an " + f.name + " prefix"
	remedy := "write one such as \"" + f.example + "\""
	s, ok := v.text(want)
	if !ok {
		return netip.Prefix{}, false
	}
	var p netip.Prefix
	var err error
	if strings.Contains(s, "/") {
		p, err = netip.ParsePrefix(s)
	} else {
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err == nil {
			if a.Zone() != "" {
				err = fmt.Errorf("has a zone")
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	switch {
	case err != nil:
		v.fail(fmt.Sprintf("%q is not %s", s, want), remedy)
	case !f.is(p.Addr()):
		v.fail(fmt.Sprintf("%q is not %s", s, want), remedy)
	case p != p.Masked():
		v.fail(fmt.Sprintf("%q has bits set behind its length", s), fmt.Sprintf("write \"%s\"", p.Masked()))
	default:
		return p, true
	}
	return netip.Prefix{}, false
}

// optionalPrefix reads a prefix, or nothing.
func (v value) optionalPrefix(to *netip.Prefix, f family) {
	if s, ok := v.text("an " + f.name + " prefix"); !ok || s == "" {
		return
	}
	if p, ok := v.prefix(f); ok {
		*to = p
	}
}

// share reads "auto", an IPv4 address, a list of them, or nothing.
func (v value) share(to *Share) {
	const remedy = `write "auto", an address such as "203.0.113.7", a list of such, or "" for none`
	one := func(v value) {
		s, ok := v.text("an IPv4 address")
		if !ok {
			return
		}
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil || !a.Is4():
			v.fail(fmt.Sprintf("%q is not an IPv4 address", s), remedy)
		case slices.Contains(to.Addresses, a):
			v.fail(fmt.Sprintf("%s comes twice", a), "remove one")
		default:
			to.Addresses = append(to.Addresses, a)
		}
	}
	to.Auto, to.Addresses = false, nil
	switch {
	case v.node.kind == unstable.Array:
		v.each("a list of IPv4 addresses", one)
	case v.node.kind == unstable.String && v.node.text == "auto":
		to.Auto = true
	case v.node.kind == unstable.String && v.node.text == "":
	default:
		one(v)
	}
}

// vmPrefixes reads "auto" or a list of prefixes.
func (v value) vmPrefixes(to *Router) {
	to.AutoVMs = v.node.kind == unstable.String && v.node.text == "auto"
	if !to.AutoVMs {
		v.prefixes(&to.VMPrefixes, family6)
	}
}

// prefixes reads a list of prefixes, none of them twice.
func (v value) prefixes(to *[]netip.Prefix, f family) {
	var list []netip.Prefix
	seen := make(map[netip.Prefix]bool)
	v.each("a list of "+f.name+" prefixes", func(item value) {
		p, ok := item.prefix(f)
		if !ok {
			return
		}
		if seen[p] {
			item.fail(fmt.Sprintf("%s comes twice", p), "remove one")
		}
		seen[p] = true
		list = append(list, p)
	})
	*to = list
}

// maxPool6 bounds pool6: each packet's destination is compared with all of it.
const maxPool6 = 64

// pool6 reads the RFC 6052 prefixes.
func (v value) pool6(to *[]netip.Prefix) {
	if len(v.node.items) > maxPool6 {
		v.fail(fmt.Sprintf("%d prefixes", len(v.node.items)), fmt.Sprintf("give at most %d", maxPool6))
		return
	}
	var list []netip.Prefix
	v.each("a list of IPv6 prefixes", func(item value) {
		p, ok := item.prefix(family6)
		if !ok {
			return
		}
		a := p.Addr().As16()
		switch {
		case !slices.Contains([]int{32, 40, 48, 56, 64, 96}, p.Bits()):
			item.fail(fmt.Sprintf("/%d is not a length of RFC 6052", p.Bits()), "write /32, /40, /48, /56, /64 or /96")
			return
		case a[8] != 0:
			// RFC 6052 section 2.2: the "u" octet.
			item.fail("bits 64 to 71 are not zero, as RFC 6052 section 2.2 demands", "choose a prefix with zeros there")
			return
		case p.Addr().IsMulticast(), p.Addr().IsLinkLocalUnicast(), p.Addr().IsUnspecified():
			item.fail(fmt.Sprintf("%s cannot be routed", p), `choose a prefix of your own, or "64:ff9b::/96"`)
			return
		}
		for _, other := range list {
			if other.Overlaps(p) {
				item.fail(fmt.Sprintf("%s overlaps %s", p, other), "keep one of them")
			}
		}
		list = append(list, p)
	})
	*to = list
}

// eam reads the explicit address mappings. What only the whole table tells,
// such as duplicates, is for check.
func (v value) eam(to *[]translate.EAM) {
	*to = slices.Grow(*to, len(v.node.items))
	const want = `a list of mappings, such as { ipv6 = "2001:db8::1/128", ipv4 = "192.0.2.1/32" }`
	v.each(want, func(item value) {
		if item.node.kind != unstable.InlineTable {
			item.failType(`a mapping, such as { ipv6 = "2001:db8::1/128", ipv4 = "192.0.2.1/32" }`)
			*to = append(*to, translate.EAM{})
			return
		}
		var e translate.EAM
		for _, side := range []struct {
			name string
			f    family
			to   *netip.Prefix
		}{{"ipv6", family6, &e.IPv6}, {"ipv4", family4, &e.IPv4}} {
			m := item.node.find(side.name)
			if m == nil {
				item.fail(side.name+" is missing", fmt.Sprintf("add %s = \"%s\"", side.name, side.f.example))
				continue
			}
			*side.to, _ = value{d: v.d, key: item.key + "." + side.name, node: m.node}.prefix(side.f)
		}
		for _, m := range item.node.members {
			if m.name != "ipv6" && m.name != "ipv4" {
				v.d.add(m.off, joinKey(item.key, m.name), "unknown key", "a mapping has ipv6 and ipv4")
			}
		}
		*to = append(*to, e)
	})
}
