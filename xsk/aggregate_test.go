package xsk

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func prefixes(s string) (p []netip.Prefix) {
	for f := range strings.FieldsSeq(s) {
		p = append(p, netip.MustParsePrefix(f))
	}
	return p
}

func TestAggregate(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"one", "192.0.2.0/24", "192.0.2.0/24"},
		{"host_bits", "192.0.2.77/24", "192.0.2.0/24"},
		{"twice", "192.0.2.0/24 192.0.2.0/24", "192.0.2.0/24"},
		{"inside", "192.0.2.0/24 192.0.2.7/32 192.0.2.128/25", "192.0.2.0/24"},
		{"halves", "192.0.2.128/25 192.0.2.0/25", "192.0.2.0/24"},
		{"neighbours_of_different_parents", "192.0.2.64/26 192.0.2.128/26", "192.0.2.64/26 192.0.2.128/26"},
		{"cascade", "192.0.2.0/32 192.0.2.1/32 192.0.2.2/32 192.0.2.3/32", "192.0.2.0/30"},
		{"cascade_with_a_hole", "192.0.2.0/32 192.0.2.1/32 192.0.2.3/32", "192.0.2.0/31 192.0.2.3/32"},
		{"merge_into_covering", "10.0.0.0/9 10.128.0.0/10 10.192.0.0/10", "10.0.0.0/8"},
		{"everything", "0.0.0.0/1 128.0.0.0/1", "0.0.0.0/0"},
		{"ipv6", "2001:db8::/33 2001:db8:8000::/33 64:ff9b::/96", "64:ff9b::/96 2001:db8::/32"},
		{"families_apart", "::/1 0.0.0.0/1", "0.0.0.0/1 ::/1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Aggregate(prefixes(c.in)); !slices.Equal(got, prefixes(c.want)) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestAggregateCovers compares with asking every prefix, over one /24.
func TestAggregateCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var in []netip.Prefix
		for range r.IntN(12) {
			in = append(in, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(r.Uint32())}), 24+r.IntN(9)).Masked())
		}
		if r.IntN(4) > 0 {
			in = slices.DeleteFunc(in, func(p netip.Prefix) bool { return p.Bits() < 28 })
		}
		out := Aggregate(in)
		for b := range 256 {
			a := netip.AddrFrom4([4]byte{192, 0, 2, byte(b)})
			has := func(p netip.Prefix) bool { return p.Contains(a) }
			if slices.ContainsFunc(in, has) != slices.ContainsFunc(out, has) {
				t.Fatalf("%v: %v became %v", a, in, out)
			}
		}
	}
}
