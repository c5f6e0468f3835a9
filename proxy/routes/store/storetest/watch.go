package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

var errDone = errors.New("done")

// watchUntil watches until f says that it has seen enough.
func watchUntil(t *testing.T, s store.Store, prefix string, after store.Revision, f func([]store.Change, store.Revision) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(within(t), patience)
	defer cancel()
	err := s.Watch(ctx, prefix, after, func(c []store.Change, through store.Revision) error {
		if f(c, through) {
			return errDone
		}
		return nil
	})
	if err != errDone {
		t.Errorf("the watch of %q after %d ended with %v", prefix, after, err)
	}
}

func testWatch(t *testing.T, b Bed) {
	s := b.open(t)
	before := put(t, s, "in/a", "0")
	r1 := put(t, s, "in/a", "1", "out", "x", "in/b", "2")
	r2 := remove(t, s, "in/b", "out", "in/missing")
	put(t, s, "out", "y")
	want := []string{
		fmt.Sprintf("in/a=1 created %d modified %d", before, r1),
		fmt.Sprintf("in/b=2 created %d modified %d", r1, r1),
		fmt.Sprintf("in/b gone at %d", r2),
	}
	var got []string
	var r3, last store.Revision
	watchUntil(t, s, "in/", before, func(changes []store.Change, through store.Revision) bool {
		if through < last {
			t.Errorf("through went from %d back to %d", last, through)
		}
		last = through
		for _, c := range changes {
			got = append(got, showChange(c))
			if c.Modified > through {
				t.Errorf("%s is told, but all only through %d", showChange(c), through)
			}
			if c.Gone && (c.Value != nil || c.Created != 0) {
				t.Errorf("%s has still the value %q and the creation %d", showChange(c), c.Value, c.Created)
			}
		}
		if len(got) == len(want) && r3 == 0 {
			// From now on it is live.
			r3 = put(t, s, "in/b", "3")
			want = append(want, fmt.Sprintf("in/b=3 created %d modified %d", r3, r3))
		}
		return len(got) >= len(want)
	})
	same(t, "changes", got, want)
	// From any revision on.
	for after, want := range map[store.Revision][]string{
		r1: want[2:], r2: want[3:],
	} {
		got = nil
		watchUntil(t, s, "in/", after, func(changes []store.Change, through store.Revision) bool {
			for _, c := range changes {
				got = append(got, showChange(c))
			}
			return through >= r3
		})
		same(t, fmt.Sprintf("changes after %d", after), got, want)
	}
	// All keys.
	got = nil
	watchUntil(t, s, "", r1, func(changes []store.Change, through store.Revision) bool {
		for _, c := range changes {
			got = append(got, c.Key)
		}
		return through >= r3
	})
	same(t, "changes of all keys", got, []string{"in/b", "out", "out", "in/b"})
}

func testWatchEnds(t *testing.T, b Bed) {
	s := b.open(t)
	start := revision(t, s)
	for _, c := range []struct {
		name string
		end  func(ctx context.Context) (context.Context, context.CancelFunc)
		want error
	}{
		{"cancel", func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }, context.Canceled},
		{"deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 100*time.Millisecond)
		}, context.DeadlineExceeded},
	} {
		ctx, cancel := c.end(within(t))
		ended := make(chan error, 1)
		go func() {
			ended <- s.Watch(ctx, "", start, func([]store.Change, store.Revision) error { return nil })
		}()
		if c.want == context.Canceled {
			time.Sleep(20 * time.Millisecond) // most likely it waits by then
			cancel()
		}
		select {
		case err := <-ended:
			is(t, c.name, err, c.want)
		case <-time.After(patience):
			t.Fatalf("%s: the watch goes on", c.name)
		}
		cancel()
	}
	// An error of f is returned as it is, and f is not called again.
	put(t, s, "a", "1")
	put(t, s, "a", "2")
	calls := 0
	err := s.Watch(within(t), "", start, func(c []store.Change, _ store.Revision) error {
		calls++
		return errDone
	})
	if err != errDone || calls != 1 {
		t.Errorf("f was called %d times, and Watch said %v", calls, err)
	}
	is(t, "a revision that is not there yet", s.Watch(within(t), "", revision(t, s)+1000, func([]store.Change, store.Revision) error { return errDone }), store.ErrCompacted)
	if err := s.Watch(within(t), "", -1, func([]store.Change, store.Revision) error { return errDone }); err == nil || err == errDone {
		t.Errorf("a revision below 0: %v", err)
	}
}

// testWatchIdle: a watch without changes still says that the store answers.
func testWatchIdle(t *testing.T, b Bed) {
	s := b.open(t)
	after := put(t, s, "in/a", "1")
	put(t, s, "out", "1")
	calls := 0
	watchUntil(t, s, "in/", after, func(changes []store.Change, through store.Revision) bool {
		if len(changes) != 0 {
			t.Errorf("there was no change, but %s", showChange(changes[0]))
		}
		if through < after {
			t.Errorf("all is told through %d, which is before %d", through, after)
		}
		calls++
		return calls == 2
	})
}

// history is what watchers make of changes.
type history struct {
	now     map[string]string // key: value
	commits int
	through store.Revision
}

