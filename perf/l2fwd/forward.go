package l2fwd

import (
	"errors"
	"fmt"

	asavie "github.com/asavie/xdp"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/xsk"
)

// batch is how many frames a forwarder takes at once.
const batch = 64

// spins is how often a forwarder that finds nothing looks again before it
// sleeps in poll.
const spins = 64

// pollMillis bounds a sleep, so that a stop is noticed.
const pollMillis = 20

// forwarder echoes the frames of queue 0 of an interface.
type forwarder interface {
	fd() int
	run(stop <-chan struct{}) error // on the thread and CPU of the caller
	close() error
}

func swapMACs(f []byte) {
	h := (*[12]byte)(f)
	dst := [6]byte(h[:6])
	copy(h[:6], h[6:])
	copy(h[6:], dst[:])
}

func stopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// ours is l2fwd on package xsk.
type ours struct {
	u *xsk.UMEM
	s *xsk.Socket
}

func newOurs(ifindex, ring int) (forwarder, error) {
	u, err := xsk.NewUMEM(xsk.UMEMConfig{Chunks: 2 * ring, ChunkSize: xsk.Chunk2K})
	if err != nil {
		return nil, err
	}
	n := uint32(ring)
	s, err := xsk.Open(u, xsk.SocketConfig{Ifindex: ifindex, Rx: n, Tx: n, Fill: n, Completion: n})
	if err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return &ours{u, s}, nil
}

func (f *ours) fd() int { return f.s.FD() }

func (f *ours) run(stop <-chan struct{}) error {
	var d [batch]xsk.Desc
	poll := []unix.PollFd{{Fd: int32(f.s.FD()), Events: unix.POLLIN}}
	for idle := 0; ; {
		f.s.Service()
		n := f.s.Recv(d[:])
		for _, fr := range d[:n] {
			swapMACs(f.u.Frame(fr))
		}
		sent := f.s.Send(d[:n])
		for _, fr := range d[sent:n] { // no room: dropped
			f.u.Free(fr.Addr)
		}
		if err := f.s.Flush(); err != nil {
			return err
		}
		if n > 0 {
			idle = 0
			continue
		}
		if idle++; idle < spins {
			continue
		}
		if stopped(stop) {
			return nil
		}
		if _, err := unix.Poll(poll, pollMillis); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
	}
}

func (f *ours) close() error { return errors.Join(f.s.Close(), f.u.Close()) }

// theirs is l2fwd on github.com/asavie/xdp, as in that library's example.
type theirs struct {
	s *asavie.Socket
}

func newTheirs(ifindex, ring int) (forwarder, error) {
	s, err := asavie.NewSocket(ifindex, 0, &asavie.SocketOptions{
		NumFrames: 2 * ring, FrameSize: 2048,
		FillRingNumDescs: ring, CompletionRingNumDescs: ring,
		RxRingNumDescs: ring, TxRingNumDescs: ring,
	})
	if err != nil {
		return nil, fmt.Errorf("asavie/xdp: %w", err)
	}
	return &theirs{s}, nil
}

func (f *theirs) fd() int { return f.s.FD() }

func (f *theirs) run(stop <-chan struct{}) (err error) {
	defer func() { // Transmit panics on any error but EINTR, EAGAIN and EBUSY
		if p := recover(); p != nil {
			err = fmt.Errorf("asavie/xdp: %v", p)
		}
	}()
	for {
		f.s.Fill(f.s.GetDescs(f.s.NumFreeFillSlots()))
		n, _, err := f.s.Poll(pollMillis)
		if err != nil {
			return fmt.Errorf("asavie/xdp: poll: %w", err)
		}
		if n == 0 {
			if stopped(stop) {
				return nil
			}
			continue
		}
		d := f.s.Receive(n)
		for _, fr := range d {
			swapMACs(f.s.GetFrame(fr))
		}
		f.s.Transmit(d)
	}
}

func (f *theirs) close() error { return f.s.Close() }
