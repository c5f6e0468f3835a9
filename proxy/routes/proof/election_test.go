package proof

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

// counting counts what a store is asked to do.
type counting struct {
	store.Store
	asked atomic.Int64
}

func (c *counting) Get(ctx context.Context, keys ...string) (map[string]store.Entry, store.Revision, error) {
	c.asked.Add(1)
	return c.Store.Get(ctx, keys...)
}

func (c *counting) List(ctx context.Context, prefix string, f func(store.Entry) error) (store.Revision, error) {
	c.asked.Add(1)
	return c.Store.List(ctx, prefix, f)
}

func (c *counting) Watch(ctx context.Context, prefix string, after store.Revision, f func([]store.Change, store.Revision) error) error {
	c.asked.Add(1)
	return c.Store.Watch(ctx, prefix, after, f)
}

func (c *counting) Commit(ctx context.Context, t store.Txn) (store.Revision, error) {
	c.asked.Add(1)
	return c.Store.Commit(ctx, t)
}

// Candidates ask for nothing while nothing changes, and one follows the other at once.
func TestCandidatesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "store"), bolt.Options{})
		must(t, err)
		defer file.Close()
		s := &counting{Store: file}
		c := catalog.New(s, catalog.Options{})
		var all []*Checker
		var stops []func()
		for _, node := range []string{"c", "a", "b"} {
			k := NewChecker(CheckerConfig{Catalog: c, Store: s, DNS: New(Config{}), Node: node, Log: func(_ bool, m string) { t.Error(m) }})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = k.Run(ctx)
			}()
			all, stops = append(all, k), append(stops, func() { cancel(); <-done })
			time.Sleep(time.Second)
		}
		for i, stop := range stops {
			for j, k := range all {
				if leads := k.Stats().Leads; leads != (i == j) {
					t.Errorf("%d have ended, number %d leads: %v", i, j, leads)
				}
			}
			before := s.asked.Load()
			time.Sleep(time.Minute)
			if n := s.asked.Load() - before; n != 0 {
				t.Errorf("%d have ended, and the store was asked %d times in an idle minute", i, n)
			}
			stop()
			time.Sleep(time.Second)
		}
	})
}
