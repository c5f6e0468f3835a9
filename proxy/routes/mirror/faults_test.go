package mirror

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

// differs tells what a mirror has that one which reads everything now has not.
func (w *world) differs(n *node) error { return n.differs(w.store) }

// known are all entries but the tally, which nodes write when they like.
func (v *View) known() map[string]store.Entry {
	all := map[string]store.Entry{}
	for e := range v.entries() {
		if e.Key != catalog.TallyKey {
			all[e.Key] = e
		}
	}
	return all
}

func (n *node) differs(s store.Store) error {
	n.t.Helper()
	table := &routes.Table{}
	fresh := New(Config{Table: table, Reach: reach})
	if _, err := fresh.list(context.Background(), s, needFirst); err != nil {
		n.t.Fatal(err)
	}
	want, got := fresh.View(), n.View()
	if got.counts != want.counts || got.sum != want.sum {
		return fmt.Errorf("counts %+v sum %x, want %+v %x", got.counts, got.sum, want.counts, want.sum)
	}
	a, b := got.known(), want.known()
	for key, e := range b {
		if x := a[key]; !bytes.Equal(x.Value, e.Value) || x.Created != e.Created || x.Modified != e.Modified {
			return fmt.Errorf("%s: %d %d %s, want %d %d %s", key, x.Created, x.Modified, x.Value, e.Created, e.Modified, e.Value)
		}
	}
	if len(a) != len(b) {
		return fmt.Errorf("%d entries, want %d", len(a), len(b))
	}
	for _, name := range []string{"shop", "blog", "new"} {
		x, _ := got.ProxiesOf(name, "", "", 1000)
		y, _ := want.ProxiesOf(name, "", "", 1000)
		if fmt.Sprint(x) != fmt.Sprint(y) || got.ProjectCounts(name) != want.ProjectCounts(name) {
			return fmt.Errorf("project %s: %v, want %v", name, x, y)
		}
	}
	if c := n.table.Load().Changes(table.Load()); c.Any() {
		return fmt.Errorf("routes differ: %+v", c)
	}
	return nil
}

// someChange commits a change or a few.
func (w *world) someChange() store.Revision {
	t := store.Txn{}
	seen := map[string]bool{}
	for range 1 + rand.IntN(3) {
		project := []string{"shop", "blog", "new"}[rand.IntN(3)]
		host := fmt.Sprintf("h%d.d%d.example", rand.IntN(3), rand.IntN(8))
		if rand.IntN(4) == 0 {
			host = "*" + host[2:]
		}
		put := proxyPut(project, host, uint16(80+rand.IntN(2)))
		if rand.IntN(8) == 0 {
			put = projectPut(project, []string{"2001:db8:64:1::/64", "2001:db8:64:2::/64", "2001:db8:64::/48"}[rand.IntN(3)])
		}
		if seen[put.Key] {
			continue
		}
		seen[put.Key] = true
		if rand.IntN(4) == 0 {
			t.Delete = append(t.Delete, put.Key)
		} else {
			t.Put = append(t.Put, put)
		}
	}
	r, err := w.store.Commit(context.Background(), t)
	must(w.t, err)
	return r
}

// Whatever is committed while whatever is broken, every node has in the end what
// a new one would read.
func TestFaults(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	w.store = openBolt(t, filepath.Join(w.dir, "store"), bolt.Options{History: 20})
	w.project("shop", "2001:db8:64:1::/64")
	settings := func(name string) func(*Config, *times) {
		return func(c *Config, m *times) {
			c.Disk = filepath.Join(w.dir, name)
			c.Reconcile = 30 * time.Millisecond
			m.mute, m.catchUp = 50*time.Millisecond, 3*time.Second
		}
	}
	names := []string{"a", "b", "c"}
	var nodes []*node
	for _, name := range names {
		nodes = append(nodes, w.start(name, settings(name)))
	}
	var relists, repaired uint64
	for round := range 25 {
		for range 1 + rand.IntN(4) {
			i := rand.IntN(len(nodes))
			n := nodes[i]
			switch rand.IntN(5) {
			case 0:
				n.wire.set(func(w *wire) { w.cut = true })
			case 1:
				n.wire.set(func(w *wire) { w.drop = func(store.Change) bool { return rand.IntN(3) == 0 } })
			case 2:
				s := n.Stats()
				relists, repaired = relists+s.Relists, repaired+s.Repaired
				n.end() // and again, from its disk
				nodes[i] = w.start(names[i], settings(names[i]))
			case 3:
				// What is known of the past goes.
				for range 30 {
					w.someChange()
				}
			}
			for range rand.IntN(5) {
				w.someChange()
			}
		}
		last := w.someChange()
		for _, n := range nodes {
			n.wire.set(func(w *wire) { w.cut, w.drop = false, nil })
		}
		for i, n := range nodes {
			var err error
			t.Cleanup(func() {
				if t.Failed() && err != nil {
					t.Log(err)
				}
			})
			n.wait(fmt.Sprintf("round %d: node %s is as the store", round, names[i]), func() bool {
				if n.View().Revision < last {
					return false
				}
				err = w.differs(n)
				return err == nil
			})
			if s := n.Stats(); s.Doubt != "" {
				t.Fatalf("node %s has doubts: %s", names[i], s.Doubt)
			}
		}
	}
	for _, n := range nodes {
		s := n.Stats()
		relists, repaired = relists+s.Relists, repaired+s.Repaired
	}
	if relists == 0 || repaired == 0 {
		t.Errorf("%d lists and %d repairs: this test has not tried what it is for", relists, repaired)
	}
}

