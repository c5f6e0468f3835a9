package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"aarch64.com/isthmus/proxy/routes/store"
)

func testCommit(t *testing.T, b Bed) {
	s := b.open(t)
	first := put(t, s, "a", "1", "b", "2")
	second := commit(t, s, store.Txn{Put: []store.Put{{Key: "a", Value: []byte("1")}}, Delete: []string{"b", "missing"}})
	if second <= first {
		t.Errorf("revision %d after %d", second, first)
	}
	all, at := list(t, s, "")
	same(t, "after a change and a deletion", showAll(all), []string{fmt.Sprintf("a=1 created %d modified %d", first, second)})
	if at != second {
		t.Errorf("listed at %d, committed at %d", at, second)
	}
	// What changes nothing is no error, and not behind either.
	for range 20 {
		second = put(t, s, "a", "1")
		for _, txn := range []store.Txn{{}, {Delete: []string{"missing"}}, {If: []store.Condition{{Key: "a", Modified: second}}}} {
			if r := commit(t, s, txn); r < second {
				t.Errorf("%v has revision %d after %d", txn, r, second)
			}
		}
	}
	// Back again, it is a new one.
	third := put(t, s, "b", "3")
	all, _ = list(t, s, "b")
	same(t, "back again", showAll(all), []string{fmt.Sprintf("b=3 created %d modified %d", third, third)})
}

func testConditions(t *testing.T, b Bed) {
	ctx, s := within(t), b.open(t)
	first := put(t, s, "a", "1")
	second := put(t, s, "b", "2")
	for _, c := range []struct {
		name string
		cond []store.Condition
		want error
	}{
		{"absent", []store.Condition{{Key: "x"}}, nil},
		{"right revisions", []store.Condition{{Key: "a", Modified: first}, {Key: "b", Modified: second}, {Key: "x"}}, nil},
		{"there though it should not", []store.Condition{{Key: "a"}}, store.ErrConflict},
		{"not there", []store.Condition{{Key: "x", Modified: first}}, store.ErrConflict},
		{"older", []store.Condition{{Key: "b", Modified: first}}, store.ErrConflict},
		{"newer", []store.Condition{{Key: "a", Modified: second}}, store.ErrConflict},
		{"one of several", []store.Condition{{Key: "a", Modified: first}, {Key: "b"}}, store.ErrConflict},
		{"never", []store.Condition{{Key: "a", Modified: -1}}, store.ErrConflict},
	} {
		_, before, err := s.Get(ctx)
		must(t, err)
		_, err = s.Commit(ctx, store.Txn{If: c.cond, Put: []store.Put{{Key: "c", Value: []byte(c.name)}}, Delete: []string{"d"}})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		found, after, err := s.Get(ctx, "c")
		must(t, err)
		if changed := string(found["c"].Value) == c.name; changed != (c.want == nil) {
			t.Errorf("%s: changed: %v", c.name, changed)
		}
		if c.want != nil && !b.Shared && after != before {
			t.Errorf("%s: revision %d became %d", c.name, before, after)
		}
	}
	// Gone and made again is another one than before.
	remove(t, s, "a")
	put(t, s, "a", "1")
	_, err := s.Commit(ctx, store.Txn{If: []store.Condition{{Key: "a", Modified: first}}, Delete: []string{"a"}})
	is(t, "made again", err, store.ErrConflict)
	// A condition on what the transaction itself changes is about before.
	now := put(t, s, "e", "1")
	commit(t, s, store.Txn{If: []store.Condition{{Key: "e", Modified: now}}, Delete: []string{"e"}})
	commit(t, s, store.Txn{If: []store.Condition{{Key: "e"}}, Put: []store.Put{{Key: "e"}}})
}

