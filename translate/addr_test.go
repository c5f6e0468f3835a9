package translate

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestRFC6052Figures has the addresses of RFC 6052 2.4.
func TestRFC6052Figures(t *testing.T) {
	for prefix, want := range map[string]string{
		"2001:db8::/32":            "2001:db8:c000:221::",
		"2001:db8:100::/40":        "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":        "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56":    "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64":    "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96":    "2001:db8:122:344::192.0.2.33",
		"64:ff9b::/96":             "64:ff9b::192.0.2.33",
		"2001:db8:0:0:0:1234::/96": "2001:db8::1234:c000:221",
	} {
		p, err := newPool(netip.MustParsePrefix(prefix))
		if err != nil {
			t.Fatal(err)
		}
		v := toAddr(netip.MustParseAddr("192.0.2.33")).v4()
		if got := netip6(p.embed(v)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v, want %s", prefix, got, want)
		}
		a := toAddr(netip.MustParseAddr(want))
		if !p.contains(a) || p.extract(a) != v {
			t.Errorf("%s: read back %v", prefix, netip4(p.extract(a)))
		}
		if p.bits < 96 { // bits 64 to 71 and the suffix do not matter
			a.lo |= 0xff << 56
			if p.bits < 64 {
				a.lo |= 0xff
			}
			if !p.contains(a) || p.extract(a) != v {
				t.Errorf("%s: with u and suffix %v", prefix, netip4(p.extract(a)))
			}
		}
	}
}

// slowEmbed works on bytes: RFC 6052 2.3.
func slowEmbed(prefix [16]byte, bits int, v [4]byte) [16]byte {
	a := prefix
	at := bits / 8
	for _, b := range v {
		if at == 8 {
			a[at] = 0
			at++
		}
		a[at] = b
		at++
	}
	return a
}

func TestEmbedTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, bits := range []int{32, 40, 48, 56, 64, 96} {
		prefix := netip.PrefixFrom(netip.MustParseAddr("2001:db8:a5b6:c7d8:0:e9fa:1b2c:0"), bits).Masked()
		p, err := newPool(prefix)
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			v := rnd.Uint32()
			want := netip.AddrFrom16(slowEmbed(prefix.Addr().As16(), bits, netip4(v).As4()))
			if got := netip6(p.embed(v)); got != want {
				t.Fatalf("/%d: %v, want %v", bits, got, want)
			}
			if got := p.extract(toAddr(want)); got != v {
				t.Fatalf("/%d: read back %x, want %x", bits, got, v)
			}
		}
	}
}

// TestAllPrefixLengths translates through each, both ways.
func TestAllPrefixLengths(t *testing.T) {
	for _, prefix := range []string{"2001:db8::/32", "2001:db8:100::/40", "2001:db8:122::/48", "2001:db8:122:300::/56", "2001:db8:122:344::/64", "2001:db8:122:344::/96"} {
		p := netip.MustParsePrefix(prefix)
		vm := "2001:beef::a"
		far := netip.AddrFrom16(slowEmbed(p.Addr().As16(), p.Bits(), netip.MustParseAddr(server).As4())).String()
		conf := func(c *Config) { c.Pool6 = []netip.Prefix{p}; c.EAM = []EAM{eam(vm+"/128", vmA4+"/32")} }
		runAll(t, []expect{
			{name: "RFC6052_2.2_to_4_" + prefix, config: conf, in: v6(vm, far, 6, tcp(30)), verdict: Forward, out: v4(vmA4, server, 6, tcp(30), ttl(63))},
			{name: "RFC6052_2.2_to_6_" + prefix, config: conf, in: v4(server, vmA4, 17, udp(30)), verdict: Forward, out: v6(far, vm, 17, udp(30), ttl(63))},
			{name: "RFC6052_2.2_error_" + prefix, config: conf, in: v4(server, vmA4, 1, icmpMessage(3, 1, 0, v4(vmA4, server, 17, udp(30)))), verdict: Forward,
				out: v6(far, vm, 58, icmpMessage(1, 0, 0, v6(vm, far, 17, udp(30))), ttl(63))},
		})
	}
}

