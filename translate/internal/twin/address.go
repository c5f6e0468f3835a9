package twin

import (
	"net/netip"
	"slices"

	"aarch64.com/isthmus/translate"
)

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

var (
	wellKnown = netip.MustParsePrefix("64:ff9b::/96")

	// RFC 1812 5.3.7: addresses that no router forwards, and link-local ones
	// (RFC 3927 7), and RFC 4291 2.5.2, 2.5.3, 2.5.6, 2.7.
	martians = prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
		"::/128", "::1/128", "fe80::/10", "ff00::/8")

	// RFC 6052 3.1: "The Well-Known Prefix MUST NOT be used to represent non-global
	// IPv4 addresses, such as those defined in [RFC1918] or listed in Section 3 of
	// [RFC5735]." The documentation blocks are left out: RFC 6052 2.4 itself
	// writes them so.
	nonGlobal = prefixes("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15")
)

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

func martian(a netip.Addr) bool { return within(martians, a) }

// places says which bytes of the IPv6 address hold the IPv4 address (RFC 6052
// 2.2, figure 1). Byte 8 ("u", bits 64 to 71) is never one of them.
var places = map[int][4]int{
	32: {4, 5, 6, 7},
	40: {5, 6, 7, 9},
	48: {6, 7, 9, 10},
	56: {7, 9, 10, 11},
	64: {9, 10, 11, 12},
	96: {12, 13, 14, 15},
}

// Embed: RFC 6052 2.3: "Concatenate the prefix, the 32 bits of the IPv4 address,
// and the suffix (if needed) to obtain a 128-bit address"; "insert the null
// octet 'u' at the appropriate position". Suffix bits are zero (2.2).
func Embed(pool netip.Prefix, v4 netip.Addr) netip.Addr {
	b, four := pool.Addr().As16(), v4.As4()
	for i, at := range places[pool.Bits()] {
		b[at] = four[i]
	}
	return netip.AddrFrom16(b)
}

// extract: RFC 6052 2.3: "If the prefix is 96 bits long, extract the last 32 bits
// of the IPv6 address; otherwise, extract the 'u' octet to obtain a 120-bit
// sequence [and] extract the 32 bits following the prefix."
func extract(pool netip.Prefix, v6 netip.Addr) netip.Addr {
	b, four := v6.As16(), [4]byte{}
	for i, at := range places[pool.Bits()] {
		four[i] = b[at]
	}
	return netip.AddrFrom4(four)
}

// poolOf gives the translation prefix that covers an IPv6 address.
func (w *work) poolOf(a netip.Addr) (netip.Prefix, bool) {
	for _, p := range w.in.Config.Pool6 {
		if p.Contains(a) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// network gives the first prefix under which IPv6 nodes may live: RFC 6052 3.3:
// "IPv4-translatable IPv6 addresses [...] MUST be constructed using a Network-
// Specific Prefix".
func (w *work) network() (netip.Prefix, bool) {
	for _, p := range w.in.Config.Pool6 {
		if p != wellKnown {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// banned tells whether an IPv4 address may not stand under a pool (RFC 6052 3.1).
func (w *work) banned(pool netip.Prefix, v4 netip.Addr) bool {
	return pool == wellKnown && !w.in.Config.AllowPrivate4 && within(nonGlobal, v4)
}

func bit(b []byte, i int) byte { return b[i/8] >> (7 - i%8) & 1 }

// eam4to6: RFC 7757 3.3.1: "Search the EAMT for an EAM entry whose IPv4 prefix is
// the longest match", copy its IPv6 prefix, append the address's suffix, "If the
// result is shorter than 128 bits, zeroes are appended".
func (w *work) eam4to6(v4 netip.Addr) (netip.Addr, bool) {
	best := -1
	var e translate.EAM
	for _, x := range w.in.Config.EAM {
		if x.IPv4.Contains(v4) && x.IPv4.Bits() > best {
			best, e = x.IPv4.Bits(), x
		}
	}
	if best < 0 {
		return netip.Addr{}, false
	}
	four, six := v4.As4(), e.IPv6.Addr().As16()
	at := e.IPv6.Bits()
	for i := e.IPv4.Bits(); i < 32; i++ {
		six[at/8] |= bit(four[:], i) << (7 - at%8)
		at++
	}
	return netip.AddrFrom16(six), true
}

// eam6to4: RFC 7757 3.3.2: the longest IPv6 prefix; copy its IPv4 prefix, append
// the IPv6 suffix, "If the result is longer than 32 bits, truncate" the rest.
func (w *work) eam6to4(v6 netip.Addr) (netip.Addr, bool) {
	best := -1
	var e translate.EAM
	for _, x := range w.in.Config.EAM {
		if x.IPv6.Contains(v6) && x.IPv6.Bits() > best {
			best, e = x.IPv6.Bits(), x
		}
	}
	if best < 0 {
		return netip.Addr{}, false
	}
	six, four := v6.As16(), e.IPv4.Addr().As4()
	at := e.IPv6.Bits()
	for i := e.IPv4.Bits(); i < 32; i++ {
		four[i/8] |= bit(six[:], at) << (7 - i%8)
		at++
	}
	return netip.AddrFrom4(four), true
}

// routerSource is RFC 6791 3: the source of an ICMP error from a router without a
// mapping is an address of a pool. Which one is left open, but not the network's,
// broadcast or subnet-router anycast address (RFC 4291 2.6.1), if there are others.
func (w *work) routerSource(pool []netip.Prefix) netip.Addr {
	w.res.UsedSource = true
	a := w.in.Chosen.Source
	if a.Is6() && len(pool) > 0 && pool[0].Addr().Is4() && w.via.IsValid() {
		a = extract(w.via, a) // hairpinning shows it so
	}
	for _, p := range pool {
		if !p.Contains(a) {
			continue
		}
		all := a.BitLen()
		if a.Is4() && p.Bits() < 31 && (a == p.Addr() || !p.Contains(a.Next())) {
			continue
		}
		if a.Is6() && p.Bits() < all && a == p.Addr() {
			continue
		}
		return a
	}
	// Not an address of the pool: an address that can't be the one that was sent.
	if len(pool) > 0 && pool[0].Addr().Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
