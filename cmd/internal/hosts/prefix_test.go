package hosts_test

import (
	"net/netip"
	"strings"
	"testing"

	"aarch64.com/isthmus/cmd/internal/hosts"
	"aarch64.com/isthmus/translate"
)

func prefixes(list []translate.Pref64) string {
	var s []string
	for _, p := range list {
		s = append(s, p.Prefix().String())
	}
	return strings.Join(s, " ")
}

func addrs(t *testing.T, text string) (list []netip.Addr) {
	t.Helper()
	for s := range strings.FieldsSeq(text) {
		a, err := netip.ParseAddr(s)
		must(t, err)
		list = append(list, a)
	}
	return list
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPrefixesIn is RFC 7050 section 3, with the layout of RFC 6052 section 2.2.
func TestPrefixesIn(t *testing.T) {
	for _, c := range []struct{ name, records, want string }{
		{"/32", "2001:db8:c000:aa:: 2001:db8:c000:ab::", "2001:db8::/32"},
		{"/40", "2001:db8:1c0:0:aa:: 2001:db8:1c0:0:ab::", "2001:db8:100::/40"},
		{"/48", "2001:db8:122:c000:0:aa00:: 2001:db8:122:c000:0:ab00::", "2001:db8:122::/48"},
		{"/56", "2001:db8:122:3c0:0:aa:: 2001:db8:122:3c0:0:ab::", "2001:db8:122:300::/56"},
		{"/64", "2001:db8:122:344:c0:0:aa00:0 2001:db8:122:344:c0:0:ab00:0", "2001:db8:122:344::/64"},
		{"/96", "64:ff9b::192.0.0.170 64:ff9b::192.0.0.171", "64:ff9b::/96"},
		{"one record only", "64:ff9b::192.0.0.171", "64:ff9b::/96"},
		{"two prefixes", "64:ff9b::192.0.0.170 64:ff9b::192.0.0.171 2001:db8:122:344:c0:0:aa00:0 2001:db8:122:344:c0:0:ab00:0", "64:ff9b::/96 2001:db8:122:344::/64"},
		{"two prefixes, one record each", "2001:db8:1:2::192.0.0.170 2001:db8:3:4::192.0.0.171", "2001:db8:1:2::/96 2001:db8:3:4::/96"},
		{"a suffix", "2001:db8:122:344:c0:0:aa00:1 2001:db8:122:344:c0:0:ab00:1", "2001:db8:122:344::/64"},
		// The prefix itself has 192.0.0.170 where a /32 would have it.
		{"in the prefix, too", "2001:db8:c000:aa::192.0.0.170 2001:db8:c000:aa::192.0.0.171", "2001:db8:c000:aa::/96"},
		{"in the prefix, too, one record", "2001:db8:c000:aa::192.0.0.170", "! [2001:db8:c000:aa::c000:aa] has"},
		{"one of two explains itself", "2001:db8:c000:aa::192.0.0.170 64:ff9b::192.0.0.170", "64:ff9b::/96"},
		{"some address", "2001:db8::1", "! neither"},
		{"another address", "64:ff9b::192.0.0.172", "! neither"},
		{"bits 64 to 71", "2001:db8:122:344:1c0:0:aa00:0", "! neither"},
		{"no address of a router's", "fe80::192.0.0.170", "! neither"},
		{"nothing", "", "! neither"},
	} {
		list, err := hosts.PrefixesIn(addrs(t, c.records))
		got := prefixes(list)
		if err != nil {
			got = "! " + err.Error()
		}
		if got != c.want && (c.want[0] != '!' || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Each length, made by the translator's code and found again.
func TestPrefixesInEachLength(t *testing.T) {
	for _, bits := range translate.Pref64Lengths {
		p, err := translate.NewPref64(netip.PrefixFrom(netip.MustParseAddr("2001:db8:c000:aa:0:c000:aa:0"), bits).Masked())
		must(t, err)
		var list []netip.Addr
		for _, a := range []string{"192.0.0.170", "192.0.0.171"} {
			v6, err := p.Embed(netip.MustParseAddr(a))
			must(t, err)
			list = append(list, v6)
		}
		found, err := hosts.PrefixesIn(list)
		if err != nil || len(found) != 1 || found[0] != p {
			t.Errorf("%v: found %s, %v", p.Prefix(), prefixes(found), err)
		}
	}
}

func TestSynthesised(t *testing.T) {
	of := func(s string) translate.Pref64 {
		p, err := translate.NewPref64(netip.MustParsePrefix(s))
		must(t, err)
		return p
	}
	d := hosts.Discovery{Pref64: of("2001:db8::/32"), Others: []translate.Pref64{of("2001:db8:64::/96")}}
	for a, want := range map[string]bool{
		"2001:db8:8c52:7904::":      true,
		"2001:db8:8c52:7904::1":     true, // a DNS64 with a suffix
		"2001:db8:64::140.82.121.4": true,
		"64:ff9b::140.82.121.4":     true,
		"64:ff9b:1::140.82.121.4":   true,
		"2606:50c0:8000::154":       false,
		"2001:db9:8c52:7904::":      false,
	} {
		if got := d.Synthesised(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}

// advertisement is a router advertisement with options behind its 16 bytes.
func advertisement(options ...[]byte) []byte {
	b := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, o := range options {
		b = append(b, o...)
	}
	return b
}

// pref64Option is RFC 8781 section 4, with a field of lifetime and PLC.
func pref64Option(field uint16, prefix string) []byte {
	a := netip.MustParseAddr(prefix).As16()
	return append([]byte{38, 2, byte(field >> 8), byte(field)}, a[:12]...)
}

func TestParseAdvertisement(t *testing.T) {
	const lifetime = 1800 // seconds, which are 225 units of 8 in the upper 13 bits
	mtu := []byte{5, 1, 0, 0, 0, 0, 5, 220}
	for _, c := range []struct {
		name string
		ra   []byte
		want string
	}{
		{"/96", advertisement(mtu, pref64Option(lifetime, "64:ff9b::")), "64:ff9b::/96"},
		{"/64", advertisement(pref64Option(lifetime|1, "2001:db8:122:344::")), "2001:db8:122:344::/64"},
		{"/56", advertisement(pref64Option(lifetime|2, "2001:db8:122:300::")), "2001:db8:122:300::/56"},
		{"/48", advertisement(pref64Option(lifetime|3, "2001:db8:122::")), "2001:db8:122::/48"},
		{"/40", advertisement(pref64Option(lifetime|4, "2001:db8:100::")), "2001:db8:100::/40"},
		{"/32", advertisement(pref64Option(lifetime|5, "2001:db8::"), mtu), "2001:db8::/32"},
		{"bits behind the length", advertisement(pref64Option(lifetime|5, "2001:db8:ffff::")), "2001:db8::/32"},
		{"two", advertisement(pref64Option(lifetime, "64:ff9b::"), pref64Option(lifetime|1, "2001:db8:1:2::")), "64:ff9b::/96 2001:db8:1:2::/64"},
		{"twice the same", advertisement(pref64Option(lifetime, "64:ff9b::"), pref64Option(lifetime, "64:ff9b::")), "64:ff9b::/96"},
		{"none", advertisement(mtu), ""},
		{"withdrawn", advertisement(pref64Option(0, "64:ff9b::")), ""},
		{"PLC 6", advertisement(pref64Option(lifetime|6, "2001:db8::")), ""},
		{"no prefix for translation", advertisement(pref64Option(lifetime, "ff02::")), ""},
		{"length 3", advertisement(append([]byte{38, 3}, make([]byte, 22)...)), ""},
		{"an option without length", advertisement([]byte{38, 0, 0, 0, 0, 0, 0, 0}), "!"},
		{"a cut-off option", advertisement(pref64Option(lifetime, "64:ff9b::")[:8]), "!"},
		{"three bytes more", advertisement([]byte{5, 1, 0}), "!"},
		{"a code", append([]byte{134, 1}, advertisement()[2:]...), "!"},
		{"a solicitation", append([]byte{133}, advertisement()[1:]...), "!"},
		{"short", advertisement()[:15], "!"},
	} {
		list, err := hosts.ParseAdvertisement(c.ra)
		got := prefixes(list)
		if err != nil {
			got = "!"
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q (%v)", c.name, got, c.want, err)
		}
	}
}

// Whatever a neighbour sends: no panic, and only prefixes that can be used.
func FuzzAdvertisement(f *testing.F) {
	f.Add(advertisement(pref64Option(1800, "64:ff9b::"), []byte{5, 1, 0, 0, 0, 0, 5, 220}))
	f.Add(advertisement([]byte{38, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := hosts.ParseAdvertisement(b)
		if err != nil && list != nil {
			t.Error("prefixes and an error")
		}
		for _, p := range list {
			if _, err := translate.NewPref64(p.Prefix()); err != nil {
				t.Error(err)
			}
		}
	})
}
