package routes

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// Snapshot is all routes at one time.
type Snapshot struct {
	Revision uint64 // of the source, which counts changes
	exact    map[string]*Route
	wild     map[string]*Route // by what follows "*."
}

// NewSnapshot takes routes over. Two for the same host are an error.
func NewSnapshot(revision uint64, list []Route) (*Snapshot, error) {
	s := &Snapshot{Revision: revision, exact: make(map[string]*Route, len(list)), wild: map[string]*Route{}}
	for i := range list {
		r := &list[i]
		m, key := s.exact, r.Host
		if parent, ok := strings.CutPrefix(r.Host, "*."); ok {
			m, key = s.wild, parent
		}
		if m[key] != nil {
			return nil, fmt.Errorf("%s: two routes for the same host", r.Host)
		}
		m[key] = r
	}
	return s, nil
}

// Lookup finds the route for a canonical host name: an exact one, or else that of
// the wildcard one label up (RFC 6125 6.4.3). It is nil where there is none.
func (s *Snapshot) Lookup(host string) *Route {
	if r := s.exact[host]; r != nil {
		return r
	}
	if len(s.wild) == 0 {
		return nil
	}
	_, parent, ok := strings.Cut(host, ".")
	if !ok {
		return nil
	}
	return s.wild[parent]
}

// Len is the number of routes.
func (s *Snapshot) Len() int { return len(s.exact) + len(s.wild) }

// Each calls f with every route, in no order, until it returns false.
func (s *Snapshot) Each(f func(*Route) bool) {
	for _, m := range [...]map[string]*Route{s.exact, s.wild} {
		for _, r := range m {
			if !f(r) {
				return
			}
		}
	}
}

// Table holds the snapshot that counts. Its zero value has no routes.
type Table struct{ now atomic.Pointer[Snapshot] }

// empty is what an unused Table holds.
var empty = &Snapshot{}

// Load is the snapshot that counts; never nil.
func (t *Table) Load() *Snapshot {
	if s := t.now.Load(); s != nil {
		return s
	}
	return empty
}

// Store makes s count.
func (t *Table) Store(s *Snapshot) { t.now.Store(s) }
