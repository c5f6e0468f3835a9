package cow

import (
	"hash/maphash"
	"iter"
)

// A Map is a hash table in three steps, root, branch and shard, of which an edit
// copies one of each:
//
//	root [32] ─▶ branch [32] ─▶ shard: slots, about 150 in 100,000 entries
//
// Two fixed steps of 32 find a shard as fast as one of 1,024, but leave 1 KB to copy
// instead of 25. With four times as many shards a change copies less, and a look-up
// waits for one more line of cache.
const (
	fanout    = 32
	rootShift = 64 - 5 // of the hash; the low half chooses the slot
	nextShift = 64 - 10
)

// seed is the same for all maps of the process, so that [Map.Diff] can compare
// their shards, and unknown outside of it.
var seed = maphash.MakeSeed()

// sum is never 0, which marks a free slot; the bit is one that chooses nothing.
func sum(key string) uint64 { return maphash.String(seed, key) | 1<<40 }

// Map leads from strings to pointers. Its zero value is empty.
type Map[T any] struct {
	n    int
	root [fanout]*branch[T]
}

type branch[T any] struct {
	owner  *edit
	owned  uint64 // a bit for each shard that the owner has copied
	used   [fanout]int32
	shards [fanout]shard[T]
}

// shard is a table with open addressing, of which two thirds to three quarters are
// in use: with sizes that double, twice the memory would have to pass the caches.
type shard[T any] []slot[T]

type slot[T any] struct {
	sum   uint64
	key   string
	value *T
}

// Len is the number of entries.
func (m *Map[T]) Len() int { return m.n }

// Get gives the value of a key, or nil.
func (m *Map[T]) Get(key string) *T {
	h := sum(key)
	if b := m.root[h>>rootShift]; b != nil {
		if e := b.shards[h>>nextShift%fanout].find(h, key); e != nil {
			return e.value
		}
	}
	return nil
}

// All goes through the entries, in no order.
func (m *Map[T]) All() iter.Seq2[string, *T] {
	return func(yield func(string, *T) bool) {
		for _, b := range m.root {
			for i := 0; b != nil && i < fanout; i++ {
				for j := range b.shards[i] {
					if e := &b.shards[i][j]; e.sum != 0 && !yield(e.key, e.value) {
						return
					}
				}
			}
		}
	}
}

// Diff calls f for each key whose value is another pointer than before; nil stands
// for none. What both maps share is not looked at.
func (m *Map[T]) Diff(before *Map[T], f func(key string, was, is *T)) {
	var none branch[T]
	for i, b := range m.root {
		old := before.root[i]
		if b == old {
			continue
		}
		if b == nil {
			b = &none
		}
		if old == nil {
			old = &none
		}
		for j := range fanout {
			b.shards[j].diff(old.shards[j], f)
		}
	}
}

func (s shard[T]) diff(before shard[T], f func(key string, was, is *T)) {
	if len(s) == len(before) && (len(s) == 0 || &s[0] == &before[0]) {
		return
	}
	for i := range s {
		e := &s[i]
		if e.sum == 0 {
			continue
		}
		if old := before.find(e.sum, e.key); old == nil {
			f(e.key, nil, e.value)
		} else if old.value != e.value {
			f(e.key, old.value, e.value)
		}
	}
	for i := range before {
		if old := &before[i]; old.sum != 0 && s.find(old.sum, old.key) == nil {
			f(old.key, old.value, nil)
		}
	}
}

// find gives the slot of a key, or nil. There is always a free one to end at.
func (s shard[T]) find(h uint64, key string) *slot[T] {
	if len(s) == 0 {
		return nil
	}
	for i := s.first(h); ; {
		e := &s[i]
		if e.sum == h && e.key == key {
			return e
		}
		if e.sum == 0 {
			return nil
		}
		if i++; i == len(s) {
			i = 0
		}
	}
}

// put fills a free slot.
func (s shard[T]) put(e slot[T]) {
	i := s.first(e.sum)
	for s[i].sum != 0 {
		if i++; i == len(s) {
			i = 0
		}
	}
	s[i] = e
}

// first is the slot of a hash, without the division of a remainder.
func (s shard[T]) first(h uint64) int { return int(uint64(uint32(h)) * uint64(len(s)) >> 32) }
