package catalog

import (
	"context"
	"sort"
	"strings"
	"sync"

	"aarch64.com/isthmus/proxy/routes/store"
)

// mem is the smallest store that can be: a map under a lock.
type mem struct {
	store.Store
	mu   sync.Mutex
	rev  store.Revision
	keys map[string]store.Entry
}

func (m *mem) Get(_ context.Context, keys ...string) (map[string]store.Entry, store.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := map[string]store.Entry{}
	for _, k := range keys {
		if e, ok := m.keys[k]; ok {
			got[k] = e
		}
	}
	return got, m.rev, nil
}

func (m *mem) List(_ context.Context, prefix string, f func(store.Entry) error) (store.Revision, error) {
	m.mu.Lock()
	rev := m.rev
	var all []store.Entry
	for k, e := range m.keys {
		if strings.HasPrefix(k, prefix) {
			all = append(all, e)
		}
	}
	m.mu.Unlock()
	sort.Slice(all, func(i, j int) bool { return all[i].Key < all[j].Key })
	for _, e := range all {
		if err := f(e); err != nil {
			return rev, err
		}
	}
	return rev, nil
}

func (m *mem) Commit(_ context.Context, t store.Txn) (store.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range t.If {
		if m.keys[c.Key].Modified != c.Modified {
			return 0, store.ErrConflict
		}
	}
	m.rev++
	for _, p := range t.Put {
		e := store.Entry{Key: p.Key, Value: p.Value, Created: m.rev, Modified: m.rev}
		if old, ok := m.keys[p.Key]; ok {
			e.Created = old.Created
		}
		m.keys[p.Key] = e
	}
	for _, k := range t.Delete {
		delete(m.keys, k)
	}
	return m.rev, nil
}
