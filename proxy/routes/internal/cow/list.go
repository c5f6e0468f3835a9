package cow

import (
	"iter"
	"slices"
	"sort"
)

// most is how many entries stand in a chunk of a List: a change of a hundred
// thousand copies one of them, 4 KB, and the list of about 400 of them.
const most = 512

// List is a sorted list. Two entries that compare as equal are the same one.
type List[T any] struct {
	compare func(a, b *T) int
	n       int
	chunks  []chunk[T] // none is empty
}

type chunk[T any] struct {
	owner *edit
	items []*T
}

// NewList is an empty list.
func NewList[T any](compare func(a, b *T) int) *List[T] { return &List[T]{compare: compare} }

// Len is the number of entries.
func (l *List[T]) Len() int { return l.n }

// From goes through the entries in their order, from the first for which reached
// is true; it has to be so for all after that one, too.
func (l *List[T]) From(reached func(*T) bool) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		c := sort.Search(len(l.chunks), func(i int) bool { return reached(l.chunks[i].last()) })
		if c == len(l.chunks) {
			return
		}
		items := l.chunks[c].items
		items = items[sort.Search(len(items), func(i int) bool { return reached(items[i]) }):]
		for {
			for _, x := range items {
				if !yield(x) {
					return
				}
			}
			if c++; c == len(l.chunks) {
				return
			}
			items = l.chunks[c].items
		}
	}
}

// All goes through the entries in their order.
func (l *List[T]) All() iter.Seq[*T] { return l.From(func(*T) bool { return true }) }

func (c *chunk[T]) last() *T { return c.items[len(c.items)-1] }

// ListEdit is a list that is being changed, by one goroutine.
type ListEdit[T any] struct {
	owner *edit
	l     *List[T]
	owned bool // l.chunks
}

// Edit begins a change. The list stays as it is.
func (l *List[T]) Edit() *ListEdit[T] {
	now := *l
	return &ListEdit[T]{owner: new(edit), l: &now}
}

// List ends the change and gives its outcome.
func (e *ListEdit[T]) List() *List[T] {
	l := e.l
	*e = ListEdit[T]{}
	return l
}

// Len is the number of entries.
func (e *ListEdit[T]) Len() int { return e.l.n }

// Set adds an entry, or replaces the one that compares as equal.
func (e *ListEdit[T]) Set(x *T) {
	if len(e.l.chunks) == 0 {
		e.l.chunks, e.l.n, e.owned = []chunk[T]{{e.owner, []*T{x}}}, 1, true
		return
	}
	c, i, found := e.find(x)
	if c == len(e.l.chunks) { // behind all
		c--
		i = len(e.l.chunks[c].items)
	}
	at := e.own(c)
	if found {
		at.items[i] = x
		return
	}
	e.l.n++
	at.items = slices.Insert(at.items, i, x)
	if len(at.items) < most {
		return
	}
	// What comes in order fills chunks, what comes in any leaves them half full.
	half := most / 2
	if c == len(e.l.chunks)-1 && i == most-1 {
		half = most - 1
	}
	upper := chunk[T]{e.owner, append(make([]*T, 0, most), at.items[half:]...)}
	clear(at.items[half:])
	at.items = at.items[:half]
	e.l.chunks = slices.Insert(e.l.chunks, c+1, upper)
}

// Delete removes the entry that compares as equal, if there is one.
func (e *ListEdit[T]) Delete(x *T) {
	c, i, found := e.find(x)
	if !found {
		return
	}
	at := e.own(c)
	e.l.n--
	at.items = slices.Delete(at.items, i, i+1)
	if len(at.items) == 0 {
		e.l.chunks = slices.Delete(e.l.chunks, c, c+1)
		return
	}
	// Few entries should not stand in many chunks.
	e.join(c)
	e.join(c - 1)
}

// join makes one of two neighbours that are small.
func (e *ListEdit[T]) join(c int) {
	if c < 0 || c+1 >= len(e.l.chunks) || len(e.l.chunks[c].items)+len(e.l.chunks[c+1].items) >= most/4 {
		return
	}
	at := e.own(c)
	at.items = append(at.items, e.l.chunks[c+1].items...)
	e.l.chunks = slices.Delete(e.l.chunks, c+1, c+2)
}

// find tells where an entry is, or would be.
func (e *ListEdit[T]) find(x *T) (c, i int, found bool) {
	chunks := e.l.chunks
	c = sort.Search(len(chunks), func(i int) bool { return e.l.compare(chunks[i].last(), x) >= 0 })
	if c < len(chunks) {
		i, found = slices.BinarySearchFunc(chunks[c].items, x, e.l.compare)
	}
	return c, i, found
}

// own gives a chunk to write to.
func (e *ListEdit[T]) own(c int) *chunk[T] {
	if !e.owned {
		e.l.chunks, e.owned = slices.Clone(e.l.chunks), true
	}
	at := &e.l.chunks[c]
	if at.owner != e.owner {
		*at = chunk[T]{e.owner, append(make([]*T, 0, len(at.items)+1), at.items...)}
	}
	return at
}
