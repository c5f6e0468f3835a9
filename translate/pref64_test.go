package translate

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// Embed and Extract undo each other at each length.
func TestPref64(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6052, 1))
	for _, bits := range Pref64Lengths {
		p, err := NewPref64(netip.PrefixFrom(netip.MustParseAddr("2001:db8:a5b6:c7d8:0:e9fa:1b2c:0"), bits).Masked())
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			v4 := netip4(rnd.Uint32N(100<<24) + 11<<24) // 11.0.0.0 to 110.255.255.255: none is refused
			v6, err := p.Embed(v4)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := p.Extract(v6); !ok || got != v4 {
				t.Fatalf("%v: %v became %v, read back as %v", p.Prefix(), v4, v6, got)
			}
			b := v6.As16()
			if bits < 64 { // bits 64 to 71 and the suffix do not matter
				b[8], b[15] = 1, 1
				if got, ok := p.Extract(netip.AddrFrom16(b)); !ok || got != v4 {
					t.Fatalf("%v: %v read back as %v", p.Prefix(), netip.AddrFrom16(b), got)
				}
			}
			b = v6.As16()
			b[0] ^= 0x10
			if _, ok := p.Extract(netip.AddrFrom16(b)); ok {
				t.Fatalf("%v: %v is outside", p.Prefix(), netip.AddrFrom16(b))
			}
		}
	}
}

func TestPref64Refuses(t *testing.T) {
	if _, err := NewPref64(netip.MustParsePrefix("64:ff9b::/95")); err == nil || !strings.Contains(err.Error(), "length 95") {
		t.Errorf("/95: %v", err)
	}
	known, err := NewPref64(wellKnownPrefix)
	if err != nil {
		t.Fatal(err)
	}
	own, err := NewPref64(netip.MustParsePrefix("2001:db8:64::/96"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		v4         string
		known, own bool
	}{
		{"140.82.121.6", true, true}, {"192.0.2.1", true, true},
		{"10.0.0.1", false, true}, {"192.0.0.170", false, true},
		{"127.0.0.1", false, false}, {"0.0.0.0", false, false}, {"224.0.0.1", false, false},
		{"2001:db8::1", false, false}, {"::ffff:140.82.121.6", false, false},
	} {
		v4 := netip.MustParseAddr(c.v4)
		if _, err := known.Embed(v4); (err == nil) != c.known {
			t.Errorf("%s behind the well-known prefix: %v", c.v4, err)
		}
		if _, err := own.Embed(v4); (err == nil) != c.own {
			t.Errorf("%s behind another prefix: %v", c.v4, err)
		}
	}
	for _, a := range []string{"64:ff9b::1%eth0", "1.2.3.4", "::ffff:1.2.3.4"} {
		if _, ok := known.Extract(netip.MustParseAddr(a)); ok {
			t.Errorf("%s was read as an IPv4 address", a)
		}
	}
}
