package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"aarch64.com/isthmus/proxy/routes/store"
)

func testGet(t *testing.T, b Bed) {
	ctx, s := within(t), b.open(t)
	found, before, err := s.Get(ctx, "a", "b")
	must(t, err)
	if len(found) != 0 {
		t.Errorf("an empty store has %v", keysOf(found))
	}
	first := put(t, s, "a", "1", "c", "2")
	if first <= before {
		t.Errorf("revision %d after %d", first, before)
	}
	second := put(t, s, "b", "3", "a", "4")
	found, now, err := s.Get(ctx, "c", "a", "missing", "b", "a")
	must(t, err)
	if now != second {
		t.Errorf("Get is at %d, the last commit at %d", now, second)
	}
	var got []string
	for _, key := range keysOf(found) {
		if found[key].Key != key {
			t.Errorf("under %q there is %q", key, found[key].Key)
		}
		got = append(got, show(found[key]))
	}
	same(t, "Get", got, []string{
		fmt.Sprintf("a=4 created %d modified %d", first, second),
		fmt.Sprintf("b=3 created %d modified %d", second, second),
		fmt.Sprintf("c=2 created %d modified %d", first, first),
	})
	if r := revision(t, s); r != second {
		t.Errorf("without keys, Get is at %d, the last commit at %d", r, second)
	}
	// More than a transaction may have.
	var keys []string
	for i := range 3 * store.MaxTxn {
		keys = append(keys, fmt.Sprintf("many/%03d", i))
	}
	for part := range slices.Chunk(keys, store.MaxTxn) {
		var txn store.Txn
		for _, k := range part {
			txn.Put = append(txn.Put, store.Put{Key: k})
		}
		commit(t, s, txn)
	}
	found, _, err = s.Get(ctx, keys...)
	must(t, err)
	same(t, "Get of many", keysOf(found), keys)
	if _, _, err := s.Get(ctx, ""); err == nil {
		t.Error("an empty key can be read")
	}
}

