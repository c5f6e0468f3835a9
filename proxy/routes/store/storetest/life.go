package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// methods calls all of a store's methods.
func methods(ctx context.Context, s store.Store) map[string]error {
	errs := map[string]error{}
	_, _, errs["Get"] = s.Get(ctx, "a")
	_, errs["List"] = s.List(ctx, "", func(store.Entry) error { return nil })
	errs["Watch"] = s.Watch(ctx, "", 0, func([]store.Change, store.Revision) error { return errors.New("called") })
	_, errs["Commit"] = s.Commit(ctx, store.Txn{Put: []store.Put{{Key: "a", Value: []byte("late")}}})
	_, errs["Announce"] = s.Announce(ctx, "b")
	return errs
}

func testContexts(t *testing.T, b Bed) {
	s := b.open(t)
	put(t, s, "a", "1")
	a, err := s.Announce(within(t), "node/a")
	must(t, err)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, c := range []struct {
		ctx  context.Context
		want error
	}{{cancelled, context.Canceled}, {late, context.DeadlineExceeded}} {
		for name, err := range methods(c.ctx, s) {
			is(t, name, err, c.want)
		}
		is(t, "Set", a.Set(c.ctx, nil), c.want)
	}
	if got := valueOf(t, s, "a"); got != "1" {
		t.Errorf("a commit whose time was over has been carried out: %q", got)
	}
	if entries, _ := list(t, s, "node/"); len(entries) != 0 {
		t.Errorf("announced after its time was over: %q", showAll(entries))
	}
}

func testClose(t *testing.T, b Bed) {
	s := b.open(t)
	put(t, s, "a", "1")
	a, err := s.Announce(within(t), "node/a")
	must(t, err)
	ended := make(chan error, 2)
	started := make(chan struct{}, 100)
	for range 2 {
		go func() {
			ended <- s.Watch(within(t), "", 0, func([]store.Change, store.Revision) error {
				select {
				case started <- struct{}{}:
				default:
				}
				return nil
			})
		}()
	}
	must(t, a.Set(within(t), []byte("1")))
	must(t, s.Close())
	for range 2 {
		select {
		case err := <-ended:
			// One that had not begun yet may have found its history forgotten.
			if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrCompacted) {
				t.Errorf("a watch ended with %v", err)
			}
		case <-time.After(patience):
			t.Fatal("a watch goes on after Close")
		}
	}
	must(t, s.Close())
	for name, err := range methods(within(t), s) {
		is(t, name+" after Close", err, store.ErrUnavailable)
	}
	if err := a.Set(within(t), nil); err == nil {
		t.Error("Set after Close of the store is no error")
	}
	must(t, a.Close())
}

// testOpenAgain: all is as it was.
func testOpenAgain(t *testing.T, b Bed) {
	s := b.open(t)
	start := revision(t, s)
	for i := range 20 {
		put(t, s, fmt.Sprintf("key/%d", i%7), fmt.Sprint(i))
	}
	remove(t, s, "key/3")
	before, at := list(t, s, "")
	middle := put(t, s, "key/4", "last")
	must(t, s.Close())
	s = b.open(t)
	after, now := list(t, s, "")
	if now < middle {
		t.Errorf("revision %d was there, now it is %d", middle, now)
	}
	for i, e := range after {
		if e.Key == "key/4" {
			after[i] = before[i]
		}
	}
	same(t, "opened again", showAll(after), showAll(before))
	next := put(t, s, "key/5", "next")
	if next <= now {
		t.Errorf("revision %d after %d", next, now)
	}
	for _, c := range []struct {
		after store.Revision
		want  int
	}{{start, 23}, {at, 2}, {middle, 1}} {
		n := 0
		watchUntil(t, s, "key/", c.after, func(changes []store.Change, through store.Revision) bool {
			n += len(changes)
			return through >= next
		})
		if n != c.want {
			t.Errorf("after %d there are %d changes, want %d", c.after, n, c.want)
		}
	}
}

// testMany: as many routes as an operator may have.
func testMany(t *testing.T, b Bed) {
	const keys = 100_000
	s := b.open(t)
	start := revision(t, s)
	key := func(i int) string { return fmt.Sprintf("s/proxy/www%06d.shop.example", i) }
	work := make(chan store.Txn)
	errs := make(chan error)
	const writers = 8
	ctx := within(t)
	for range writers {
		go func() {
			for txn := range work {
				if _, err := s.Commit(ctx, txn); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for i := 0; i < keys; i += store.MaxTxn {
		var txn store.Txn
		for k := range store.MaxTxn {
			txn.Put = append(txn.Put, store.Put{Key: key(i + k), Value: fmt.Appendf(nil, `{"host":"www%06d.shop.example","project":"p%d"}`, i+k, i%97)})
		}
		select {
		case work <- txn:
		case err := <-errs:
			t.Fatal(err)
		}
	}
	close(work)
	for range writers {
		must(t, <-errs)
	}
	n := 0
	began := time.Now()
	at, err := s.List(ctx, "s/", func(e store.Entry) error {
		if e.Key != key(n) {
			return fmt.Errorf("at %d there is %q", n, e.Key)
		}
		n++
		return nil
	})
	must(t, err)
	if n != keys {
		t.Errorf("listed %d of %d", n, keys)
	}
	t.Logf("%d keys listed in %v", n, time.Since(began))
	n = 0
	watchUntil(t, s, "s/", start, func(changes []store.Change, through store.Revision) bool {
		n += len(changes)
		return through >= at
	})
	if n != keys {
		t.Errorf("watched %d of %d", n, keys)
	}
	// One change among them.
	began = time.Now()
	put(t, s, key(keys/2), "changed")
	watchUntil(t, s, "s/", at, func(changes []store.Change, _ store.Revision) bool {
		return len(changes) == 1 && changes[0].Key == key(keys/2)
	})
	t.Logf("a change was seen after %v", time.Since(began))
}
