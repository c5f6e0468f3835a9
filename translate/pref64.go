package translate

import (
	"fmt"
	"net/netip"
)

// Pref64Lengths are the prefix lengths that RFC 6052 section 2.2 allows, in bits.
var Pref64Lengths = []int{32, 40, 48, 56, 64, 96}

// Pref64 is one prefix Pref64::/n (RFC 6052), for programs that make or read
// addresses without translating packets. The zero value is not usable.
type Pref64 struct {
	prefix netip.Prefix
	pool   pool
}

// NewPref64 checks a prefix as [New] does for Config.Pool6.
func NewPref64(p netip.Prefix) (Pref64, error) {
	pool, err := newPool(p)
	if err != nil {
		return Pref64{}, err
	}
	return Pref64{prefix: p, pool: pool}, nil
}

// Prefix is the prefix that it was made of.
func (p Pref64) Prefix() netip.Prefix { return p.prefix }

// Embed makes the IPv6 address that stands for an IPv4 address (RFC 6052
// section 2.2). It refuses what the translator would not forward: addresses that
// no router forwards, and non-global ones behind the well-known prefix
// (section 3.1).
func (p Pref64) Embed(v4 netip.Addr) (netip.Addr, error) {
	if !v4.Is4() {
		return netip.Addr{}, fmt.Errorf("%v is no IPv4 address", v4)
	}
	if within(martians4, v4) {
		return netip.Addr{}, fmt.Errorf("%v is no address that a router forwards to", v4)
	}
	if p.pool.wellKnown && within(private4, v4) {
		return netip.Addr{}, fmt.Errorf("%v is not global, and %v carries global addresses only (RFC 6052 section 3.1)", v4, p.prefix)
	}
	return show(V6, p.pool.embed(toAddr(v4).v4())), nil
}

// Extract is the way back, for addresses that the prefix contains. As in the
// translator, bits 64 to 71 and those behind the IPv4 address do not matter.
func (p Pref64) Extract(v6 netip.Addr) (v4 netip.Addr, ok bool) {
	if !v6.Is6() || v6.Is4In6() || v6.Zone() != "" || !p.pool.contains(toAddr(v6)) {
		return netip.Addr{}, false
	}
	return show(V4, from4(p.pool.extract(toAddr(v6)))), true
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
