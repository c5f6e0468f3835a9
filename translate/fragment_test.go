package translate

import (
	"bytes"
	"fmt"
	"testing"
)

func TestFit(t *testing.T) {
	big4 := func(n int, opts ...opt) []byte {
		return v4(server, vmA4, 17, udp(n-20), append(opts, id(0x4321))...)
	}
	big6 := func(n int) []byte { return v6(vmA6, server6, 17, udp(n-40)) }
	frag6 := func(n int) []byte {
		return v6ext(vmA6, server6, 44, fragmentHeader(17, 1480, false, 5), bytesOf(n-48))
	}
	for _, c := range []struct {
		name   string
		config func(*Config)
		in     []byte
		mtu    int
		want   Verdict
		param  uint32 // of TooBig
		frags  []int  // lengths
	}{
		{name: "4_no_DF_1260_bytes_fit", in: big4(1260), mtu: 1500, want: Forward},
		{name: "4_no_DF_1261_bytes", in: big4(1261), mtu: 1500, want: Split, frags: []int{1280, 57}},
		{name: "4_no_DF_1500_bytes", in: big4(1500), mtu: 9000, want: Split, frags: []int{1280, 296}},
		{name: "4_no_DF_lowest_1500", config: func(c *Config) { c.LowestIPv6MTU = 1500 }, in: big4(1480), mtu: 1500, want: Forward},
		{name: "4_no_DF_lowest_over_MTU", config: func(c *Config) { c.LowestIPv6MTU = 1500 }, in: big4(1480), mtu: 1400, want: Split, frags: []int{1400, 156}},
		{name: "4_no_DF_9000_bytes", in: big4(9000), mtu: 9000, want: Split, frags: []int{1280, 1280, 1280, 1280, 1280, 1280, 1280, 404}},
		{name: "4_no_DF_fragment", in: v4(server, vmA4, 17, bytesOf(1400), frag(flagMF|185), id(5)), mtu: 1500, want: Split, frags: []int{1280, 216}},
		{name: "4_DF_fits", in: big4(1480, df), mtu: 1500, want: Forward},
		{name: "4_DF_too_big", in: big4(1481, df), mtu: 1500, want: TooBig4, param: 1480},
		{name: "4_DF_too_big_1280", in: big4(1400, df), mtu: 1280, want: TooBig4, param: 1260},
		{name: "4_DF_fragment_too_big", in: v4(server, vmA4, 17, bytesOf(1456), frag(flagDF|flagMF), id(5)), mtu: 1500, want: TooBig4, param: 1472},
		{name: "4_DF_fragment_fits", in: v4(server, vmA4, 17, bytesOf(1448), frag(flagDF|flagMF), id(5)), mtu: 1500, want: Forward},
		{name: "5_fits", in: big6(1520), mtu: 1500, want: Forward},
		{name: "5_too_big", in: big6(1521), mtu: 1500, want: TooBig6, param: 1520},
		{name: "5_too_big_for_small_link", in: big6(1281), mtu: 576, want: TooBig6, param: 1280},
		{name: "5.1.1_1280_bytes_small_link", in: big6(1280), mtu: 576, want: Split, frags: []int{572, 572, 156}},
		{name: "5.1.1_1280_bytes_smallest_link", in: big6(1280), mtu: 68, want: Split, frags: append(slicesRepeat(68, 25), 60)},
		{name: "5.1.1_1280_bytes_1259", in: big6(1280), mtu: 1259, want: Split, frags: []int{1252, 28}},
		{name: "5.1.1_1280_bytes_1260", in: big6(1280), mtu: 1260, want: Forward},
		{name: "5.1.1_fragment_small_link", in: frag6(1280), mtu: 576, want: Split, frags: []int{572, 572, 148}},
		{name: "5.1.1_fragment_too_big", in: frag6(1500), mtu: 1400, want: TooBig6, param: 1420},
		{name: "unknown_MTU", in: big6(9000), mtu: 0, want: Forward},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := usual()
			if c.config != nil {
				c.config(&conf)
			}
			for _, tr := range []*Translator{mustNew(t, conf), slowly(t, conf)} {
				r := run(t, tr, c.in, Meta{}, 1500, c.mtu)
				if r.verdict != c.want {
					t.Fatalf("%v, want %v", r.verdict, c.want)
				}
				if c.param != 0 && r.plan.param != c.param {
					t.Errorf("MTU %d, want %d", r.plan.param, c.param)
				}
				if c.want != Forward && c.want != Split {
					continue
				}
				verify(t, c.in, Meta{}, r, 1<<20)
				var lens []int
				for _, f := range r.frags {
					lens = append(lens, len(f))
				}
				if fmt.Sprint(lens) != fmt.Sprint(c.frags) {
					t.Errorf("fragments of %v bytes, want %v", lens, c.frags)
				}
			}
		})
	}
}

func slicesRepeat(x, n int) (s []int) {
	for range n {
		s = append(s, x)
	}
	return s
}

// TestSplitIdentification: the Fragment Header has the IPv4 identification in
// its low half (RFC 7915 4.1), a generated one otherwise is the same in all.
func TestSplitIdentification(t *testing.T) {
	for _, tr := range []*Translator{mustNew(t, usual()), slowly(t, usual())} {
		r := run(t, tr, v4(server, vmA4, 6, tcp(1400), id(0xfedc)), Meta{}, 1500, 1500)
		for _, f := range r.frags {
			if v, _ := look(f); v.id != 0xfedc {
				t.Errorf("identification %x", v.id)
			}
		}
		r = run(t, tr, v6(vmA6, server6, 6, tcp(1240)), Meta{}, 1500, 576)
		first, _ := look(r.frags[0])
		if first.id == 0 || first.df || len(r.frags) != 3 {
			t.Errorf("identification %x, DF %v, %d fragments", first.id, first.df, len(r.frags))
		}
	}
}

// TestIdentification: all values before one comes again (RFC 7915 5.1, RFC 6864).
func TestIdentification(t *testing.T) {
	for _, seed := range []uint64{0, 1, 2, 1 << 63, 0xdeadbeef} {
		s := NewState(seed)
		seen := make([]bool, 65536)
		for range 65536 {
			x := s.next()
			if x > 0xffff || seen[x] {
				t.Fatalf("seed %d: %d comes again", seed, x)
			}
			seen[x] = true
		}
	}
	a, b := NewState(1), NewState(2)
	var x, y []byte
	for range 8 {
		x, y = append(x, byte(a.next())), append(y, byte(b.next()))
	}
	if bytes.Equal(x, y) {
		t.Error("two seeds, one sequence")
	}
}
