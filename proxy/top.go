package proxy

import (
	"cmp"
	"slices"
	"sync"
)

// topSize is how many hosts a top counts. Any host with more than 1/topSize of
// everything is among them.
const topSize = 256

// HostUse is how much a host has had.
type HostUse struct {
	Host  string
	Count uint64
	// Over is by how much Count may be too high, for what other hosts had
	// before this one came into the list.
	Over uint64
}

// top finds those that have most in bounded memory: the Space-Saving algorithm
// of Metwally, Agrawal, El Abbadi, Efficient Computation of Frequent and Top-k
// Elements in Data Streams (ICDT 2005). Its zero value is empty.
type top struct {
	mu   sync.Mutex
	at   map[string]int
	uses []HostUse
}

func (t *top) add(host string, n uint64) {
	if n == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := t.at[host]; ok {
		t.uses[i].Count += n
		return
	}
	if t.at == nil {
		t.at = make(map[string]int, topSize)
	}
	if len(t.uses) < topSize {
		t.at[host] = len(t.uses)
		t.uses = append(t.uses, HostUse{Host: host, Count: n})
		return
	}
	least := 0
	for i := range t.uses {
		if t.uses[i].Count < t.uses[least].Count {
			least = i
		}
	}
	u := &t.uses[least]
	delete(t.at, u.Host)
	t.at[host] = least
	*u = HostUse{Host: host, Count: u.Count + n, Over: u.Count}
}

func (t *top) list(n int) []HostUse {
	t.mu.Lock()
	all := slices.Clone(t.uses)
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b HostUse) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Host, b.Host))
	})
	return all[:min(n, len(all))]
}
