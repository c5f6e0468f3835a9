package visits

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

// patience is how long anything may take on a busy machine.
const patience = 30 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not so after %v", what, patience)
		}
	}
}

// process is one of several that share a store.
type process struct {
	*Exchange
	counter *Counter
	end     func()
}

// hosts are those of the projects of tests: each has three, and a wildcard.
func hosts(project string) iter.Seq[string] {
	return slices.Values([]string{"*." + project + ".example", "a." + project + ".example", "b." + project + ".example", "c." + project + ".example"})
}

// start runs a process; serves: it counts visits.
func start(t *testing.T, s store.Store, node string, serves bool, nodes int) *process {
	t.Helper()
	p := &process{}
	c := Config{Store: s, Node: node, Hosts: hosts, Nodes: func() int { return nodes }}
	if serves {
		p.counter = NewCounter()
		c.Counter = p.counter
	}
	p.Exchange = New(c)
	p.times = times{every: 20 * time.Millisecond, linger: time.Second, retry: 5 * time.Millisecond, long: 50 * time.Millisecond}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	p.end = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("an exchange does not end")
		}
	}
	t.Cleanup(p.end)
	return p
}

func (p *process) visit(host string, n int, at time.Time) {
	for range n {
		p.counter.Add(host, false, at)
	}
}

func openBolt(t *testing.T) store.Store {
	t.Helper()
	s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "store"), bolt.Options{})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// keys are those of visits that a store has, with the revisions of their last changes.
func keys(t *testing.T, s store.Store) map[string]store.Revision {
	t.Helper()
	all := map[string]store.Revision{}
	_, err := s.List(t.Context(), "visits/", func(e store.Entry) error {
		all[e.Key] = e.Modified
		return nil
	})
	must(t, err)
	return all
}

// A page that is looked at shows what all nodes have counted; nothing is written for
// what nobody looks at.
func TestExchange(t *testing.T) {
	t.Parallel()
	s := openBolt(t)
	a, b, page := start(t, s, "a", true, 2), start(t, s, "b", true, 2), start(t, s, "page", false, 2)
	at := time.Now().Truncate(time.Second)
	a.visit("a.shop.example", 3, at)
	a.visit("a.blog.example", 100, at)
	a.counter.Add("*.shop.example", true, at)
	b.visit("a.shop.example", 4, at.Add(time.Second))
	time.Sleep(100 * time.Millisecond)
	if k := keys(t, s); len(k) != 0 {
		t.Errorf("nobody looks, and the store has %v", k)
	}
	if sum := page.Of("shop"); sum.Nodes != 0 {
		t.Errorf("%+v before anybody can have answered", sum)
	}
	eventually(t, "both have told", func() bool { return page.Of("shop").Nodes == 2 })
	sum := page.Of("shop")
	since := a.counter.since
	if f, want := sum.Of("a.shop.example"), (Figures{Since: since, Count: 7, Last: at.Add(time.Second)}); f.Count != want.Count || f.Errors != 0 || !f.Last.Equal(want.Last) || !f.Since.Equal(since) {
		t.Errorf("%+v, want %+v", f, want)
	}
	if f := sum.Of("*.shop.example"); f.Count != 1 || f.Errors != 1 {
		t.Errorf("a wildcard: %+v", f)
	}
	if f := sum.Of("b.shop.example"); f.Count != 0 || !f.Last.IsZero() || !f.Since.Equal(since) {
		t.Errorf("one that nobody visited: %+v", f)
	}
	if f := sum.Of("a.blog.example"); f.Count != 0 {
		t.Errorf("a host of another project is told: %+v", f)
	}

	// A node that has the page itself adds its own figures at once, and once only.
	if sum := a.Of("shop"); sum.Nodes < 1 || sum.Of("*.shop.example").Count != 1 {
		t.Errorf("on a node itself: %+v", sum)
	}
	eventually(t, "the other has told", func() bool { return a.Of("shop").Nodes == 2 && a.Of("shop").Of("a.shop.example").Count == 7 })
	a.visit("a.shop.example", 1, at)
	if f := a.Of("shop").Of("a.shop.example"); f.Count != 8 {
		t.Errorf("own visits count at once: %+v", f)
	}
	eventually(t, "the new figures are told", func() bool { return page.Of("shop").Of("a.shop.example").Count == 8 })

	// What has not changed is not written again.
	reports := func() string {
		all := keys(t, s)
		maps.DeleteFunc(all, func(key string, _ store.Revision) bool { return !strings.HasPrefix(key, catalog.CountedPrefix) })
		return fmt.Sprint(len(all), all)
	}
	before := reports()
	for range 20 {
		page.Of("shop")
		a.Of("shop")
		time.Sleep(10 * time.Millisecond)
	}
	if after := reports(); !strings.HasPrefix(after, "2 ") || after != before {
		t.Errorf("the store had %v, and has %v", before, after)
	}
	eventually(t, "nobody looks, and nothing is left", func() bool { return len(keys(t, s)) == 0 })
	eventually(t, "somebody looks again", func() bool { return page.Of("shop").Nodes == 2 })
}

