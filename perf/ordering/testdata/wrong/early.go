package main

import "sync/atomic"

//go:noinline
func (r *ring) early() uint64 {
	r.seen = atomic.LoadUint32(r.prod)
	own := r.own
	r.own++
	atomic.StoreUint32(r.cons, r.own)
	return r.slots[own&r.mask]
}
