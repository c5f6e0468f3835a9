package translate

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

// sameVerdict fails unless Trace ends with the verdict that the data plane comes
// to, and changes nothing.
func sameVerdict(t *testing.T, tr *Translator, p []byte, m Meta, mtuIn, mtuOut int) []Step {
	t.Helper()
	var pl Plan
	want := tr.Decide(&pl, p, m)
	if want.Action() == Emit {
		want = tr.Fit(&pl, mtuIn, mtuOut)
	}
	before := bytes.Clone(p)
	steps := tr.Trace(p, m, mtuIn, mtuOut)
	if !bytes.Equal(p, before) {
		t.Fatalf("Trace changed the packet %x", before)
	}
	if len(steps) == 0 {
		t.Fatalf("no step for %x", p)
	}
	if last := steps[len(steps)-1]; last.Verdict != want {
		t.Fatalf("the data plane says %v, Trace %+v, for %x, %+v, MTUs %d and %d", want, steps, p, m, mtuIn, mtuOut)
	}
	for _, s := range steps[:len(steps)-1] {
		if s.Verdict != Forward {
			t.Fatalf("a step in between has verdict %v: %+v", s.Verdict, steps)
		}
	}
	return steps
}

// FuzzTrace: what people are told is what the data plane does.
func FuzzTrace(f *testing.F) {
	var trs []*Translator
	for _, edit := range []func(*Config){
		func(*Config) {},
		func(c *Config) {
			c.Pool6 = []netip.Prefix{netip.MustParsePrefix("2001:db8:100::/40"), wellKnownPrefix}
			c.EAM = append(c.EAM, EAM{netip.MustParsePrefix("2001:db8:7::/48"), netip.MustParsePrefix("198.51.100.0/24")})
			c.Deny4, c.LowestIPv6MTU = []netip.Prefix{netip.MustParsePrefix("203.0.113.128/25")}, 1500
			c.TOS, c.Hairpin, c.UDPZeroChecksum = TOS{true, 3}, HairpinSimple, UDPZeroDrop
			c.ICMPSource4, c.ICMPSource6 = []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25")}, []netip.Prefix{netip.MustParsePrefix("2001:db8:ff::/120")}
			c.Local4, c.Local6 = []netip.Addr{netip.MustParseAddr("203.0.113.9")}, []netip.Addr{netip.MustParseAddr("2001:db8::9")}
		},
		func(c *Config) { c.Pool6 = nil },
	} {
		c := usual()
		edit(&c)
		tr, err := New(c)
		if err != nil {
			f.Fatal(err)
		}
		trs = append(trs, tr)
	}
	for _, p := range [][]byte{
		{}, {0x50},
		v6(vmA6, server6, 6, tcp(30)), v4(server, vmA4, 17, udp(30)),
		v6(vmA6, "64:ff9b::"+vmB4, 58, icmpMessage(128, 0, 1, nil)),
		v4(server, vmA4, 6, tcp(1480), frag(flagDF)), v4(server, vmA4, 17, udp(1400)),
		v4(server, vmA4, 1, icmpMessage(3, 4, 1400, v4(vmA4, server, 6, tcp(20)))),
		v6(vmA6, server6, 58, icmpMessage(4, 0, 7, v6(server6, vmA6, 6, tcp(20)))),
		v6ext(vmA6, server6, 43, []byte{6, 0, 0, 1, 0, 0, 0, 0}, tcp(20)),
		v6ext(vmA6, server6, 44, fragmentHeader(17, 64, true, 9), bytesOf(64)),
		v4options(server, vmA4, 6, []byte{131, 7, 4, 1, 2, 3, 4, 0}, tcp(30)),
	} {
		f.Add(p, false, uint16(0), uint16(1500), uint16(1500), uint8(0))
		f.Add(p, true, uint16(8), uint16(0), uint16(600), uint8(1))
	}
	f.Fuzz(func(t *testing.T, p []byte, partial bool, segment, mtuIn, mtuOut uint16, which uint8) {
		if which&0x80 == 0 && len(p) >= header4Len {
			p = fix(bytes.Clone(p)) // or hardly any would get past its header checksum
		}
		steps := sameVerdict(t, trs[int(which&0x7f)%len(trs)], p, Meta{PartialChecksum: partial, SegmentSize: segment}, int(mtuIn), int(mtuOut))
		for _, s := range steps {
			if s.Text == "" || strings.Contains(s.Text, "%!") || strings.Contains(s.Text, "  ") {
				t.Errorf("step %+v", s)
			}
		}
	})
}

// TestTraceNamesTheEntry: the entry that is named is the one that maps.
func TestTraceNamesTheEntry(t *testing.T) {
	c := Config{
		Pool6: []netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96"), wellKnownPrefix},
		EAM: []EAM{
			{netip.MustParsePrefix("2001:db8:1::/48"), netip.MustParsePrefix("192.0.2.0/24")},
			{netip.MustParsePrefix("2001:db8:1:800::/56"), netip.MustParsePrefix("198.51.100.0/28")},
			{netip.MustParsePrefix("2001:db8:2::5/128"), netip.MustParsePrefix("192.0.2.5/32")},
			{netip.MustParsePrefix("2001:db8:3::/64"), netip.MustParsePrefix("192.0.2.6/32")},
		},
	}
	tr := mustNew(t, c)
	for _, tt := range []struct {
		name, topic, want string
		p                 []byte
	}{
		{"3.3.2_longest_IPv6_prefix", "source", "eam[1] (2001:db8:1:800::/56 = 198.51.100.0/28)", v6("2001:db8:1:830::", server6, 6, tcp(20))},
		{"3.3.2_host", "source", "eam[2] (2001:db8:2::5/128 = 192.0.2.5/32)", v6("2001:db8:2::5", server6, 6, tcp(20))},
		{"3.3.1_longest_IPv4_prefix", "destination", "eam[2] (2001:db8:2::5/128 = 192.0.2.5/32)", v4(server, "192.0.2.5", 6, tcp(20))},
		{"3.3.1_shorter_IPv4_prefix", "destination", "eam[0] (2001:db8:1::/48 = 192.0.2.0/24)", v4(server, "192.0.2.7", 6, tcp(20))},
		{"3.1_unequal_suffixes", "destination", "eam[3] (2001:db8:3::/64 = 192.0.2.6/32)", v4(server, "192.0.2.6", 6, tcp(20))},
		{"RFC6052_2.2_first_pool", "source", "under pool6 prefix 2001:db8:64::/96", v4(server, "192.0.2.6", 6, tcp(20))},
		{"RFC6052_2.3_second_pool", "destination", "under pool6 prefix 64:ff9b::/96", v6("2001:db8:2::5", server6, 6, tcp(20))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := ""
			for _, s := range sameVerdict(t, tr, tt.p, Meta{}, 1500, 1500) {
				if s.Topic == tt.topic {
					found += s.Text
				}
			}
			if !strings.Contains(found, tt.want) {
				t.Errorf("%s: %q, want %q in it", tt.topic, found, tt.want)
			}
		})
	}
}
