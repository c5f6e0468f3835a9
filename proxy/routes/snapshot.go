package routes

import (
	"fmt"
	"strings"

	"aarch64.com/isthmus/proxy/routes/internal/cow"
)

// Snapshot is all routes at one time. Those that follow one another by [Snapshot.With]
// share what has not changed.
type Snapshot struct {
	Revision uint64         // of the source, which counts changes; 0 where a Table has merged two
	exact    cow.Map[Route] // by host
	wild     cow.Map[Route] // by what follows "*."
}

// NewSnapshot takes routes over. Two for the same host are an error.
func NewSnapshot(revision uint64, list []Route) (*Snapshot, error) {
	exact, wild := (&cow.Map[Route]{}).Edit(), (&cow.Map[Route]{}).Edit()
	for i := range list {
		r := &list[i]
		m, key := exact, r.Host
		if parent, ok := strings.CutPrefix(r.Host, "*."); ok {
			m, key = wild, parent
		}
		if m.Get(key) != nil {
			return nil, fmt.Errorf("%s: two routes for the same host", r.Host)
		}
		m.Set(key, r)
	}
	return &Snapshot{Revision: revision, exact: *exact.Map(), wild: *wild.Map()}, nil
}

// Change is what becomes of the route for a host.
type Change struct {
	Host  string
	Route *Route // nil: there is none any more
}

// With is the snapshot after changes, the last for a host winning. It takes some
// microseconds for each, however many routes there are; s stays as it is.
func (s *Snapshot) With(revision uint64, changes ...Change) *Snapshot {
	exact, wild := s.exact.Edit(), s.wild.Edit()
	for _, c := range changes {
		m, key := exact, c.Host
		if parent, ok := strings.CutPrefix(c.Host, "*."); ok {
			m, key = wild, parent
		}
		if c.Route == nil {
			m.Delete(key)
		} else {
			m.Set(key, c.Route)
		}
	}
	return &Snapshot{Revision: revision, exact: *exact.Map(), wild: *wild.Map()}
}

// Get is the route for a host as it is written, "*." included; nil: none.
func (s *Snapshot) Get(host string) *Route {
	if parent, ok := strings.CutPrefix(host, "*."); ok {
		return s.wild.Get(parent)
	}
	return s.exact.Get(host)
}

// Lookup finds the route for a canonical host name: an exact one, or else that of
// the wildcard one label up (RFC 6125 6.4.3). It is nil where there is none.
func (s *Snapshot) Lookup(host string) *Route {
	if r := s.exact.Get(host); r != nil {
		return r
	}
	if s.wild.Len() == 0 {
		return nil
	}
	_, parent, ok := strings.Cut(host, ".")
	if !ok {
		return nil
	}
	return s.wild.Get(parent)
}

// Len is the number of routes.
func (s *Snapshot) Len() int { return s.exact.Len() + s.wild.Len() }

// Each calls f with every route, in no order, until it returns false.
func (s *Snapshot) Each(f func(*Route) bool) {
	for _, m := range [...]*cow.Map[Route]{&s.exact, &s.wild} {
		for _, r := range m.All() {
			if !f(r) {
				return
			}
		}
	}
}
