package mirror

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

// replaced is a world whose store is another one now, as of a machine that was
// set up anew; the node has been away meanwhile.
func (w *world) replaced(n *node, path string) {
	w.t.Helper()
	n.wire.set(func(w *wire) { w.cut = true })
	n.wait("down", func() bool { return !n.Stats().Up })
	must(w.t, w.store.Close())
	w.store = openBolt(w.t, path, bolt.Options{})
	n.wire.set(func(x *wire) { x.Store, x.cut = w.store, false })
}

func TestDoubt(t *testing.T) {
	t.Parallel()
	type setup func(w *world, path string)
	empty := func(*world, string) {}
	// commits makes a store's revision as high as one likes.
	commits := func(s store.Store, n int) {
		for range n {
			_, err := s.Commit(context.Background(), store.Txn{Put: []store.Put{{Key: "x"}}})
			must(t, err)
		}
	}
	fill := func(before int, puts ...store.Put) setup {
		return func(w *world, path string) {
			s := openBolt(w.t, path, bolt.Options{})
			commits(s, before)
			_, err := s.Commit(context.Background(), store.Txn{Put: puts})
			must(w.t, err)
			must(w.t, s.Close())
		}
	}
	all := []store.Put{projectPut("shop", "2001:db8:64:1::/64"), projectPut("blog", "2001:db8:64:2::/64"), proxyPut("shop", "a.example", 81), proxyPut("shop", "b.example", 81)}
	for _, c := range []struct {
		name   string
		new    setup
		doubts bool
	}{
		{"emptied", empty, true},
		{"emptied, and far ahead", fill(50, projectPut("other", "2001:db8:64:3::/64")), true},
		{"something else", fill(0, projectPut("other", "2001:db8:64:3::/64"), proxyPut("other", "o.example", 80)), true},
		{"half of it", fill(0, all[:3]...), true},
		{"all of it, as after a migration", fill(0, all...), false},
		{"all of it and more", fill(100, append(all, proxyPut("shop", "c.example", 80))...), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			n := w.start("a", withDisk(filepath.Join(w.dir, "copy")))
			w.proxy("shop", "a.example")
			n.at(w.proxy("shop", "b.example"))
			path := filepath.Join(w.dir, "other")
			c.new(w, path)
			w.replaced(n, path)
			if !c.doubts {
				n.wait("the new ports", func() bool {
					r := n.table.Load().Lookup("b.example")
					return r != nil && r.HTTP == 81
				})
				n.wait("the same as the store", func() bool { return w.differs(n) == nil })
				return
			}
			n.wait("doubt", func() bool { return n.Stats().Doubt != "" && n.log.count("true", "isthmus routes accept") > 0 })
			if s := n.Stats(); !n.has("a.example") || !n.has("b.example") || !s.Up || n.log.count("true", "isthmus routes accept") != 1 {
				t.Errorf("%+v\n%v", s, n.log)
			}
			// Nor does a restart make it believe.
			n.end()
			n = w.start("a", withDisk(filepath.Join(w.dir, "copy")))
			n.wait("doubt again", func() bool { return n.Stats().Doubt != "" })
			if !n.has("b.example") {
				t.Error("a restart has lost a route")
			}
			must(t, catalog.New(w.store, catalog.Options{}).Accept(t.Context(), catalog.Actor{By: "operator"}))
			n.wait("believed", func() bool { return n.Stats().Doubt == "" && w.differs(n) == nil })
			if n.has("b.example") {
				t.Error("still served what is not in the store")
			}
			n.at(w.put(all...))
			if !n.has("b.example") {
				t.Error("changes after it do not come")
			}
		})
	}
}

// The right store ends doubts about a wrong one by being there again.
func TestRightStoreAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", nil)
	n.at(w.proxy("shop", "a.example"))
	w.replaced(n, filepath.Join(w.dir, "other"))
	n.wait("doubt", func() bool { return n.Stats().Doubt != "" })
	nodes := catalog.New(w.store, catalog.Options{})
	n.wait("the node says so there", func() bool {
		list, err := nodes.Nodes(t.Context())
		return err == nil && len(list) == 1 && list[0].Problem == n.Stats().Doubt && list[0].Applied == 0
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := n.WaitFor(ctx, 1); err == nil {
		t.Error("a revision of a store that is not believed is said to be in force")
	}
	w.replaced(n, filepath.Join(w.dir, "store"))
	n.wait("believed", func() bool { return n.Stats().Doubt == "" })
	n.at(w.proxy("shop", "b.example"))
	if !n.has("a.example") || !n.has("b.example") {
		t.Error("not what it was")
	}
}

// A store that is as it was some time ago has lost what came since. That is put
// back by hand, or an operator says that it is gone.
func TestRestored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", nil)
	n.at(w.proxy("shop", "a.example"))
	backup := filepath.Join(w.dir, "backup")
	must(t, w.store.Close())
	copyFile(t, filepath.Join(w.dir, "store"), backup)
	w.store = openBolt(t, filepath.Join(w.dir, "store"), bolt.Options{})
	n.wire.set(func(x *wire) { x.Store = w.store })
	w.remove(catalog.ProxyPrefix + "a.example")
	n.at(w.proxy("shop", "b.example"))
	w.replaced(n, backup)
	n.wait("doubt", func() bool { return n.Stats().Doubt != "" })
	if n.has("a.example") || !n.has("b.example") {
		t.Error("not what it was")
	}
	must(t, catalog.New(w.store, catalog.Options{}).Accept(t.Context(), catalog.Actor{By: "operator"}))
	n.wait("believed", func() bool { return n.has("a.example") && !n.has("b.example") })
}

// What is deleted is deleted, even if it is all there was and the node was away.
func TestDeletionsAreBelieved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", nil)
	var keys []string
	for i := range 50 {
		host := fmt.Sprintf("h%d.example", i)
		w.proxy("shop", host)
		keys = append(keys, catalog.ProxyPrefix+host)
	}
	n.at(w.proxy("shop", "last.example"))
	n.at(w.remove(append(keys, catalog.ProxyPrefix+"last.example")...))
	if n.table.Load().Len() != 0 {
		t.Error("still served")
	}
	n.at(w.proxy("shop", "last.example"))
	// Away so long that the history is gone.
	n.wire.set(func(w *wire) { w.cut = true })
	w.remove(catalog.ProxyPrefix + "last.example")
	must(t, w.store.Close())
	w.store = openBolt(t, filepath.Join(w.dir, "store"), bolt.Options{History: 1})
	w.put(store.Put{Key: "x"})
	last := w.put(store.Put{Key: "x"})
	n.wire.set(func(x *wire) { x.Store, x.cut = w.store, false })
	n.at(last)
	if s := n.Stats(); n.table.Load().Len() != 0 || s.Doubt != "" || s.Relists != 1 {
		t.Errorf("%+v", s)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.Create(to)
	must(t, err)
	defer out.Close()
	_, err = io.Copy(out, in)
	must(t, err)
}
