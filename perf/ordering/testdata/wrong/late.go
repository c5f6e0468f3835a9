package main

import "sync/atomic"

//go:noinline
func (r *ring) late() uint64 {
	v := r.slots[r.own&r.mask]
	r.seen = atomic.LoadUint32(r.prod)
	r.own++
	atomic.StoreUint32(r.cons, r.own)
	return v
}