// One process has its store alone.
func TestAlone(t *testing.T) {
	p := start(t, nil, "a", true, 1)
	p.visit("a.shop.example", 2, time.Now())
	if sum := p.Of("shop"); sum.Nodes != 1 || sum.Of("a.shop.example").Count != 2 {
		t.Errorf("%+v", sum)
	}
}

// Two processes of a node, while one takes over from the other, are one node.
func TestTakeover(t *testing.T) {
	t.Parallel()
	s := openBolt(t)
	for i := range 2 {
		start(t, s, "a", true, 1).visit("a.shop.example", i+1, time.Now())
	}
	page := start(t, s, "a", false, 1)
	eventually(t, "both have told", func() bool { return page.Of("shop").Of("a.shop.example").Count == 3 })
	if n := page.Of("shop").Nodes; n != 1 {
		t.Errorf("%d nodes", n)
	}
}

// A process has a bound on what it looks at; for the rest there are its own figures.
func TestManyLooks(t *testing.T) {
	s := openBolt(t)
	p := start(t, s, "a", true, 1)
	p.visit("a.last.example", 1, time.Now())
	for i := range maxLooks {
		p.Of(fmt.Sprint("p", i))
	}
	if sum := p.Of("last"); sum.Nodes != 1 || sum.Of("a.last.example").Count != 1 || len(p.looks) != maxLooks {
		t.Errorf("%+v, %d looks", sum, len(p.looks))
	}
}

// wire is a store with the faults of a network.
type wire struct {
	store.Store
	cut    atomic.Bool
	writes atomic.Int64 // announcements
	mu     sync.Mutex
	values []int // their sizes
}

var errCut = fmt.Errorf("%w: the wire is cut", store.ErrUnavailable)

func (w *wire) ok() error {
	if w.cut.Load() {
		return errCut
	}
	return nil
}

func (w *wire) List(ctx context.Context, prefix string, f func(store.Entry) error) (store.Revision, error) {
	return errOr(w.ok(), func() (store.Revision, error) { return w.Store.List(ctx, prefix, f) })
}

func (w *wire) Commit(ctx context.Context, t store.Txn) (store.Revision, error) {
	return errOr(w.ok(), func() (store.Revision, error) { return w.Store.Commit(ctx, t) })
}

func (w *wire) Watch(ctx context.Context, prefix string, after store.Revision, f func([]store.Change, store.Revision) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for ctx.Err() == nil && !w.cut.Load() {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	err := w.Store.Watch(ctx, prefix, after, f)
	return errors.Join(w.ok(), err)
}

func (w *wire) Announce(ctx context.Context, key string) (store.Announcement, error) {
	if err := w.ok(); err != nil {
		return nil, err
	}
	a, err := w.Store.Announce(ctx, key)
	return &wiredAnnouncement{a, w}, err
}

type wiredAnnouncement struct {
	store.Announcement
	w *wire
}

func (a *wiredAnnouncement) Set(ctx context.Context, value []byte) error {
	if err := a.w.ok(); err != nil {
		return err
	}
	a.w.writes.Add(1)
	a.w.mu.Lock()
	a.w.values = append(a.w.values, len(value))
	a.w.mu.Unlock()
	return a.Announcement.Set(ctx, value)
}

// Close of an engine that is away forgets the key, and leaves it where it is.
func (a *wiredAnnouncement) Close() error {
	if err := a.w.ok(); err != nil {
		return err
	}
	return a.Announcement.Close()
}

func errOr[T any](err error, f func() (T, error)) (v T, _ error) {
	if err != nil {
		return v, err
	}
	return f()
}

// While the store is away, what was known is shown; then everything goes on, and
// nothing is left behind.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	s := openBolt(t)
	w := &wire{Store: s}
	a, page := start(t, w, "a", true, 1), start(t, w, "page", false, 1)
	a.visit("a.shop.example", 1, time.Now())
	eventually(t, "it has told", func() bool { return page.Of("shop").Nodes == 1 })
	w.cut.Store(true)
	a.visit("a.shop.example", 1, time.Now())
	time.Sleep(100 * time.Millisecond)
	if f := page.Of("shop").Of("a.shop.example"); f.Count != 1 {
		t.Errorf("without the store: %+v", f)
	}
	w.cut.Store(false)
	eventually(t, "it goes on", func() bool { return page.Of("shop").Of("a.shop.example").Count == 2 })
	w.cut.Store(true) // while the page wants to remove its key
	page.mu.Lock()
	page.times.linger = 0
	page.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	if len(keys(t, s)) != 2 {
		t.Errorf("without the store, keys have gone: %v", keys(t, s))
	}
	w.cut.Store(false)
	eventually(t, "nothing is left", func() bool { return len(keys(t, s)) == 0 })
}
