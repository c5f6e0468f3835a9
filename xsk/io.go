package xsk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ethernetHeader is the least a frame must have; drivers read that much.
const ethernetHeader = 14

// Recv takes up to len(d) received frames, which the caller then holds.
func (s *Socket) Recv(d []Desc) int {
	n := min(s.rx.ready(1), uint32(len(d)))
	if n == 0 {
		return 0
	}
	u, own := s.u, s.rx.own
	for i := range d[:n] {
		d[i] = s.rx.slots[(own+uint32(i))&s.rx.mask]
		u.owner[d[i].Addr>>u.shift] = ownerHeld
	}
	s.rx.own = own + n
	s.rx.release()
	s.counters.received.Add(uint64(n))
	return int(n)
}

// Send puts frames into the tx ring and returns how many it took; the caller
// still holds the others. Nothing need move before Flush.
//
// A descriptor that the kernel would refuse (it would count tx_invalid_descs
// and never give the chunk back) is taken, not sent, and counted in
// Stats.TxRejected; its chunk is free again if the caller held it.
func (s *Socket) Send(d []Desc) int {
	n := min(s.tx.space(uint32(len(d))), uint32(len(d)))
	if n == 0 {
		return 0
	}
	u, own := s.u, s.tx.own
	owner := uint8(ownerSocket + s.slot)
	for i := range d[:n] {
		f := &d[i]
		c := f.Addr >> u.shift
		if c >= uint64(len(u.owner)) || u.owner[c] != ownerHeld ||
			f.Len < ethernetHeader || (f.Addr&(u.chunkSize-1))+uint64(f.Len) > u.chunkSize {
			s.counters.txRejected.Add(1)
			u.Free(f.Addr)
			continue
		}
		u.owner[c] = owner
		s.tx.slots[own&s.tx.mask] = Desc{Addr: f.Addr, Len: f.Len}
		own++
	}
	s.counters.sent.Add(uint64(own - s.tx.own))
	s.tx.own = own
	s.tx.submit()
	return int(n)
}

// Pending is how many frames the tx ring holds that the kernel hasn't taken.
func (s *Socket) Pending() int { return int(s.tx.pending()) }

// NeedWakeup reports whether the kernel waits for a kick to send (always so in
// copy mode).
func (s *Socket) NeedWakeup() bool { return s.tx.needWakeup() }

// Flush makes the kernel send what is in the tx ring. It returns nil if that
// went well or will go on by itself or with a later Flush (Pending > 0), and an
// error that is ErrLinkDown, ErrDeviceGone or ErrQueueGone if it can't; frames
// then stay in the ring, and Close takes them back.
func (s *Socket) Flush() error {
	left := s.tx.pending()
	if left == 0 || !s.tx.needWakeup() {
		return nil
	}
	s.counters.kicks.Add(1)
	if s.mode == ZeroCopyMode {
		return s.flushZeroCopy()
	}
	// In copy mode a kick sends up to the budget. As long as it makes progress
	// there is more to do; every round either takes a frame off the ring or is
	// the last, so size rounds are enough.
	for range s.tx.size {
		errno := kickTx(s.fd)
		was := left
		left = s.tx.pending()
		switch errno {
		case unix.EBUSY:
			// The device dropped a frame. It completes like a sent one; don't
			// send it again, go on with the next.
			s.counters.kickBusy.Add(1)
		case 0, unix.EAGAIN:
			// Budget used up, or no room: in the completion ring, in the
			// socket's send buffer, in the device's queue.
			switch {
			case left < was:
			case errno == unix.EAGAIN:
				s.counters.kickAgain.Add(1)
				return nil
			default:
				return s.nothingSent()
			}
		case unix.EINTR:
		case unix.ENOBUFS, unix.ENOMEM:
			s.counters.kickNoBufs.Add(1)
			return nil
		default:
			return s.kickFailed(errno)
		}
		if left == 0 {
			s.quiet = 0
			return nil
		}
	}
	return nil
}

func (s *Socket) flushZeroCopy() error {
	switch errno := kickTx(s.fd); errno {
	case 0, unix.EINTR:
	case unix.EAGAIN:
		s.counters.kickAgain.Add(1)
	case unix.EBUSY:
		s.counters.kickBusy.Add(1)
	case unix.ENOBUFS, unix.ENOMEM:
		s.counters.kickNoBufs.Add(1)
	default:
		return s.kickFailed(errno)
	}
	return nil
}

// quietKicks is after how many kicks without effect or reason the device is
// asked whether the queue is still there. (Older kernels also say nothing
// when the completion ring is full, which passes.)
const quietKicks = 8

// nothingSent: a kick returned 0, yet the ring is as full as it was. That is
// what the kernel does when the queue number no longer exists.
func (s *Socket) nothingSent() error {
	s.counters.kickAgain.Add(1)
	if s.quiet++; s.quiet < quietKicks {
		return nil
	}
	s.quiet = 0
	return s.State()
}

// kickFailed says what ENETDOWN and ENXIO mean: both come with a link that is
// down as well as with a device that is gone.
func (s *Socket) kickFailed(errno error) error {
	s.counters.kickFailed.Add(1)
	if err := s.State(); err != nil {
		return err
	}
	if errno == unix.ENETDOWN { // up again meanwhile
		return fmt.Errorf("%s: %w", s.where(), ErrLinkDown)
	}
	if errno == unix.ENXIO { // unbound for good: the device left and came back
		return fmt.Errorf("%s: %w", s.where(), ErrDeviceGone)
	}
	return fmt.Errorf("%s: send: %w", s.where(), errno)
}

// Service takes sent frames back to the free list and fills the fill ring from
// it. Call it once per batch, before sending.
func (s *Socket) Service() {
	s.reap()
	s.refill()
}

func (s *Socket) reap() {
	n := s.comp.ready(1)
	if n == 0 {
		return
	}
	own := s.comp.own
	for i := range n {
		s.u.put(s.comp.slots[(own+i)&s.comp.mask] >> s.u.shift)
	}
	s.comp.own = own + n
	s.comp.release()
	s.counters.completed.Add(uint64(n))
}

func (s *Socket) refill() {
	u := s.u
	n := min(s.fill.space(1), uint32(max(0, len(u.free)-u.reserve)))
	if n > 0 {
		owner, own := uint8(ownerSocket+s.slot), s.fill.own
		top := len(u.free) - int(n)
		for i, addr := range u.free[top:] {
			u.owner[addr>>u.shift] = owner
			s.fill.slots[(own+uint32(i))&s.fill.mask] = addr
		}
		u.free = u.free[:top]
		s.fill.own = own + n
		s.fill.submit()
	}
	if s.mode == ZeroCopyMode && s.fill.needWakeup() {
		s.counters.fillKicks.Add(1)
		kickRx(s.fd) // its errors are those of Flush and State, which report them
	}
}
