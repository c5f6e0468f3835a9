package cow

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// frozen is a container at one time and what its slow twin said then.
type frozen struct {
	m    *Map[int]
	l    *List[int]
	twin map[int]*int // by value; no two pointers in it have the same one
}

func (f *frozen) check(t *testing.T) {
	t.Helper()
	if f.m.Len() != len(f.twin) || f.l.Len() != len(f.twin) {
		t.Fatalf("map has %d, list %d, twin %d", f.m.Len(), f.l.Len(), len(f.twin))
	}
	seen := 0
	for key, p := range f.m.All() {
		if want := f.twin[*p]; want != p || key != name(*p) || f.m.Get(key) != p {
			t.Fatalf("map: %s leads to %p %d, twin has %p", key, p, *p, want)
		}
		seen++
	}
	if seen != len(f.twin) {
		t.Fatalf("map went through %d of %d", seen, len(f.twin))
	}
	order := slices.Sorted(maps.Keys(f.twin))
	i := 0
	for p := range f.l.All() {
		if f.twin[order[i]] != p {
			t.Fatalf("list: place %d has %d, twin %d", i, *p, order[i])
		}
		i++
	}
	if i != len(order) {
		t.Fatalf("list went through %d of %d", i, len(order))
	}
	for _, c := range f.l.chunks {
		if len(c.items) == 0 || len(c.items) >= most {
			t.Fatalf("a chunk of %d", len(c.items))
		}
	}
	from := rand.IntN(space + 2)
	want, _ := slices.BinarySearch(order, from)
	for p := range f.l.From(func(x *int) bool { return *x >= from }) {
		if *p != order[want] {
			t.Fatalf("from %d: %d, twin has %d", from, *p, order[want])
		}
		want++
		if want%100 == 0 {
			break
		}
	}
}

const space = 6000 // keys, so that lists have many chunks and shards several slots

func name(i int) string { return fmt.Sprintf("host%d.example", i) }

// Whatever is done, the newest has what a plain map has, and older ones never change.
func TestAgainstTwin(t *testing.T) {
	var old []frozen
	now := frozen{m: &Map[int]{}, l: NewList(func(a, b *int) int { return cmp.Compare(*a, *b) }), twin: map[int]*int{}}
	for round := range 120 {
		m, l, twin := now.m.Edit(), now.l.Edit(), maps.Clone(now.twin)
		size, grow := rand.IntN(100), rand.IntN(10)
		if round%20 == 19 {
			size = 2 * space // nearly all come, or go
			grow = round / 20 % 2 * 10
		}
		for range size {
			k := rand.IntN(space)
			if rand.IntN(10) < grow {
				v := k
				m.Set(name(k), &v)
				l.Set(&v)
				twin[k] = &v
			} else {
				m.Delete(name(k))
				l.Delete(&k)
				delete(twin, k)
			}
			if m.Get(name(k)) != twin[k] || m.Len() != len(twin) || l.Len() != len(twin) {
				t.Fatalf("round %d: edit differs at %d", round, k)
			}
		}
		next := frozen{m.Map(), l.List(), twin}
		next.check(t)
		now.check(t)
		checkDiff(t, now, next)
		if round%30 == 0 {
			old = append(old, now)
		}
		now = next
	}
	for i := range old {
		old[i].check(t)
		checkDiff(t, old[i], now)
	}
}

func checkDiff(t *testing.T, before, after frozen) {
	t.Helper()
	got := map[string][2]*int{}
	after.m.Diff(before.m, func(key string, was, is *int) {
		if _, twice := got[key]; twice || was == is {
			t.Fatalf("%s: told twice, or without a difference", key)
		}
		got[key] = [2]*int{was, is}
	})
	for k := range space {
		d := got[name(k)]
		if was, is := before.twin[k], after.twin[k]; was != is && d != [2]*int{was, is} || was == is && d != [2]*int{} {
			t.Fatalf("%d: %p became %p, and the difference says %p", k, was, is, d)
		}
	}
}

// What comes in order must not leave half-empty chunks: it is what a list does.
func TestListInOrder(t *testing.T) {
	e := NewList(func(a, b *int) int { return cmp.Compare(*a, *b) }).Edit()
	for i := range 10_000 {
		e.Set(&i)
	}
	l := e.List()
	if want := 10_000/(most-1) + 1; len(l.chunks) != want {
		t.Errorf("%d chunks, want %d", len(l.chunks), want)
	}
	d := l.Edit()
	for i := range 10_000 {
		if i%100 != 0 {
			d.Delete(&i)
		}
	}
	if l = d.List(); l.Len() != 100 || len(l.chunks) > 3 {
		t.Errorf("%d entries in %d chunks", l.Len(), len(l.chunks))
	}
}

func TestGetDoesNotAllocate(t *testing.T) {
	e := (&Map[int]{}).Edit()
	for i := range 1000 {
		e.Set(name(i), &i)
	}
	m := e.Map()
	if n := testing.AllocsPerRun(100, func() { m.Get("host7.example"); m.Get("nothing.example") }); n != 0 {
		t.Errorf("Get allocates %v times", n)
	}
}
