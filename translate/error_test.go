package translate

import (
	"bytes"
	"net/netip"
	"testing"
)

var ownSources = Sources{V4: [4]byte{192, 0, 2, 1}, V6: netip.MustParseAddr("2001:db8::1").As16()}

func answer(t *testing.T, c Config, p []byte, mtu int, src Sources) (Verdict, []byte) {
	t.Helper()
	tr := mustNew(t, c)
	buf := append(make([]byte, Headroom), p...)
	var pl Plan
	v := tr.Decide(&pl, buf[Headroom:], Meta{})
	if v.Action() == Emit {
		v = tr.Fit(&pl, mtu, mtu)
	}
	at, n, ok := tr.Error(&pl, buf, Headroom, src)
	if !ok {
		return v, nil
	}
	return v, buf[at : at+n]
}

func TestError(t *testing.T) {
	tests := []struct {
		name   string
		config func(*Config)
		in     []byte
		mtu    int
		want   []byte // nil: none
	}{
		{name: "5.1_hop_limit", in: v6(vmA6, server6, 6, tcp(30), ttl(1)), want: icmpMessage(3, 0, 0, nil)},
		{name: "4.1_TTL", in: v4(server, vmA4, 6, tcp(30), ttl(1)), want: icmpMessage(11, 0, 0, nil)},
		{name: "5_too_big", in: v6(vmA6, server6, 6, tcp(1440)), mtu: 1400, want: icmpMessage(2, 0, 1420, nil)},
		{name: "4_too_big", in: v4(server, vmA4, 6, tcp(1480), df), mtu: 1400, want: icmpMessage(3, 4, 1380, nil)},
		{name: "4.1_source_route", in: v4options(server, vmA4, 6, []byte{131, 7, 4, 1, 2, 3, 4, 0}, tcp(30)), want: icmpMessage(3, 5, 0, nil)},
		{name: "4.1_bad_option", in: v4options(server, vmA4, 6, []byte{1, 1, 7, 0}, tcp(30)), want: icmpMessage(12, 0, 22<<24, nil)},
		{name: "5.1_routing_header", in: v6ext(vmA6, server6, 0, []byte{43, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0}, tcp(30)), want: icmpMessage(4, 0, 51, nil)},
		{name: "5.1.1_extension_after_fragment", in: v6ext(vmA6, server6, 44, append(fragmentHeader(60, 0, true, 7), 6, 0, 0, 0, 0, 0, 0, 0), tcp(24)), want: icmpMessage(1, 1, 0, nil)},
		{name: "denied4", config: func(c *Config) { c.Deny4 = prefixes("203.0.113.0/24") }, in: v6(vmA6, server6, 6, tcp(30)), want: icmpMessage(1, 1, 0, nil)},
		{name: "RFC6052_3.1_private", in: v6(vmA6, "64:ff9b::10.1.2.3", 6, tcp(30)), want: icmpMessage(1, 1, 0, nil)},
		{name: "local4", config: func(c *Config) { c.Local4 = []netip.Addr{netip.MustParseAddr(server)} }, in: v6(vmA6, server6, 6, tcp(30)), want: icmpMessage(1, 1, 0, nil)},
		{name: "local6", config: func(c *Config) { c.Local6 = []netip.Addr{netip.MustParseAddr(vmA6)} }, in: v4(server, vmA4, 6, tcp(30)), want: icmpMessage(3, 13, 0, nil)},
		{name: "RFC7757_no_mapping6", in: v6("2001:db8::99", server6, 6, tcp(30)), want: icmpMessage(1, 5, 0, nil)},
		{name: "RFC7757_no_mapping4", config: func(c *Config) { c.Pool6 = nil }, in: v4(server, vmA4, 6, tcp(30)), want: icmpMessage(3, 13, 0, nil)},
		{name: "echo_may_be_answered_6", in: v6(vmA6, server6, 58, icmpMessage(128, 0, 0, nil), ttl(1)), want: icmpMessage(3, 0, 0, nil)},
		{name: "echo_may_be_answered_4", in: v4(server, vmA4, 1, icmpMessage(8, 0, 0, nil), ttl(1)), want: icmpMessage(11, 0, 0, nil)},
		{name: "first_fragment_may_be_answered", in: v4(server, vmA4, 6, tcp(32), frag(flagMF), ttl(1)), want: icmpMessage(11, 0, 0, nil)},
		{name: "RFC4443_2.4_e1_about_an_error", in: v6(vmA6, server6, 58, icmpMessage(3, 0, 0, back6), ttl(1))},
		{name: "RFC4443_2.4_e1_behind_extensions", in: v6ext(vmA6, server6, 43, []byte{58, 0, 0, 1, 0, 0, 0, 0}, icmpMessage(3, 0, 0, back6))},
		{name: "RFC4443_2.4_e2_about_a_redirect", in: v6(vmA6, server6, 58, icmpMessage(137, 0, 0, back6), ttl(1))},
		{name: "RFC1122_3.2.2_about_an_error", in: v4(server, vmA4, 1, icmpMessage(3, 1, 0, quoted4), ttl(1))},
		{name: "RFC1122_3.2.2_later_fragment", in: v4(server, vmA4, 6, bytesOf(32), frag(8), ttl(1))},
		{name: "RFC4443_later_fragment", in: v6ext(vmA6, server6, 44, fragmentHeader(6, 64, false, 7), tcp(24), ttl(1))},
		{name: "RFC1122_3.2.2_no_ICMP_type", in: v4(server, vmA4, 1, nil, ttl(1))},
		{name: "RFC4443_2.4_e6_to_a_group", in: v6ext("ff02::1", server6, 43, []byte{6, 0, 0, 1, 0, 0, 0, 0}, tcp(30))},
		{name: "RFC4443_2.4_e6_to_nobody", in: v6ext("::", server6, 43, []byte{6, 0, 0, 1, 0, 0, 0, 0}, tcp(30))},
		{name: "RFC1122_3.2.2_to_a_group", in: v4options("224.0.0.9", vmA4, 6, []byte{131, 7, 4, 1, 2, 3, 4, 0}, tcp(30))},
		{name: "drops_are_silent", in: v6("fe80::1", server6, 6, tcp(30))},
		{name: "passes_are_silent", in: v6(vmA6, "2001:db8:ffff::1", 6, tcp(30))},
		{name: "forwards_are_silent", in: v6(vmA6, server6, 6, tcp(30))},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			conf := usual()
			if c.config != nil {
				c.config(&conf)
			}
			if c.mtu == 0 {
				c.mtu = 1500
			}
			v, got := answer(t, conf, c.in, c.mtu, ownSources)
			if c.want == nil {
				if got != nil {
					t.Fatalf("%v: an error was sent: %x", v, got)
				}
				return
			}
			var want []byte
			if c.in[0]>>4 == 4 {
				quote := c.in[:min(len(c.in), 548)]
				want = v4("192.0.2.1", netip.AddrFrom4([4]byte(c.in[12:])).String(), 1, append(c.want, quote...), tos(0xc0), df)
			} else {
				quote := c.in[:min(len(c.in), 1232)]
				want = v6("2001:db8::1", netip.AddrFrom16([16]byte(c.in[8:])).String(), 58, append(c.want, quote...))
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%v\n got %x\nwant %x", v, got, want)
			}
		})
	}
}