// What a watch leaves out is noticed by comparing, put right, and told.
func TestDrift(t *testing.T) {
	t.Parallel()
	for _, alone := range []bool{true, false} {
		t.Run(fmt.Sprintf("alone %v", alone), func(t *testing.T) {
			w := newWorld(t)
			often := func(c *Config, m *times) { c.Reconcile = 50 * time.Millisecond }
			n := w.start("a", often)
			if !alone {
				// With others, it learns from what they count; here they count everything.
				w.start("b", often)
				n.wait("two nodes", func() bool { return n.Stats().Nodes == 2 })
			}
			kept := w.proxy("shop", "kept.example")
			n.at(kept)
			route := n.table.Load().Lookup("kept.example")
			n.wire.set(func(w *wire) {
				w.drop = func(c store.Change) bool { return c.Key == catalog.ProxyPrefix+"lost.example" }
			})
			n.at(w.proxy("shop", "lost.example"))
			n.wait("the lost one", func() bool { return n.has("lost.example") })
			n.wait("figures, and words", func() bool {
				return n.Stats().Repaired == 1 && n.log.count("true", "not as in the store") > 0
			})
			if s := n.Stats(); s.Relists != 1 || n.log.count("true", "not as in the store") != 1 {
				t.Errorf("%+v\n%v", s, n.log)
			}
			if n.table.Load().Lookup("kept.example") != route {
				t.Error("a route that has not changed is another one")
			}
		})
	}
}

// A watch that only says that nothing happens is found out.
func TestStuckWatch(t *testing.T) {
	t.Parallel()
	for _, alone := range []bool{true, false} {
		w := newWorld(t)
		often := func(c *Config, m *times) { c.Reconcile, m.catchUp = 50*time.Millisecond, 300*time.Millisecond }
		n := w.start("a", often)
		if !alone {
			other := w.start("b", often)
			n.wait("two nodes", func() bool { return n.Stats().Nodes == 2 && other.Stats().Nodes == 2 })
		}
		n.wait("all is well", func() bool { return n.Stats().Tallies > 0 })
		n.wire.set(func(w *wire) { w.stuck = true })
		w.proxy("shop", "a.example")
		n.wait("the route", func() bool { return n.has("a.example") })
		if s := n.Stats(); s.Relists == 0 || s.Stuck == 0 && !alone {
			t.Errorf("alone %v: %+v", alone, s)
		}
	}
}

// However many nodes there are, few of them count.
func TestOneCountsForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const every = 400 * time.Millisecond
	var nodes []*node
	for i := range 12 {
		nodes = append(nodes, w.start(fmt.Sprint("n", i), func(c *Config, _ *times) { c.Reconcile = every }))
	}
	for _, n := range nodes {
		n.wait("tallies", func() bool { s := n.Stats(); return s.Tallies >= 3 && s.Nodes == 12 })
	}
	lists, least := 0, uint64(1<<62)
	for _, n := range nodes {
		n.wire.set(func(w *wire) { lists += w.lists[catalog.Serving] })
		least = min(least, n.Stats().Tallies)
		if s := n.Stats(); s.Relists != 0 || s.Repaired != 0 {
			t.Errorf("%+v", s)
		}
	}
	// Each has read everything once at the start; and once more before it knew the others.
	if counted := lists - len(nodes); counted > len(nodes)+3*int(least+2) {
		t.Errorf("%d lists for %d comparisons of each of %d nodes", counted, least, len(nodes))
	}
}
