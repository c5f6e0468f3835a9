package xsk

import (
	"net/netip"
	"slices"
)

// Aggregate returns the fewest prefixes that cover the same addresses, sorted:
// prefixes inside others go, and two halves become one.
func Aggregate(in []netip.Prefix) []netip.Prefix {
	all := make([]netip.Prefix, 0, len(in))
	for _, p := range in {
		all = append(all, p.Masked())
	}
	slices.SortFunc(all, netip.Prefix.Compare) // family, then address, then short before long
	out := all[:0]                             // never ahead of the range loop's reading
	for _, p := range all {
		for {
			n := len(out)
			if n == 0 {
				break
			}
			last := out[n-1]
			if last.Bits() <= p.Bits() && last.Contains(p.Addr()) {
				p = last // inside what is there
			} else if up, ok := parent(last, p); ok {
				p = up
			} else {
				break
			}
			out = out[:n-1] // p takes its place, and may merge further
		}
		out = append(out, p)
	}
	return out
}

// parent returns the prefix whose two halves are a and b.
func parent(a, b netip.Prefix) (netip.Prefix, bool) {
	if a.Bits() != b.Bits() || a.Bits() == 0 || a == b {
		return netip.Prefix{}, false
	}
	up := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
	return up, up.Contains(b.Addr())
}
