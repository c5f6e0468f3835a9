package mirror

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// Each node says what it serves, and is gone when it ends.
func TestAnnounce(t *testing.T) {
	w := newWorld(t)
	w.proxy("nobody", "skipped.example")
	var nodes []*node
	for i := range 4 {
		nodes = append(nodes, w.start(fmt.Sprint("n", i), func(c *Config, _ *times) { c.Node.POP = "dfw" }))
	}
	c := catalog.New(w.store, catalog.Options{})
	live := func(r store.Revision) (n int) {
		list, err := c.Nodes(t.Context())
		must(t, err)
		for _, x := range list {
			if x.Applied >= r && x.POP == "dfw" && x.Skipped == 1 && time.Since(x.At) < time.Hour {
				n++
			}
		}
		return n
	}
	for i := range 3 {
		r := w.proxy("shop", fmt.Sprintf("h%d.example", i))
		nodes[0].wait("live on all", func() bool { return live(r) == 4 })
	}
	nodes[3].end()
	if n := live(0); n != 3 {
		t.Errorf("%d nodes after one has ended", n)
	}
	if w.start("", nil).at(w.proxy("shop", "more.example")); live(0) != 3 {
		t.Error("one without a name is announced")
	}
}

// Many nodes together don't write more than the store takes, whatever changes.
func TestAnnouncementsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", nil)
	n.at(w.proxy("shop", "a.example"))
	n.wait("the first", func() bool { return w.nodes(t) == 1 })
	n.knowNodes(nodeWrites / 2) // two a second for each
	began := time.Now()
	n.wire.set(func(w *wire) { w.said = 0 })
	for time.Since(began) < 1200*time.Millisecond {
		w.proxy("shop", "a.example")
		time.Sleep(time.Millisecond)
	}
	last := w.proxy("shop", "a.example")
	took := time.Since(began)
	said := 0
	n.wire.set(func(w *wire) { said = w.said })
	if most := 1 + int(took/(500*time.Millisecond)); said > most {
		t.Errorf("%d announcements in %v, want at most %d", said, took, most)
	}
	n.wait("the last change", func() bool {
		list, err := catalog.New(w.store, catalog.Options{}).Nodes(t.Context())
		return err == nil && len(list) == 1 && list[0].Applied >= last
	})
}

func (w *world) nodes(t *testing.T) int {
	list, err := catalog.New(w.store, catalog.Options{}).Nodes(t.Context())
	must(t, err)
	return len(list)
}

// Commits of keys that are not the routes', such as visits, raise the revision, and
// no node does anything for them.
func TestOtherKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", func(c *Config, _ *times) { c.Disk, c.Reconcile = filepath.Join(w.dir, "copy"), time.Hour })
	r := w.proxy("shop", "a.example")
	n.at(r)
	n.wait("announced and on the disk", func() bool {
		list, err := catalog.New(w.store, catalog.Options{}).Nodes(t.Context())
		return err == nil && len(list) == 1 && list[0].Applied >= r && n.Stats().Disk.Revision >= r
	})
	type doing struct {
		said, commits, lists int
		disk                 DiskStats
		changed              store.Revision
		sum                  uint64
	}
	did := func() (d doing) {
		n.wire.set(func(w *wire) {
			d.said, d.commits, d.lists = w.said, w.commits, w.lists[catalog.Serving]+w.lists[catalog.NodePrefix]
		})
		d.disk, d.changed, d.sum = n.Stats().Disk, n.View().Changed, n.View().sum
		return d
	}
	before := did()
	for i := range 300 {
		process := fmt.Sprint("n", i%100)
		r = w.put(store.Put{Key: catalog.WantedKey("shop", process), Value: []byte("{}")},
			store.Put{Key: catalog.VisitsPrefix("shop") + process, Value: catalog.Visits{Node: process}.Encode(store.MaxValue)})
	}
	n.at(r)
	time.Sleep(100 * time.Millisecond) // for what would come of it
	if after := did(); after != before {
		t.Errorf("it did %+v, and has done %+v now", before, after)
	}
	if v := n.View(); v.records() != 3 || v.Revision < r {
		t.Errorf("%d records at revision %d", v.records(), v.Revision)
	}
}
