package storetest

import (
	"fmt"
	"testing"

	"aarch64.com/isthmus/proxy/routes/store"
)

// valueOf is what a key has now; "": it is not there.
func valueOf(t *testing.T, s store.Store, key string) string {
	t.Helper()
	found, _, err := s.Get(within(t), key)
	must(t, err)
	return string(found[key].Value)
}

func testAnnounce(t *testing.T, b Bed) {
	ctx, s := within(t), b.open(t)
	start := revision(t, s)
	a, err := s.Announce(ctx, "node/a")
	must(t, err)
	if r := revision(t, s); !b.Shared && r != start {
		t.Error("there is a change before the first Set")
	}
	must(t, a.Set(ctx, []byte("1")))
	entries, first := list(t, s, "node/")
	same(t, "announced", showAll(entries), []string{fmt.Sprintf("node/a=1 created %d modified %d", first, first)})
	must(t, a.Set(ctx, []byte("2")))
	entries, second := list(t, s, "node/")
	same(t, "changed", showAll(entries), []string{fmt.Sprintf("node/a=2 created %d modified %d", first, second)})
	if _, err := s.Announce(ctx, "node/a"); err == nil {
		t.Error("one process can announce a key twice")
	}
	b2, err := s.Announce(ctx, "node/b")
	must(t, err)
	must(t, b2.Set(ctx, nil))
	must(t, a.Close())
	must(t, a.Close())
	entries, third := list(t, s, "node/")
	if len(entries) != 1 || entries[0].Key != "node/b" {
		t.Errorf("after Close: %q", showAll(entries))
	}
	if a.Set(ctx, []byte("3")) == nil {
		t.Error("Set after Close is no error")
	}
	var got []string
	watchUntil(t, s, "node/a", start, func(changes []store.Change, _ store.Revision) bool {
		for _, c := range changes {
			got = append(got, showChange(c))
		}
		return len(got) >= 3
	})
	same(t, "watched", got, []string{
		fmt.Sprintf("node/a=1 created %d modified %d", first, first),
		fmt.Sprintf("node/a=2 created %d modified %d", first, second),
		fmt.Sprintf("node/a gone at %d", third),
	})
	// It can be announced again.
	a, err = s.Announce(ctx, "node/a")
	must(t, err)
	must(t, a.Set(ctx, []byte("again")))
	if got := valueOf(t, s, "node/a"); got != "again" {
		t.Errorf("announced again: %q", got)
	}
	// Close of the store removes both.
	must(t, s.Close())
	s = b.open(t)
	if entries, _ := list(t, s, "node/"); len(entries) != 0 {
		t.Errorf("after Close of the store: %q", showAll(entries))
	}
}

// testAnnounceKilled: the key goes with the process.
func testAnnounceKilled(t *testing.T, b Bed) {
	ctx, s := within(t), b.open(t)
	var others []store.Store
	if b.Shared {
		others = append(others, b.open(t))
	}
	put(t, s, "node/b", "stays")
	a, err := s.Announce(ctx, "node/a")
	must(t, err)
	must(t, a.Set(ctx, []byte("1")))
	at := revision(t, s)
	b.Kill(t, s)
	if !b.Shared {
		others = append(others, b.open(t))
	}
	watchUntil(t, others[0], "node/", at, func(changes []store.Change, _ store.Revision) bool {
		for _, c := range changes {
			if c.Key != "node/a" || !c.Gone {
				t.Errorf("unexpected: %s", showChange(c))
			}
		}
		return len(changes) > 0
	})
	if entries, _ := list(t, others[0], "node/"); len(entries) != 1 || entries[0].Key != "node/b" {
		t.Errorf("left: %q", showAll(entries))
	}
}

// testAnnounceTwice: of two processes with one key, the last Set counts.
func testAnnounceTwice(t *testing.T, b Bed) {
	if !b.Shared {
		return // one process has all of it
	}
	ctx := within(t)
	s := b.several(t, 3)
	var said []store.Announcement
	for i := range 2 {
		a, err := s[i].Announce(ctx, "node/a")
		must(t, err)
		must(t, a.Set(ctx, []byte{byte('0' + i)}))
		said = append(said, a)
	}
	must(t, said[0].Close())
	if got := valueOf(t, s[2], "node/a"); got != "1" {
		t.Errorf("the one that came first has removed the other's: %q", got)
	}
	// The same with the death of the process, as when it is started again.
	a, err := s[2].Announce(ctx, "node/a")
	must(t, err)
	must(t, a.Set(ctx, []byte("2")))
	b.Kill(t, s[1])
	gone, err := s[0].Announce(ctx, "gone")
	must(t, err)
	must(t, gone.Set(ctx, nil))
	must(t, s[0].Close())
	eventually(t, "the other's key is gone", func() bool {
		found, _, err := s[2].Get(ctx, "gone")
		must(t, err)
		return len(found) == 0
	})
	if got := valueOf(t, s[2], "node/a"); got != "2" {
		t.Errorf("the one that came last lost its key: %q", got)
	}
}