// TestEAMExamples has the table of RFC 7757 3.2 and what becomes of addresses.
func TestEAMExamples(t *testing.T) {
	tab, err := newTable([]EAM{
		eam("2001:db8:aaaa::/128", "192.0.2.1/32"),
		eam("2001:db8:bbbb::b/128", "192.0.2.2/32"),
		eam("2001:db8:cccc::/124", "192.0.2.16/28"),
		eam("2001:db8:dddd::/64", "192.0.2.128/26"),
		eam("2001:db8:eeee:8::/62", "192.0.2.192/29"),
		eam("64:ff9b::/127", "192.0.2.224/31"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ four, six string }{
		{"192.0.2.1", "2001:db8:aaaa::"},
		{"192.0.2.2", "2001:db8:bbbb::b"},
		{"192.0.2.16", "2001:db8:cccc::"},
		{"192.0.2.24", "2001:db8:cccc::8"},
		{"192.0.2.128", "2001:db8:dddd::"},
		{"192.0.2.152", "2001:db8:dddd:0:6000::"},
		{"192.0.2.183", "2001:db8:dddd:0:dc00::"},
		{"192.0.2.199", "2001:db8:eeee:b:8000::"},
		{"192.0.2.225", "64:ff9b::1"},
	} {
		v, a := toAddr(netip.MustParseAddr(c.four)).v4(), toAddr(netip.MustParseAddr(c.six))
		if got, ok := tab.to6(v); !ok || got != a {
			t.Errorf("%s: %v %v, want %s", c.four, netip6(got), ok, c.six)
		}
		if got, ok := tab.to4(a); !ok || got != v {
			t.Errorf("%s: %v %v, want %s", c.six, netip4(got), ok, c.four)
		}
	}
	if _, ok := tab.to6(toAddr(netip.MustParseAddr("192.0.2.3")).v4()); ok {
		t.Error("192.0.2.3 has no mapping")
	}
	// What IPv4 has no room for is ignored (3.3.2).
	if v, ok := tab.to4(toAddr(netip.MustParseAddr("2001:db8:dddd:0:6000::77"))); !ok || netip4(v).String() != "192.0.2.152" {
		t.Errorf("%v", netip4(v))
	}
}

// TestEAMLongest: overlapping prefixes, the longest wins on each side.
func TestEAMLongest(t *testing.T) {
	tab, err := newTable([]EAM{
		eam("2001:db8::/64", "198.51.100.0/24"),
		eam("2001:db8:0:0:8000::/66", "198.51.100.128/25"),
		eam("2001:db8:1::1/128", "198.51.100.200/32"),
		eam("2001:db8::/32", "203.0.113.0/24"),
		eam("2001:db8:0:0:4000::/128", "203.0.113.1/32"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for four, want := range map[string]string{
		"198.51.100.1": "2001:db8:0:0:100::", "198.51.100.129": "2001:db8:0:0:8080::", "198.51.100.200": "2001:db8:1::1",
		"203.0.113.1": "2001:db8:0:0:4000::", "203.0.113.2": "2001:db8:200::",
	} {
		if got, ok := tab.to6(toAddr(netip.MustParseAddr(four)).v4()); !ok || netip6(got) != netip.MustParseAddr(want) {
			t.Errorf("%s: %v", four, netip6(got))
		}
	}
	for six, want := range map[string]string{
		"2001:db8::1": "198.51.100.0", "2001:db8:0:0:8080::": "198.51.100.129", "2001:db8:1::1": "198.51.100.200",
		"2001:db8:0:0:4000::": "203.0.113.1", "2001:db8:1::2": "203.0.113.0", "2001:db8:200::": "203.0.113.2",
	} {
		if got, ok := tab.to4(toAddr(netip.MustParseAddr(six))); !ok || netip4(got).String() != want {
			t.Errorf("%s: %v, want %s", six, netip4(got), want)
		}
	}
}

// TestHosts fills host tables so that lines overflow, and finds everything, with
// and without the fast path.
func TestHosts(t *testing.T) {
	const n = 20000
	list := make([]EAM, n)
	for i := range list {
		a, _ := benchHost(uint64(i))
		v := 20<<24 | uint32(i)<<8 | uint32(a.lo)&0xff
		if i%3 == 0 {
			a.lo = 1 // the same interface identifier in many networks
			a.hi = 0x20010db9_00000000 | uint64(i)
		}
		list[i] = EAM{netip.PrefixFrom(netip6(a), 128), netip.PrefixFrom(netip4(v), 32)}
	}
	tab, err := newTable(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		a, v := toAddr(e.IPv6.Addr()), toAddr(e.IPv4.Addr()).v4()
		if got, ok := tab.to6(v); !ok || got != a {
			t.Fatalf("%v: %v", e, netip6(got))
		}
		if got, ok := tab.to4(a); !ok || got != v {
			t.Fatalf("%v: %v", e, netip4(got))
		}
		if _, ok := tab.to4(addr{a.hi, a.lo + 1<<40}); ok {
			t.Fatalf("%v: found a neighbour", e)
		}
	}
	full, over := 0, 0
	for _, h := range []hosts{tab.host4, tab.host6} {
		for i, l := range h.lines {
			if l.four[2] != 0 {
				full++
			}
			for j, v := range l.four {
				at := hash4(v)
				if &h.lines[0] == &tab.host6.lines[0] {
					at = hash6(l.mix[j])
				}
				if v != 0 && h.slot(at) != uint64(i) {
					over++
				}
			}
		}
	}
	if full < 100 || over < 20 {
		t.Errorf("%d full lines, %d mappings in another line: too few to show anything", full, over)
	}
	tr := mustNew(t, Config{Pool6: prefixes("64:ff9b::/96"), EAM: list})
	for _, e := range list {
		six, four := e.IPv6.Addr().String(), e.IPv4.Addr().String()
		p6, p4 := v6(six, server6, 17, udp(12)), v4(server, four, 17, udp(12))
		if r := run(t, tr, p6, Meta{}, 1500, 1500); !r.plan.quick || !bytes.Equal(r.out, withID(v4(four, server, 17, udp(12), ttl(63)), r.out)) {
			t.Fatalf("%v: %v, fast %v, %x", e, r.verdict, r.plan.quick, r.out)
		}
		if r := run(t, tr, p4, Meta{}, 1500, 1500); !r.plan.quick || !bytes.Equal(r.out, v6(server6, six, 17, udp(12), ttl(63))) {
			t.Fatalf("%v: %v, fast %v, %x", e, r.verdict, r.plan.quick, r.out)
		}
	}
	if _, ok := tab.to6(0); ok {
		t.Error("0.0.0.0 found")
	}
	if _, ok := tab.to4(addr{}); ok {
		t.Error(":: found")
	}
}