func testLimits(t *testing.T, b Bed) {
	ctx, s := within(t), b.open(t)
	key := strings.Repeat("k", store.MaxKey)
	value := make([]byte, store.MaxValue)
	puts := func(n, size int) (txn store.Txn) {
		for i := range n {
			txn.Put = append(txn.Put, store.Put{Key: fmt.Sprintf("%04d", i), Value: make([]byte, size)})
		}
		return txn
	}
	// One that has as many conditions, puts and deletes as may be.
	mixed := puts(store.MaxTxn/2, 10)
	for i := range store.MaxTxn / 4 {
		mixed.If = append(mixed.If, store.Condition{Key: fmt.Sprintf("if%d", i)})
		mixed.Delete = append(mixed.Delete, fmt.Sprintf("delete%d", i))
	}
	full := puts(store.MaxBytes/store.MaxValue-1, store.MaxValue)
	size := 0
	for _, p := range full.Put {
		size += len(p.Key) + len(p.Value)
	}
	full.Put = append(full.Put, store.Put{Key: "last", Value: make([]byte, store.MaxBytes-size-len("last"))})
	over := store.Txn{Put: append([]store.Put(nil), full.Put...)}
	over.Put[len(over.Put)-1].Key = "last2"
	for _, c := range []struct {
		name string
		txn  store.Txn
		ok   bool
	}{
		{"longest key and value", store.Txn{Put: []store.Put{{Key: key, Value: value}}}, true},
		{"longest key in a condition", store.Txn{If: []store.Condition{{Key: key + "x"}}}, false},
		{"key too long", store.Txn{Put: []store.Put{{Key: key + "k"}}}, false},
		{"key to delete too long", store.Txn{Delete: []string{key + "k"}}, false},
		{"no key", store.Txn{Put: []store.Put{{Value: value}}}, false},
		{"no key to delete", store.Txn{Delete: []string{""}}, false},
		{"no key in a condition", store.Txn{If: []store.Condition{{}}}, false},
		{"value too long", store.Txn{Put: []store.Put{{Key: "k", Value: append(value, 0)}}}, false},
		{"most puts", puts(store.MaxTxn, 1), true},
		{"most of all together", mixed, true},
		{"too many puts", puts(store.MaxTxn+1, 1), false},
		{"too many together", store.Txn{If: append(mixed.If, store.Condition{Key: "one more"}), Put: mixed.Put, Delete: mixed.Delete}, false},
		{"most bytes", full, true},
		{"too many bytes", over, false},
		{"twice put", store.Txn{Put: []store.Put{{Key: "k"}, {Key: "k"}}}, false},
		{"twice deleted", store.Txn{Delete: []string{"k", "k"}}, false},
		{"put and deleted", store.Txn{Put: []store.Put{{Key: "k"}}, Delete: []string{"k"}}, false},
	} {
		before := revision(t, s)
		_, err := s.Commit(ctx, c.txn)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, never := range []error{store.ErrConflict, store.ErrUnavailable, store.ErrFull} {
			if errors.Is(err, never) {
				t.Errorf("%s: %v, which is no fault of the store's", c.name, err)
			}
		}
		if !c.ok && !b.Shared && revision(t, s) != before {
			t.Errorf("%s: refused, and yet there is a new revision", c.name)
		}
	}
	a, err := s.Announce(ctx, "announced")
	must(t, err)
	if a.Set(ctx, append(value, 0)) == nil {
		t.Error("a value too long can be announced")
	}
	must(t, a.Set(ctx, value))
	for _, bad := range []string{"", key + "k"} {
		if _, err := s.Announce(ctx, bad); err == nil {
			t.Errorf("a key of %d bytes can be announced", len(bad))
		}
	}
}