// testGetAtOneRevision reads two keys that always change together, and others in
// between so that there is more than one request to make.
func testGetAtOneRevision(t *testing.T, b Bed) {
	ctx := within(t)
	stores := b.several(t, 2)
	keys := []string{"first"}
	for i := range 2 * store.MaxTxn {
		keys = append(keys, strconv.Itoa(i))
	}
	keys = append(keys, "last")
	put(t, stores[0], "first", "0", "last", "0")
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			v := []byte(strconv.Itoa(i))
			if _, err := stores[0].Commit(ctx, store.Txn{Put: []store.Put{{Key: "first", Value: v}, {Key: "last", Value: v}}}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 50 {
		found, at, err := stores[len(stores)-1].Get(ctx, keys...)
		if err != nil {
			t.Error(err)
			break
		}
		first, last := found["first"], found["last"]
		if string(first.Value) != string(last.Value) || first.Modified != last.Modified || first.Modified > at {
			t.Errorf("at %d: %s, %s", at, show(first), show(last))
		}
	}
	close(stop)
	writer.Wait()
}

// testGetIsLinearizable: what a commit has answered is in every Get that begins
// later, wherever.
func testGetIsLinearizable(t *testing.T, b Bed) {
	ctx := within(t)
	stores := b.several(t, 3)
	for i := range 50 {
		want := strconv.Itoa(i)
		made := put(t, stores[i%len(stores)], "key", want)
		for n, s := range stores {
			found, at, err := s.Get(ctx, "key")
			must(t, err)
			if string(found["key"].Value) != want || at < made {
				t.Fatalf("after commit %d of %q, store %d has %q at %d", made, want, n, found["key"].Value, at)
			}
			entries, at := list(t, s, "key")
			if len(entries) != 1 || string(entries[0].Value) != want || at < made {
				t.Fatalf("after commit %d of %q, store %d lists %q at %d", made, want, n, showAll(entries), at)
			}
		}
	}
}

func testList(t *testing.T, b Bed) {
	s := b.open(t)
	if all, _ := list(t, s, ""); len(all) != 0 {
		t.Errorf("an empty store lists %q", showAll(all))
	}
	at := put(t, s, "a", "", "a/", "", "a/\x00", "", "a/b", "", "a/b/c", "", "a/\xff", "", "a/\xff\xff", "", "a0", "", "b", "", "\xff", "")
	for _, c := range []struct {
		prefix string
		want   []string
	}{
		{"", []string{"a", "a/", "a/\x00", "a/b", "a/b/c", "a/\xff", "a/\xff\xff", "a0", "b", "\xff"}},
		{"a/", []string{"a/", "a/\x00", "a/b", "a/b/c", "a/\xff", "a/\xff\xff"}},
		{"a/\xff", []string{"a/\xff", "a/\xff\xff"}},
		{"a/b", []string{"a/b", "a/b/c"}},
		{"\xff", []string{"\xff"}},
		{"c", nil},
	} {
		var got []string
		entries, r := list(t, s, c.prefix)
		for _, e := range entries {
			got = append(got, e.Key)
		}
		same(t, fmt.Sprintf("prefix %q", c.prefix), got, c.want)
		if r != at {
			t.Errorf("prefix %q: listed at %d, committed at %d", c.prefix, r, at)
		}
	}
}

func testListEnds(t *testing.T, b Bed) {
	s := b.open(t)
	for i := range 30 {
		var txn store.Txn
		for k := range store.MaxTxn {
			txn.Put = append(txn.Put, store.Put{Key: fmt.Sprintf("key/%02d/%03d", i, k), Value: make([]byte, 1000)})
		}
		commit(t, s, txn)
	}
	enough, n := errors.New("enough"), 0
	_, err := s.List(within(t), "key/", func(store.Entry) error {
		if n++; n == 5 {
			return enough
		}
		return nil
	})
	if err != enough || n != 5 {
		t.Errorf("f was called %d times, and List said %v", n, err)
	}
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	_, err = s.List(ctx, "key/", func(store.Entry) error {
		cancel()
		return nil
	})
	is(t, "a context that ends in between", err, context.Canceled)
	// f may use the store, and what it is given stays as it is.
	var first store.Entry
	n = 0
	_, err = s.List(within(t), "key/", func(e store.Entry) error {
		if n++; n == 1 {
			first = e
		}
		if n%500 == 0 {
			put(t, s, "other", strconv.Itoa(n), e.Key, "changed")
		}
		return nil
	})
	must(t, err)
	if want := 30 * store.MaxTxn; n != want || first.Key != "key/00/000" || len(first.Value) != 1000 {
		t.Errorf("listed %d of %d, the first is %q with %d bytes", n, want, first.Key, len(first.Value))
	}
}

// testListAtOneRevision lists while a writer moves a mark through the keys. At
// each revision there is exactly one.
func testListAtOneRevision(t *testing.T, b Bed) {
	ctx := within(t)
	stores := b.several(t, 2)
	const keys = 3000
	key := func(i int) string { return fmt.Sprintf("key/%04d", i%keys) }
	for i := 0; i < keys; i += store.MaxTxn {
		var txn store.Txn
		for k := range store.MaxTxn {
			txn.Put = append(txn.Put, store.Put{Key: key(i + k), Value: []byte("-")})
		}
		commit(t, stores[0], txn)
	}
	put(t, stores[0], key(0), "mark")
	marked := sync.Map{} // revision: key
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		// Backwards, so that the mark meets the reader.
		for i := 7 * keys; ; i -= 7 {
			select {
			case <-stop:
				return
			default:
			}
			r, err := stores[0].Commit(ctx, store.Txn{
				Put:    []store.Put{{Key: key(i), Value: []byte("-")}, {Key: key(i - 7), Value: []byte("mark")}},
				Delete: []string{"none"},
			})
			if err != nil {
				t.Error(err)
				return
			}
			marked.Store(r, key(i-7))
		}
	})
	type listing struct {
		at    store.Revision
		marks []string
	}
	var lists []listing
	for range 30 {
		var l listing
		n := 0
		var err error
		l.at, err = stores[len(stores)-1].List(ctx, "key/", func(e store.Entry) error {
			n++
			if string(e.Value) == "mark" {
				l.marks = append(l.marks, e.Key)
			}
			return nil
		})
		if err != nil || n != keys {
			t.Errorf("listed %d of %d: %v", n, keys, err)
			break
		}
		lists = append(lists, l)
	}
	close(stop)
	writer.Wait()
	for _, l := range lists {
		want, known := marked.Load(l.at) // not those of before the writer began
		if len(l.marks) != 1 || known && l.marks[0] != want {
			t.Errorf("at %d the marks are at %q, want %v", l.at, l.marks, want)
		}
	}
}
