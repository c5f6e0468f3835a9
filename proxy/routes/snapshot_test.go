package routes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// twin is a snapshot in two of Go's maps: what Snapshot once was.
type twin struct{ exact, wild map[string]*Route }

func newTwin() *twin { return &twin{map[string]*Route{}, map[string]*Route{}} }

func (t *twin) with(changes ...Change) *twin {
	n := &twin{maps.Clone(t.exact), maps.Clone(t.wild)}
	for _, c := range changes {
		m, key := n.exact, c.Host
		if parent, ok := strings.CutPrefix(c.Host, "*."); ok {
			m, key = n.wild, parent
		}
		if m[key] = c.Route; c.Route == nil {
			delete(m, key)
		}
	}
	return n
}

func (t *twin) lookup(host string) *Route {
	if r := t.exact[host]; r != nil {
		return r
	}
	_, parent, _ := strings.Cut(host, ".")
	return t.wild[parent]
}

// lookupBoth is the rule for two layers, as it is told: specific first, then operator.
func lookupBoth(operator, shared *twin, host string) *Route {
	_, parent, _ := strings.Cut(host, ".")
	for _, r := range []*Route{operator.exact[host], shared.exact[host], operator.wild[parent], shared.wild[parent]} {
		if r != nil {
			return r
		}
	}
	return nil
}

func someHost() string {
	host := fmt.Sprintf("h%d.d%d.example", rand.IntN(4), rand.IntN(20))
	if rand.IntN(4) == 0 {
		_, host, _ = strings.Cut(host, ".")
		return "*." + host
	}
	return host
}

func someChanges() (list []Change) {
	for range rand.IntN(8) {
		c := Change{Host: someHost()}
		if rand.IntN(5) > 1 {
			c.Route = &Route{Host: c.Host, HTTP: uint16(1 + rand.IntN(3)), Backends: []netip.Addr{netip.IPv6LinkLocalAllNodes()}}
		}
		list = append(list, c)
	}
	return list
}

func TestSnapshotWith(t *testing.T) {
	s, w := &Snapshot{}, newTwin()
	for round := range 2000 {
		changes := someChanges()
		next, nextTwin := s.With(uint64(round), changes...), w.with(changes...)
		for _, pair := range []struct {
			s *Snapshot
			w *twin
		}{{s, w}, {next, nextTwin}} {
			if pair.s.Len() != len(pair.w.exact)+len(pair.w.wild) {
				t.Fatalf("round %d: %d routes, twin has %d and %d", round, pair.s.Len(), len(pair.w.exact), len(pair.w.wild))
			}
			for range 20 {
				if host := strings.Replace(someHost(), "*", "x", 1); pair.s.Lookup(host) != pair.w.lookup(host) {
					t.Fatalf("round %d: %s: %v, twin has %v", round, host, pair.s.Lookup(host), pair.w.lookup(host))
				}
			}
		}
		n := 0
		next.Each(func(r *Route) bool {
			n++
			if next.Get(r.Host) != r {
				t.Fatalf("round %d: %s is not what Get gives", round, r.Host)
			}
			return true
		})
		if n != next.Len() {
			t.Fatalf("round %d: Each gives %d of %d", round, n, next.Len())
		}
		if want := countChanges(w, nextTwin); next.Changes(s) != want {
			t.Fatalf("round %d: %+v, twin %+v", round, next.Changes(s), want)
		}
		s, w = next, nextTwin
	}
}

func countChanges(before, after *twin) (c Changes) {
	for i, now := range []map[string]*Route{after.exact, after.wild} {
		old := []map[string]*Route{before.exact, before.wild}[i]
		for host, r := range now {
			switch o := old[host]; {
			case o == nil:
				c.Added++
			case !r.Same(o):
				c.Changed++
			}
		}
		for host := range old {
			if now[host] == nil {
				c.Removed++
			}
		}
	}
	return c
}

