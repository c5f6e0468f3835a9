package routes

import (
	"sync"
	"sync/atomic"
)

// Layer is where routes come from.
type Layer uint8

// Layers, the one that wins first.
const (
	Operator Layer = iota // the file of this host
	Shared                // the store of all hosts
	numLayers
)

// Table holds the snapshot that counts: the routes of both layers. Its zero value
// has none.
//
// The most specific name wins, and among equals the operator: an exact name of
// either layer comes before a wildcard of either; where both layers have the same
// name or the same wildcard, the operator's route counts and the other is hidden.
type Table struct {
	now atomic.Pointer[Snapshot]

	mu     sync.Mutex // for writers
	layers [numLayers]*Snapshot
}

// empty is what an unused Table holds.
var empty = &Snapshot{}

// Load is the snapshot that counts; never nil.
func (t *Table) Load() *Snapshot {
	if s := t.now.Load(); s != nil {
		return s
	}
	return empty
}

// Store gives the operator's layer other routes.
func (t *Table) Store(s *Snapshot) { t.Put(Operator, s) }

// Put gives a layer other routes. If they come from those before by
// [Snapshot.With], it takes as long as there are changes.
func (t *Table) Put(l Layer, s *Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.layer(l)
	t.layers[l] = s
	operator, shared := t.layer(Operator), t.layer(Shared)
	switch {
	case shared.Len() == 0:
		t.now.Store(operator)
	case operator.Len() == 0:
		t.now.Store(shared)
	default:
		var changes []Change
		now := t.Load() // what both layers gave before
		s.diff(before, func(was, is *Route) {
			r := is
			if r == nil {
				r = was
			}
			host := r.Host
			if r = operator.Get(host); r == nil {
				r = shared.Get(host)
			}
			changes = append(changes, Change{host, r})
		})
		t.now.Store(now.With(0, changes...))
	}
}

// Of is the snapshot of one layer; never nil.
func (t *Table) Of(l Layer) *Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.layer(l)
}

func (t *Table) layer(l Layer) *Snapshot {
	if s := t.layers[l]; s != nil {
		return s
	}
	return empty
}

// Hidden is how many routes of the store give way to one of the file for the same
// host.
func (t *Table) Hidden() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.layer(Operator).Len() + t.layer(Shared).Len() - t.Load().Len()
}
