package main

import "sync/atomic"

//go:noinline
func (r *ring) forgotten(v uint64) uint32 {
	r.seen = atomic.LoadUint32(r.cons)
	r.slots[r.own&r.mask] = v
	r.own++
	if v&1 != 0 {
		atomic.StoreUint32(r.prod, r.own)
	}
	return r.seen
}

func (r *ring) unused() { atomic.StoreUint32(r.prod, r.own) }
