package xsk

import (
	"errors"
	"fmt"
)

// Audit is where all chunks of a UMEM are:
// Free + Held + Fill + Rx + Tx + Completion + Kernel = Chunks.
type Audit struct {
	Chunks       int
	Free         int // on the free list
	Held         int // with the caller
	Fill, Rx, Tx int // in rings, of all sockets
	Completion   int
	Kernel       int    // lent to a socket but in none of its rings: with the driver, or on the way out
	Misuse       uint64 // Free of chunks that weren't held, since the beginning
}

// Audit counts every chunk and reports one that is in two places, or in a place
// that isn't its owner's. For tests and diagnosis, while the caller leaves the
// sockets alone; what the kernel moves meanwhile may count as Kernel.
func (u *UMEM) Audit() (Audit, error) {
	a := Audit{Chunks: len(u.owner), Misuse: u.misuse}
	var errs []error
	seen := make([]string, len(u.owner))
	note := func(addr uint64, owner uint8, place string) bool {
		i := addr >> u.shift
		switch {
		case i >= uint64(len(u.owner)):
			errs = append(errs, fmt.Errorf("address %#x in %s is outside", addr, place))
			return false
		case seen[i] != "":
			errs = append(errs, fmt.Errorf("chunk %d is in %s and in %s", i, seen[i], place))
			return false
		case u.owner[i] != owner:
			errs = append(errs, fmt.Errorf("chunk %d in %s belongs to %d, not %d", i, place, u.owner[i], owner))
		}
		seen[i] = place
		return true
	}
	for _, addr := range u.free {
		if note(addr, ownerFree, "the free list") {
			a.Free++
		}
	}
	for _, s := range u.sockets {
		if s == nil {
			continue
		}
		owner := uint8(ownerSocket + s.slot)
		each := func(r *ring, place string, addr func(uint32) uint64, n *int) {
			cons, prod := r.bounds()
			for i := cons; i != prod; i++ {
				if note(addr(i&r.mask), owner, place+" of "+s.where()) {
					*n++
				}
			}
		}
		// Against the flow: a chunk that the kernel moves on meanwhile is seen in
		// neither of its rings, and not in both.
		each(&s.rx.ring, "rx ring", func(i uint32) uint64 { return s.rx.slots[i].Addr }, &a.Rx)
		each(&s.fill.ring, "fill ring", func(i uint32) uint64 { return s.fill.slots[i] }, &a.Fill)
		each(&s.comp.ring, "completion ring", func(i uint32) uint64 { return s.comp.slots[i] }, &a.Completion)
		each(&s.tx.ring, "tx ring", func(i uint32) uint64 { return s.tx.slots[i].Addr }, &a.Tx)
	}
	for i, place := range seen {
		switch {
		case place != "":
		case u.owner[i] == ownerHeld:
			a.Held++
		case u.owner[i] == ownerFree:
			errs = append(errs, fmt.Errorf("chunk %d is free but not on the free list", i))
		default:
			a.Kernel++
		}
	}
	return a, errors.Join(errs...)
}
