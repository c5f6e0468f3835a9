package catalog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"aarch64.com/isthmus/proxy/routes/store"
)

// ErrNotEmpty tells that a store to migrate to has records.
var ErrNotEmpty = errors.New("the store to migrate to is not empty")

// Migrated counts what has been copied.
type Migrated struct {
	Records int `json:"records"` // of all kinds
	Removed int `json:"removed"` // that only the target had
}

// Migrate copies all records, tokens and the audit log included, from a store to one
// without any; with force, the target's own are removed. In the end both are compared.
// Nobody shall change records meanwhile: what changes is copied in another round, and
// after a few the migration fails.
func Migrate(ctx context.Context, from, to store.Store, force bool) (n Migrated, err error) {
	want, err := dump(ctx, from)
	if err != nil {
		return n, fmt.Errorf("read the store to migrate from: %w", err)
	}
	have, err := dump(ctx, to)
	switch {
	case err != nil:
		return n, fmt.Errorf("read the store to migrate to: %w", err)
	case len(have) > 0 && !force:
		return n, fmt.Errorf("%w: it has %d records", ErrNotEmpty, len(have))
	}
	const rounds = 3
	for range rounds {
		removed, err := makeEqual(ctx, to, want, have)
		if n.Removed += removed; err != nil {
			return n, fmt.Errorf("write to the store to migrate to: %w", err)
		}
		if have, err = dump(ctx, to); err != nil {
			return n, fmt.Errorf("compare the stores: %w", err)
		}
		if want, err = dump(ctx, from); err != nil {
			return n, fmt.Errorf("compare the stores: %w", err)
		}
		n.Records = len(want)
		if maps.EqualFunc(want, have, func(a, b store.Entry) bool { return bytes.Equal(a.Value, b.Value) }) {
			return n, nil
		}
	}
	return n, errors.New("the stores still differ: somebody changes records; stop the API on all nodes, and migrate with force")
}

// lives tells whether a key is one that nodes announce, or of what they count.
func lives(key string) bool {
	return strings.HasPrefix(key, NodePrefix) || strings.HasPrefix(key, LockPrefix) || strings.HasPrefix(key, visits) || key == TallyKey
}

// dump reads all records, but not what nodes announce and count.
func dump(ctx context.Context, s store.Store) (map[string]store.Entry, error) {
	all := map[string]store.Entry{}
	_, err := s.List(ctx, "", func(e store.Entry) error {
		if !lives(e.Key) {
			all[e.Key] = e
		}
		return nil
	})
	return all, err
}

// makeEqual writes what differs, in the order in which records were made first, so
// that older ones stay older.
func makeEqual(ctx context.Context, to store.Store, want, have map[string]store.Entry) (removed int, err error) {
	var put []store.Entry
	for key, e := range want {
		if old, ok := have[key]; !ok || !bytes.Equal(old.Value, e.Value) {
			put = append(put, e)
		}
	}
	slices.SortFunc(put, func(a, b store.Entry) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Key, b.Key))
	})
	var t store.Txn
	size := 0
	flush := func() error {
		if len(t.Put)+len(t.Delete) == 0 {
			return nil
		}
		_, err := to.Commit(ctx, t)
		t, size = store.Txn{}, 0
		return err
	}
	for _, e := range put {
		more := len(e.Key) + len(e.Value)
		if len(t.Put) == store.MaxTxn || size+more > store.MaxBytes {
			if err := flush(); err != nil {
				return 0, err
			}
		}
		t.Put = append(t.Put, store.Put{Key: e.Key, Value: e.Value})
		size += more
	}
	if err := flush(); err != nil {
		return 0, err
	}
	for key := range have {
		if _, ok := want[key]; ok {
			continue
		}
		if t.Delete = append(t.Delete, key); len(t.Delete) == store.MaxTxn {
			if err := flush(); err != nil {
				return removed, err
			}
		}
		removed++
	}
	return removed, flush()
}
