package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

// patience is how long anything may take on a busy machine.
const patience = 30 * time.Second

// wire stands between a mirror and a real engine, and has the faults of a network.
type wire struct {
	store.Store
	mu      sync.Mutex
	cut     bool
	stuck   bool                    // watches tell that nothing happens
	silent  bool                    // watches tell nothing at all
	drop    func(store.Change) bool // what watches leave out
	watches map[int]context.CancelFunc
	next    int
	lists   map[string]int
	commits int
	said    int // announcements
}

var errCut = fmt.Errorf("%w: the wire is cut", store.ErrUnavailable)

func newWire(s store.Store) *wire {
	return &wire{Store: s, watches: map[int]context.CancelFunc{}, lists: map[string]int{}}
}

// set changes the faults, and ends watches if the wire is cut.
func (w *wire) set(f func(w *wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
	if w.cut {
		for _, cancel := range w.watches {
			cancel()
		}
	}
}

func (w *wire) ok() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return errCut
	}
	return nil
}

func (w *wire) engine() store.Store {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Store
}

func (w *wire) Announce(_ context.Context, key string) (store.Announcement, error) {
	return &said{wire: w, key: key}, w.ok()
}

// said is announced to whatever engine there is.
type said struct {
	wire *wire
	key  string
	to   store.Store
	store.Announcement
}

func (s *said) Set(ctx context.Context, value []byte) error {
	if err := s.wire.ok(); err != nil {
		return err
	}
	if to := s.wire.engine(); s.to != to {
		a, err := to.Announce(ctx, s.key)
		if err != nil {
			return err
		}
		s.to, s.Announcement = to, a
	}
	s.wire.set(func(w *wire) { w.said++ })
	return s.Announcement.Set(ctx, value)
}

func (s *said) Close() error {
	if s.Announcement == nil {
		return nil
	}
	return s.Announcement.Close()
}

func (w *wire) Get(ctx context.Context, keys ...string) (map[string]store.Entry, store.Revision, error) {
	if err := w.ok(); err != nil {
		return nil, 0, err
	}
	return w.engine().Get(ctx, keys...)
}

func (w *wire) List(ctx context.Context, prefix string, f func(store.Entry) error) (store.Revision, error) {
	w.mu.Lock()
	w.lists[prefix]++
	w.mu.Unlock()
	if err := w.ok(); err != nil {
		return 0, err
	}
	return w.engine().List(ctx, prefix, func(e store.Entry) error {
		if err := w.ok(); err != nil {
			return err
		}
		return f(e)
	})
}

func (w *wire) Commit(ctx context.Context, t store.Txn) (store.Revision, error) {
	if err := w.ok(); err != nil {
		return 0, err
	}
	w.mu.Lock()
	w.commits++
	w.mu.Unlock()
	return w.engine().Commit(ctx, t)
}

func (w *wire) Watch(ctx context.Context, prefix string, after store.Revision, f func([]store.Change, store.Revision) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	id := w.next
	w.next++
	w.watches[id] = cancel
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.watches, id)
		w.mu.Unlock()
	}()
	if err := w.ok(); err != nil {
		return err
	}
	err := w.engine().Watch(ctx, prefix, after, func(changes []store.Change, through store.Revision) error {
		w.mu.Lock()
		cut, stuck, silent, drop := w.cut, w.stuck, w.silent, w.drop
		w.mu.Unlock()
		if silent {
			<-ctx.Done()
			return ctx.Err()
		}
		if cut {
			return errCut
		}
		if stuck {
			return f(nil, after)
		}
		kept := changes[:0:0]
		for _, c := range changes {
			if drop == nil || !drop(c) {
				kept = append(kept, c)
			}
		}
		after = through
		return f(kept, through)
	})
	if w.ok() != nil {
		return errCut
	}
	return err
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	list []string
}

func (l *lines) log(warn bool, s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf("%v %s", warn, s))
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.list, "\n")
}

// count is how many lines have all of the texts.
func (l *lines) count(texts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for _, s := range l.list {
		for _, text := range texts {
			if !strings.Contains(s, text) {
				continue next
			}
		}
		n++
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openBolt(t testing.TB, path string, o bolt.Options) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(context.Background(), path, o)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// world is a store with some nodes that follow it.
type world struct {
	t     testing.TB
	dir   string
	store *bolt.Store
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir()}
	w.store = openBolt(t, filepath.Join(w.dir, "store"), bolt.Options{})
	w.project("shop", "2001:db8:64:1::/64")
	w.project("blog", "2001:db8:64:2::/64")
	return w
}

// put writes records as the catalog would, and gives the revision.
func (w *world) put(list ...store.Put) store.Revision {
	w.t.Helper()
	r, err := w.store.Commit(context.Background(), store.Txn{Put: list})
	must(w.t, err)
	return r
}

func (w *world) remove(keys ...string) store.Revision {
	w.t.Helper()
	r, err := w.store.Commit(context.Background(), store.Txn{Delete: keys})
	must(w.t, err)
	return r
}

func (w *world) project(name string, prefixes ...string) store.Revision {
	w.t.Helper()
	return w.put(projectPut(name, prefixes...))
}

func (w *world) proxy(project, host string) store.Revision {
	w.t.Helper()
	return w.put(proxyPut(project, host, 80))
}

// node is a mirror at work.
type node struct {
	*Mirror
	t     testing.TB
	wire  *wire
	table *routes.Table
	log   *lines
	end   func()
}

// start starts a mirror; change changes it before it runs.
func (w *world) start(name string, change func(c *Config, m *times)) *node {
	w.t.Helper()
	return startNode(w.t, w.store, name, change)
}

func startNode(t testing.TB, s store.Store, name string, change func(c *Config, m *times)) *node {
	t.Helper()
	n := &node{t: t, wire: newWire(s), table: &routes.Table{}, log: &lines{}}
	c := Config{
		Open: func(context.Context) (store.Store, error) { return n.wire, n.wire.ok() }, Table: n.table, Reach: reach,
		Node: catalog.Node{Name: name}, Log: n.log.log,
	}
	at := usualTimes
	at.retry, at.longest, at.doubt, at.diskEvery = 5*time.Millisecond, 50*time.Millisecond, 20*time.Millisecond, 10*time.Millisecond
	if change != nil {
		change(&c, &at)
	}
	n.Mirror = New(c)
	n.times = at
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	n.end = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			n.t.Error("the mirror does not end")
		}
	}
	t.Cleanup(n.end)
	return n
}

func (n *node) wait(what string, ok func() bool) {
	n.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("%s: not so after %v; %+v\n%v", what, patience, n.Stats(), n.log)
		}
	}
}

// at waits for a revision.
func (n *node) at(r store.Revision) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.WaitFor(ctx, r); err != nil {
		n.t.Fatalf("revision %d: %v; %+v\n%v", r, err, n.Stats(), n.log)
	}
}

func (n *node) has(host string) bool { return n.table.Load().Lookup(host) != nil }

// reach is a node's rule: all addresses that are not in the last /64.
func reach(a netip.Addr) error {
	if netip.MustParsePrefix("2001:db8:64:ffff::/64").Contains(a) {
		return errors.New("not a VM")
	}
	return nil
}

func vm(project string) netip.Addr {
	if project == "blog" {
		return netip.MustParseAddr("2001:db8:64:2::2")
	}
	return netip.MustParseAddr("2001:db8:64:1::2")
}