// testWatchResume: watchers that break off again and again, and one that is slow,
// miss nothing, see nothing twice and no commit in parts.
func testWatchResume(t *testing.T, b Bed) {
	ctx := within(t)
	stores := b.several(t, 3)
	start := revision(t, stores[0])
	const writers, each, watchers = 4, 60, 4
	var all sync.WaitGroup
	for w := range writers {
		s := stores[w%len(stores)]
		all.Go(func() {
			for i := range each {
				// Left and right of each writer always agree; there is a deletion sometimes.
				v := []byte(strconv.Itoa(i))
				txn := store.Txn{Put: []store.Put{
					{Key: fmt.Sprintf("in/left/%d", w), Value: v}, {Key: fmt.Sprintf("in/right/%d", w), Value: v}, {Key: fmt.Sprintf("out/%d", w), Value: v},
				}}
				if i%10 == 9 {
					txn = store.Txn{Delete: []string{txn.Put[0].Key, txn.Put[1].Key}}
				}
				if _, err := s.Commit(ctx, txn); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for w := range watchers {
		s := stores[w%len(stores)]
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 6))
			h := history{now: map[string]string{}, through: start}
			for h.commits < writers*each {
				broken := errors.New("broken off")
				err := s.Watch(ctx, "in/", h.through, func(changes []store.Change, through store.Revision) error {
					if err := h.apply(changes, through); err != nil {
						return err
					}
					if w == 0 {
						time.Sleep(time.Millisecond)
					} else if random.IntN(5) == 0 || h.commits >= writers*each {
						return broken
					}
					if h.commits >= writers*each {
						return broken
					}
					return nil
				})
				if err != broken {
					t.Errorf("watcher %d: %v", w, err)
					return
				}
			}
			entries, _ := list(t, s, "in/")
			listed := map[string]string{}
			for _, e := range entries {
				listed[e.Key] = string(e.Value)
			}
			if fmt.Sprint(listed) != fmt.Sprint(h.now) {
				t.Errorf("watcher %d has %v, the store %v", w, h.now, listed)
			}
		})
	}
	all.Wait()
}

// apply takes what a watch has told.
func (h *history) apply(changes []store.Change, through store.Revision) error {
	last := h.through
	for i := 0; i < len(changes); i += 2 {
		if i+1 == len(changes) || changes[i].Modified != changes[i+1].Modified {
			return fmt.Errorf("half of a commit: %s", showChange(changes[i]))
		}
		if changes[i].Modified <= last {
			return fmt.Errorf("%s after revision %d", showChange(changes[i]), last)
		}
		last = changes[i].Modified
		h.commits++
		for _, c := range changes[i : i+2] {
			if c.Gone {
				delete(h.now, c.Key)
			} else {
				h.now[c.Key] = string(c.Value)
			}
		}
		if left, right := changes[i], changes[i+1]; string(left.Value) != string(right.Value) || left.Gone != right.Gone {
			return fmt.Errorf("%s and %s do not go together", showChange(left), showChange(right))
		}
	}
	if through < last {
		return fmt.Errorf("told up to %d, but all only through %d", last, through)
	}
	h.through = through
	return nil
}

// testWatchLargeCommits: the largest transactions come in one piece, live and from
// history.
func testWatchLargeCommits(t *testing.T, b Bed) {
	s := b.open(t)
	start := revision(t, s)
	const commits = 6
	const keys = store.MaxBytes/store.MaxValue - 1
	write := func() {
		for n := range commits {
			var txn store.Txn
			for i := range keys {
				v := make([]byte, store.MaxValue)
				v[0] = byte(n)
				txn.Put = append(txn.Put, store.Put{Key: fmt.Sprintf("key/%d", i), Value: v})
			}
			commit(t, s, txn)
		}
	}
	watch := func() {
		seen := map[store.Revision]int{}
		watchUntil(t, s, "key/", start, func(changes []store.Change, _ store.Revision) bool {
			call := map[store.Revision]int{}
			for _, c := range changes {
				call[c.Modified]++
				if len(c.Value) != store.MaxValue {
					t.Errorf("a value has %d bytes", len(c.Value))
				}
			}
			for r, n := range call {
				if n != keys || seen[r] > 0 {
					t.Errorf("revision %d comes with %d of %d keys, after %d", r, n, keys, seen[r])
				}
				seen[r] += n
			}
			return len(seen) == commits
		})
	}
	var live sync.WaitGroup
	live.Go(watch)
	write()
	live.Wait()
	watch()
}

// testWatchHistory: what is forgotten is said so, and who is up to date does not care.
func testWatchHistory(t *testing.T, b Bed) {
	s := b.open(t)
	old := put(t, s, "a", "1")
	for i := range 5 {
		put(t, s, "a", strconv.Itoa(i))
	}
	now := revision(t, s)
	var all sync.WaitGroup
	told := make(chan store.Revision, 100)
	ctx, cancel := context.WithCancel(within(t))
	all.Go(func() {
		defer close(told)
		err := s.Watch(ctx, "", now, func(c []store.Change, _ store.Revision) error {
			for _, c := range c {
				told <- c.Modified
			}
			return nil
		})
		is(t, "the watch of who is up to date", err, context.Canceled)
	})
	first := put(t, s, "a", "seen")
	if r := <-told; r != first {
		t.Errorf("told about %d, want %d", r, first)
	}
	b.Forget(t, s)
	is(t, "a watch from what is forgotten", s.Watch(within(t), "", old, func([]store.Change, store.Revision) error { return errDone }), store.ErrCompacted)
	after := revision(t, s)
	second := put(t, s, "a", "after")
	seen := false
	for r := range told {
		if seen = r == second; seen {
			break
		}
	}
	if !seen {
		t.Errorf("the watch of who is up to date has missed %d", second)
	}
	cancel()
	all.Wait()
	// From the newest on, it goes on.
	watchUntil(t, s, "", after, func(c []store.Change, _ store.Revision) bool { return len(c) > 0 && c[0].Modified == second })
	if entries, _ := list(t, s, "a"); len(entries) != 1 || string(entries[0].Value) != "after" {
		t.Errorf("what is there has gone with the history: %q", showAll(entries))
	}
}