func testAnyBytes(t *testing.T, b Bed) {
	ctx, s := within(t), b.open(t)
	random := rand.New(rand.NewPCG(6, 6))
	start := revision(t, s)
	want := map[string][]byte{}
	add := func(key string, value []byte) {
		want[key] = value
		commit(t, s, store.Txn{Put: []store.Put{{Key: key, Value: value}}})
	}
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
		add(string([]byte{byte(i)}), []byte{byte(i)})
	}
	add(string(all), all)
	add("empty", nil)
	add("zeros", make([]byte, 1000))
	add("\xff\xff\xff", []byte("no UTF-8: \xc3\x28"))
	for range 20 {
		key, value := make([]byte, 1+random.IntN(store.MaxKey)), make([]byte, random.IntN(store.MaxValue))
		for _, b := range [][]byte{key, value} {
			for i := range b {
				b[i] = byte(random.Uint32())
			}
		}
		add(string(key), value)
	}
	check := func(what string, got map[string][]byte) {
		t.Helper()
		if len(got) != len(want) {
			t.Errorf("%s: %d keys, want %d", what, len(got), len(want))
		}
		for key, v := range want {
			if g, there := got[key]; !there || !bytes.Equal(g, v) {
				t.Errorf("%s: %.32q is %.32q, want %.32q", what, key, g, v)
			}
		}
	}
	entries, _ := list(t, s, "")
	listed := map[string][]byte{}
	last := ""
	for _, e := range entries {
		if e.Key <= last {
			t.Errorf("%.32q comes after %.32q", e.Key, last)
		}
		last = e.Key
		listed[e.Key] = e.Value
	}
	check("List", listed)
	read, _, err := s.Get(ctx, keysOf(want)...)
	must(t, err)
	got := map[string][]byte{}
	for key, e := range read {
		got[key] = e.Value
	}
	check("Get", got)
	watched := map[string][]byte{}
	watchUntil(t, s, "", start, func(changes []store.Change, _ store.Revision) bool {
		for _, c := range changes {
			watched[c.Key] = c.Value
		}
		return len(watched) >= len(want)
	})
	check("Watch", watched)
}

// testRace: of many that create a key, or change it at the same revision, one wins.
func testRace(t *testing.T, b Bed) {
	ctx := within(t)
	stores := b.several(t, 3)
	const racers, rounds = 8, 20
	for round := range rounds {
		key := fmt.Sprintf("key/%d", round/2)
		found, _, err := stores[0].Get(ctx, key)
		must(t, err)
		at := found[key].Modified // every second round: 0, it is not there
		var all sync.WaitGroup
		errs := make([]error, racers)
		revisions := make([]store.Revision, racers)
		start := make(chan struct{})
		for i := range racers {
			all.Go(func() {
				<-start
				revisions[i], errs[i] = stores[i%len(stores)].Commit(ctx, store.Txn{
					If:  []store.Condition{{Key: key, Modified: at}},
					Put: []store.Put{{Key: key, Value: []byte(strconv.Itoa(i))}},
				})
			})
		}
		close(start)
		all.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("round %d: both %d and %d have won", round, winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, store.ErrConflict):
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody has won", round)
		}
		found, _, err = stores[0].Get(ctx, key)
		must(t, err)
		if e := found[key]; string(e.Value) != strconv.Itoa(winner) || e.Modified != revisions[winner] {
			t.Fatalf("round %d: %d has won at %d, but there is %s", round, winner, revisions[winner], show(e))
		}
	}
}

// testCounter: no increment gets lost, and none counts twice.
func testCounter(t *testing.T, b Bed) {
	ctx := within(t)
	stores := b.several(t, 2)
	const workers, each = 6, 15
	var all sync.WaitGroup
	for w := range workers {
		s := stores[w%len(stores)]
		all.Go(func() {
			for done := 0; done < each; {
				found, _, err := s.Get(ctx, "counter")
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(found["counter"].Value))
				_, err = s.Commit(ctx, store.Txn{
					If:  []store.Condition{{Key: "counter", Modified: found["counter"].Modified}},
					Put: []store.Put{{Key: "counter", Value: []byte(strconv.Itoa(n + 1))}},
				})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	found, _, err := stores[0].Get(ctx, "counter")
	must(t, err)
	if got := string(found["counter"].Value); got != strconv.Itoa(workers*each) {
		t.Errorf("%s after %d increments", got, workers*each)
	}
}