func TestErrorSources(t *testing.T) {
	low6, low4 := v6(vmA6, server6, 6, tcp(30), ttl(1)), v4(server, vmA4, 6, tcp(30), ttl(1))
	for _, p := range [][]byte{low4, low6} {
		if v, got := answer(t, usual(), p, 1500, Sources{}); got != nil {
			t.Errorf("%v: an error without a source: %x", v, got)
		}
	}
	c := usual()
	c.ICMPSource4, c.ICMPSource6 = prefixes("198.51.100.7/32"), prefixes("2001:db8:6::7/128")
	if _, got := answer(t, c, low4, 1500, ownSources); netip.AddrFrom4([4]byte(got[12:])).String() != "198.51.100.7" {
		t.Errorf("source %v", got[12:16])
	}
	if _, got := answer(t, c, low6, 1500, ownSources); netip.AddrFrom16([16]byte(got[8:])).String() != "2001:db8:6::7" {
		t.Errorf("source %v", got[8:24])
	}
}

// TestPools: addresses are of the pool, usable, and spread (RFC 6791 3).
func TestPools(t *testing.T) {
	four := prefixes("192.0.2.0/29", "198.51.100.1/32", "203.0.113.2/31")
	six := prefixes("2001:db8::/64", "2001:db8:1::1/128", "2001:db8:2::/127")
	seen4, seen6 := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for i := range uint64(4000) {
		h := hash6(i * 0x123456789)
		a, b := netip4(pick4(four, h)), netip6(pick6(six, h))
		in := false
		for _, p := range four {
			in = in || p.Contains(a)
		}
		if !in || a.String() == "192.0.2.0" || a.String() == "192.0.2.7" {
			t.Fatalf("%v", a)
		}
		in = false
		for _, p := range six {
			in = in || p.Contains(b)
		}
		if !in || b.String() == "2001:db8::" {
			t.Fatalf("%v", b)
		}
		seen4[a], seen6[b] = true, true
	}
	if len(seen4) != 9 || len(seen6) < 100 {
		t.Errorf("%d IPv4 and %d IPv6 addresses", len(seen4), len(seen6))
	}
}
