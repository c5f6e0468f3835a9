package translate

import (
	"math/rand/v2"
	"testing"
)

// TestSum compares with adding words one by one.
func TestSum(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	b := make([]byte, 3000)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	ones := make([]byte, 3000)
	for i := range ones {
		ones[i] = 0xff
	}
	for n := range 300 {
		for _, src := range [][]byte{b, ones} {
			at := rnd.IntN(2000)
			if got, want := sum(src[at:at+n]), slowSum(src[at:at+n]); !same(got, want) || (got == 0) != (want == 0) {
				t.Fatalf("%d bytes: %04x, want %04x", n, got, want)
			}
		}
	}
	if got, want := sum(b), slowSum(b); got != want {
		t.Errorf("%04x, want %04x", got, want)
	}
}

// TestRFC1624 has the example of RFC 1624 4: the field that equation 2 gets wrong.
func TestRFC1624(t *testing.T) {
	if got := update(0xdd2f, difference(0x3285, 0x5555), 0xffff); got != 0x0000 {
		t.Errorf("%04x, want 0000", got)
	}
}

// TestUpdate compares with summing everything again.
func TestUpdate(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	for range 100000 {
		var old, changed [40]byte
		for i := range old {
			old[i], changed[i] = byte(rnd.Uint32()), byte(rnd.Uint32())
		}
		copy(changed[16:], old[16:])
		field := ^slowSum(old[:])
		d := difference(uint64(slowSum(changed[:16])), uint64(slowSum(old[:16])))
		if got, want := update(field, d, 0xffff), ^slowSum(changed[:]); !same(got, want) {
			t.Fatalf("%04x, want %04x", got, want)
		}
		if got, want := update(slowSum(old[:]), d, 0), slowSum(changed[:]); !same(got, want) {
			t.Fatalf("partial: %04x, want %04x", got, want)
		}
	}
}

func TestFold(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	for i := range 100000 {
		s, u := rnd.Uint64()>>(i%64), rnd.Uint64()
		if i == 0 {
			s = ^uint64(0)
		}
		if got := fold(s); !same(got, uint16(s%0xffff)) || (got == 0) != (s == 0) {
			t.Fatalf("fold %x: %04x", s, got)
		}
		want := (s%0xffff + u%0xffff) % 0xffff
		if got := fold(plus(s, u)); !same(got, uint16(want)) {
			t.Fatalf("%x plus %x: %04x, want %04x", s, u, got, want)
		}
	}
}
