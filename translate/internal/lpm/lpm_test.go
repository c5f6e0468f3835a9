package lpm

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// slow looks at every entry.
func slow(entries []Entry, hi, lo uint64) (value uint32, ok bool) {
	best := -1
	for _, e := range entries {
		mh, ml := mask(e.Bits)
		if hi&mh == e.Hi && lo&ml == e.Lo && e.Bits > best {
			best, value, ok = e.Bits, e.Value, true
		}
	}
	return value, ok
}

func TestTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		n := 1 + rnd.IntN(200)
		seen := map[Entry]bool{}
		var entries []Entry
		lens := []int{0, 1, 8, 9, 16, 24, 31, 32, 33, 48, 56, 63, 64, 65, 96, 120, 127, 128}
		if round%3 == 0 {
			lens = []int{0, 8, 16, 17, 24, 32}
		}
		if round%7 == 0 {
			lens = lens[:2]
		}
		for range n {
			bits := lens[rnd.IntN(len(lens))]
			mh, ml := mask(bits)
			// Few different bits, so that prefixes nest.
			hi, lo := rnd.Uint64()&0x8101_0101_8101_0101&mh, rnd.Uint64()&0x8101_0101_8101_0101&ml
			k := Entry{Hi: hi, Lo: lo, Bits: bits}
			if seen[k] {
				continue
			}
			seen[k] = true
			k.Value = rnd.Uint32()
			entries = append(entries, k)
		}
		tab, err := Build(entries)
		if err != nil {
			t.Fatal(err)
		}
		for range 500 {
			e := entries[rnd.IntN(len(entries))]
			hi, lo := e.Hi^rnd.Uint64()&rnd.Uint64()&0x8101_0101_8101_0101, e.Lo^rnd.Uint64()&0x8101_0101_8101_0101
			if rnd.IntN(4) == 0 {
				hi, lo = e.Hi, e.Lo
			}
			v, ok := tab.Lookup(hi, lo)
			wv, wok := slow(entries, hi, lo)
			if v != wv && ok || ok != wok {
				t.Fatalf("round %d, %x %x: %d %v, want %d %v", round, hi, lo, v, ok, wv, wok)
			}
		}
	}
}

func TestBuildErrors(t *testing.T) {
	for _, c := range []struct {
		want string
		list []Entry
	}{
		{"192.0.2.0/24 is there twice, with values 1 and 2", []Entry{{Hi: 0xc0000200 << 32, Bits: 24, Value: 1}, {Hi: 0xc0000200 << 32, Bits: 24, Value: 2}}},
		{"2001:db8::/48 is there twice", []Entry{{Hi: 0x20010db8 << 32, Bits: 48}, {Hi: 0x20010db8 << 32, Bits: 48}}},
		{"length 129", []Entry{{Bits: 129}}},
		{"length -1", []Entry{{Bits: -1}}},
		{"bits behind its length", []Entry{{Hi: 1, Bits: 63}}},
		{"bits behind its length", []Entry{{Lo: 1, Bits: 127}}},
	} {
		if _, err := Build(c.list); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.list, err)
		}
	}
}

func TestEmpty(t *testing.T) {
	tab, err := Build(nil)
	if err != nil || tab != nil {
		t.Fatal(tab, err)
	}
	if _, ok := tab.Lookup(1, 2); ok {
		t.Error("found in nothing")
	}
	tab, err = Build([]Entry{{Value: 7}})
	if v, ok := tab.Lookup(1, 2); err != nil || !ok || v != 7 {
		t.Error("a default route covers everything")
	}
}

func TestNoAllocations(t *testing.T) {
	tab, _ := Build([]Entry{{Bits: 0}, {Hi: 1 << 63, Bits: 1}, {Hi: 3 << 62, Bits: 2}})
	if n := testing.AllocsPerRun(10, func() { tab.Lookup(1<<63, 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var entries []Entry
	for i := range 100000 {
		bits := 16 + i%33
		h, _ := mask(bits)
		entries = append(entries, Entry{Hi: (0x2000_0000_0000_0000 | rnd.Uint64()>>3) & h, Bits: bits})
	}
	tab, err := Build(dedup(entries))
	if err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		tab.Lookup(entries[i%len(entries)].Hi, 0)
		i++
	}
}

func dedup(in []Entry) (out []Entry) {
	seen := map[Entry]bool{}
	for _, e := range in {
		if !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	return out
}
