package main

import "sync/atomic"

//go:noinline
func (r *ring) right() uint64 {
	if r.seen == r.own {
		r.seen = atomic.LoadUint32(r.prod)
	}
	v := r.slots[r.own&r.mask]
	r.own++
	atomic.StoreUint32(r.cons, r.own)
	return v
}
