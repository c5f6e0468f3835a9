package cow

// MapEdit is a map that is being changed, by one goroutine.
type MapEdit[T any] struct {
	owner *edit
	m     *Map[T]
}

// Edit begins a change. The map stays as it is.
func (m *Map[T]) Edit() *MapEdit[T] {
	now := *m
	return &MapEdit[T]{owner: new(edit), m: &now}
}

// Map ends the change and gives its outcome.
func (e *MapEdit[T]) Map() *Map[T] {
	m := e.m
	*e = MapEdit[T]{}
	return m
}

// Len is the number of entries.
func (e *MapEdit[T]) Len() int { return e.m.n }

// Get gives the value of a key, or nil.
func (e *MapEdit[T]) Get(key string) *T { return e.m.Get(key) }

// Set gives a key a value, which is not nil.
func (e *MapEdit[T]) Set(key string, value *T) {
	h := sum(key)
	b, i := e.own(h)
	if at := b.shards[i].find(h, key); at != nil {
		at.value = value
		return
	}
	if n := b.used[i] + 1; int(n)*4 > len(b.shards[i])*3 {
		b.shards[i] = b.shards[i].copy(n, "")
	}
	b.shards[i].put(slot[T]{h, key, value})
	b.used[i]++
	e.m.n++
}

// Delete removes a key, if there is one.
func (e *MapEdit[T]) Delete(key string) {
	if e.m.Get(key) == nil {
		return
	}
	b, i := e.own(sum(key))
	b.used[i]--
	e.m.n--
	// Without it, others might have a shorter way from their place.
	b.shards[i] = b.shards[i].copy(b.used[i], key)
}

// own gives the shard of a hash, to write to.
func (e *MapEdit[T]) own(h uint64) (b *branch[T], i uint64) {
	at := &e.m.root[h>>rootShift]
	switch b = *at; {
	case b == nil:
		b = &branch[T]{owner: e.owner}
	case b.owner != e.owner:
		now := *b
		b = &now
		b.owner, b.owned = e.owner, 0
	}
	*at = b
	i = h >> nextShift % fanout
	if b.owned&(1<<i) == 0 {
		b.owned |= 1 << i
		b.shards[i] = append(shard[T](nil), b.shards[i]...)
	}
	return b, i
}

// copy puts all of a shard but one key into another with room for n.
func (s shard[T]) copy(n int32, without string) shard[T] {
	if n == 0 {
		return nil
	}
	now := make(shard[T], n+n/2+4)
	for i := range s {
		if s[i].sum != 0 && s[i].key != without {
			now.put(s[i])
		}
	}
	return now
}