// Whatever the order of changes in both layers, the rule between them holds.
func TestTableLayers(t *testing.T) {
	var table Table
	twins := [numLayers]*twin{newTwin(), newTwin()}
	for round := range 4000 {
		l := Layer(rand.IntN(int(numLayers)))
		switch rand.IntN(20) {
		case 0: // all go
			table.Put(l, &Snapshot{})
			twins[l] = newTwin()
		case 1: // all new, as a file is
			twins[l] = newTwin().with(someChanges()...)
			var list []Route
			for _, m := range []map[string]*Route{twins[l].exact, twins[l].wild} {
				for _, r := range m {
					list = append(list, *r)
				}
			}
			s, err := NewSnapshot(1, list)
			if err != nil {
				t.Fatal(err)
			}
			twins[l] = newTwin()
			s.Each(func(r *Route) bool { twins[l] = twins[l].with(Change{r.Host, r}); return true })
			table.Put(l, s)
		default:
			changes := someChanges()
			table.Put(l, table.Of(l).With(uint64(round), changes...))
			twins[l] = twins[l].with(changes...)
		}
		same := 0
		for host := range twins[Shared].exact {
			if twins[Operator].exact[host] != nil {
				same++
			}
		}
		for host := range twins[Shared].wild {
			if twins[Operator].wild[host] != nil {
				same++
			}
		}
		if table.Hidden() != same {
			t.Fatalf("round %d: %d hidden, want %d", round, table.Hidden(), same)
		}
		now := table.Load()
		for range 40 {
			host := strings.Replace(someHost(), "*", "x", 1)
			if got, want := now.Lookup(host), lookupBoth(twins[Operator], twins[Shared], host); got != want {
				t.Fatalf("round %d: %s: %v, want %v", round, host, got, want)
			}
		}
	}
}

func TestTwoRoutesForOneHost(t *testing.T) {
	for _, host := range []string{"a.example", "*.b.example"} {
		if _, err := NewSnapshot(1, []Route{{Host: host}, {Host: host}}); err == nil {
			t.Errorf("%s twice is no error", host)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	var table Table
	list, _ := manyRoutes(1000)
	s, err := NewSnapshot(1, list)
	if err != nil {
		t.Fatal(err)
	}
	table.Put(Shared, s)
	table.Store((&Snapshot{}).With(1, Change{"*.w.example", &Route{Host: "*.w.example"}}))
	for _, host := range []string{list[7].Host, "x.w.example", "nobody.example", "example"} {
		if n := testing.AllocsPerRun(100, func() { table.Load().Lookup(host) }); n != 0 {
			t.Errorf("looking up %s allocates %v times", host, n)
		}
	}
}

// manyRoutes makes routes, and names to ask for in random order, in memory of their own
// as those of clients are.
func manyRoutes(n int) (list []Route, ask []string) {
	list = make([]Route, n)
	for i := range list {
		list[i] = Route{Host: fmt.Sprintf("www.shop%07d.customer.example", i), Backends: []netip.Addr{netip.IPv6LinkLocalAllNodes()}, HTTP: 80}
	}
	ask = make([]string, 1<<16)
	for i := range ask {
		ask[i] = strings.Clone(list[rand.IntN(n)].Host)
	}
	return list, ask
}

var found *Route

// Beside what Snapshot once was, turn by turn: only the ratio means something. The
// time of a lookup is the median of the turns.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		list, ask := manyRoutes(n)
		s, err := NewSnapshot(1, list)
		if err != nil {
			b.Fatal(err)
		}
		var both Table // with a route in the other layer
		both.Put(Shared, s)
		both.Store((&Snapshot{}).With(1, Change{"*.w.example", &Route{Host: "*.w.example"}}))
		w := newTwin()
		for i := range list {
			w.exact[list[i].Host] = &list[i]
		}
		w.wild["w.example"] = &Route{}
		ways := []struct {
			name   string
			lookup func(string) *Route
			times  []float64
		}{
			{name: "maps", lookup: w.lookup}, {name: "snapshot", lookup: s.Lookup},
			{name: "table", lookup: func(host string) *Route { return both.Load().Lookup(host) }},
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			const turn = 1 << 10
			for i := 0; b.Loop(); i++ {
				for w := range ways {
					part := ask[(i*len(ways)+w)*turn%len(ask):][:turn]
					began := time.Now()
					for _, host := range part {
						found = ways[w].lookup(host)
					}
					ways[w].times = append(ways[w].times, float64(time.Since(began))/turn)
				}
			}
			b.ReportMetric(0, "ns/op")
			for w := range ways {
				slices.Sort(ways[w].times)
				b.ReportMetric(ways[w].times[len(ways[w].times)/2], "ns/"+ways[w].name)
			}
		})
	}
}

func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		list, ask := manyRoutes(n)
		s, err := NewSnapshot(1, list)
		if err != nil {
			b.Fatal(err)
		}
		var alone, both Table
		alone.Put(Shared, s)
		both.Put(Shared, s)
		both.Store((&Snapshot{}).With(1, Change{"*.w.example", &Route{Host: "*.w.example"}}))
		for name, table := range map[string]*Table{"alone": &alone, "with a file": &both} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					host := ask[i%len(ask)]
					table.Put(Shared, table.Of(Shared).With(1, Change{host, &Route{Host: host}}))
				}
			})
		}
		if n > 100_000 {
			continue
		}
		b.Run(fmt.Sprintf("%d/all anew", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if s, err = NewSnapshot(1, list); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
