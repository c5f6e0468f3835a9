// Package storetest holds engines of package store to what its documentation
// says: one suite, which all of them pass.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Bed is where an engine is tested: some data, empty at first.
type Bed struct {
	// Open opens the data. If Shared, it may be open several times at once, as by
	// several processes; else each has to be closed first.
	Open   func(t *testing.T) store.Store
	Shared bool
	// Forget makes the history up to the newest revision unknown.
	Forget func(t *testing.T, s store.Store)
	// Kill ends a store as the death of its process would: without goodbye.
	Kill func(t *testing.T, s store.Store)
}

// patience is how long anything may take on a busy machine.
const patience = 30 * time.Second

// Run runs the suite. Each test gets a bed of its own.
func Run(t *testing.T, bed func(t *testing.T) Bed) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, b Bed)
	}{
		{"Get", testGet},
		{"GetAtOneRevision", testGetAtOneRevision},
		{"GetIsLinearizable", testGetIsLinearizable},
		{"List", testList},
		{"ListEnds", testListEnds},
		{"ListAtOneRevision", testListAtOneRevision},
		{"Commit", testCommit},
		{"Conditions", testConditions},
		{"Limits", testLimits},
		{"AnyBytes", testAnyBytes},
		{"Race", testRace},
		{"Counter", testCounter},
		{"Watch", testWatch},
		{"WatchEnds", testWatchEnds},
		{"WatchResume", testWatchResume},
		{"WatchLargeCommits", testWatchLargeCommits},
		{"WatchHistory", testWatchHistory},
		{"Announce", testAnnounce},
		{"Contexts", testContexts},
		{"Close", testClose},
		{"OpenAgain", testOpenAgain},
		{"Many", testMany},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, bed(t)) })
	}
	// These wait for time to pass.
	for _, c := range []struct {
		name string
		run  func(t *testing.T, b Bed)
	}{
		{"WatchIdle", testWatchIdle},
		{"AnnounceKilled", testAnnounceKilled},
		{"AnnounceTwice", testAnnounceTwice},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, bed(t))
		})
	}
}

// open opens a store that is closed at the end of the test, at the latest.
func (b Bed) open(t *testing.T) store.Store {
	t.Helper()
	s := b.Open(t)
	t.Cleanup(func() { s.Close() })
	return s
}

// several opens up to n stores of the same data.
func (b Bed) several(t *testing.T, n int) []store.Store {
	t.Helper()
	if !b.Shared {
		n = 1
	}
	var list []store.Store
	for range n {
		list = append(list, b.open(t))
	}
	return list
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within is a context for a whole test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// put commits values without conditions.
func put(t *testing.T, s store.Store, keysAndValues ...string) store.Revision {
	t.Helper()
	var txn store.Txn
	for i := 0; i < len(keysAndValues); i += 2 {
		txn.Put = append(txn.Put, store.Put{Key: keysAndValues[i], Value: []byte(keysAndValues[i+1])})
	}
	return commit(t, s, txn)
}

func remove(t *testing.T, s store.Store, keys ...string) store.Revision {
	t.Helper()
	return commit(t, s, store.Txn{Delete: keys})
}

func commit(t *testing.T, s store.Store, txn store.Txn) store.Revision {
	t.Helper()
	r, err := s.Commit(within(t), txn)
	must(t, err)
	return r
}

func revision(t *testing.T, s store.Store) store.Revision {
	t.Helper()
	_, r, err := s.Get(within(t))
	must(t, err)
	return r
}

func list(t *testing.T, s store.Store, prefix string) ([]store.Entry, store.Revision) {
	t.Helper()
	var all []store.Entry
	r, err := s.List(within(t), prefix, func(e store.Entry) error {
		all = append(all, e)
		return nil
	})
	must(t, err)
	return all, r
}

// show is an entry as tests compare it.
func show(e store.Entry) string {
	return fmt.Sprintf("%s=%s created %d modified %d", e.Key, e.Value, e.Created, e.Modified)
}

func showChange(c store.Change) string {
	if c.Gone {
		return fmt.Sprintf("%s gone at %d", c.Key, c.Modified)
	}
	return show(c.Entry)
}

func showAll(entries []store.Entry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, show(e))
	}
	return all
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func keysOf[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func is(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got %v, want %v", what, err, target)
	}
}
