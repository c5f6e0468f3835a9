package xsk

import "sync/atomic"

// Desc is struct xdp_desc: a frame of Len bytes at Addr in the UMEM.
type Desc struct {
	Addr    uint64
	Len     uint32
	Options uint32
}

// ring is what the four rings have in common: a producer index, a consumer
// index and flags, in memory shared with the kernel. Both indexes run freely
// over 32 bits; a slot is index & mask.
//
//	cons            prod
//	 │ ready to read │ free to write ...  (prod - cons ≤ size)
//
// We own one of the two (prod of fill and tx, cons of rx and completion) and
// keep its value in own. The other side's is read with acquire only when the
// remembered value (seen) isn't enough, so that its cache line stays with the
// other CPU. Ours is stored with release once per batch.
type ring struct {
	prod, cons, flags *uint32
	size, mask        uint32
	own, seen         uint32
	mem               []byte
}

// needWakeup reports whether the kernel asks to be kicked (XDP_RING_NEED_WAKEUP).
func (r *ring) needWakeup() bool { return atomic.LoadUint32(r.flags)&1 != 0 }

// space is for producers: how many slots can be written, at least want if the
// consumer allows it.
func (r *ring) space(want uint32) uint32 {
	n := r.size - (r.own - r.seen)
	if n < want {
		r.seen = atomic.LoadUint32(r.cons)
		n = r.size - (r.own - r.seen)
	}
	return n
}

// ready is for consumers: how many slots can be read, at least want if the
// producer has them.
func (r *ring) ready(want uint32) uint32 {
	n := r.seen - r.own
	if n < want {
		r.seen = atomic.LoadUint32(r.prod)
		n = r.seen - r.own
	}
	return n
}

// submit makes what a producer wrote up to own visible to the kernel.
func (r *ring) submit() { atomic.StoreUint32(r.prod, r.own) }

// release gives slots that a consumer has read up to own back to the kernel.
func (r *ring) release() { atomic.StoreUint32(r.cons, r.own) }

// pending is for producers: entries that the kernel has not taken yet.
func (r *ring) pending() uint32 {
	r.seen = atomic.LoadUint32(r.cons)
	return r.own - r.seen
}

// bounds reads both indexes as they are in shared memory, for the audit.
func (r *ring) bounds() (cons, prod uint32) {
	return atomic.LoadUint32(r.cons), atomic.LoadUint32(r.prod)
}

// addrRing carries chunk addresses: the fill and the completion ring.
type addrRing struct {
	ring
	slots []uint64
}

// descRing carries descriptors: the rx and the tx ring.
type descRing struct {
	ring
	slots []Desc
}
