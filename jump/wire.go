package jump

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// errBacklog ends a connection whose client sends more than its channels take.
var errBacklog = errors.New("more unread data than a connection may have")

// backlogMax bounds the bytes that a client has sent and no VM has taken, while
// one takes nothing. Flow control alone would let a client leave two million
// packets of one byte each, at about a hundred bytes of memory per packet.
const (
	backlogMax = 8 << 20
	// windowSize is what flow control allows each channel to be ahead by.
	windowSize = 2 << 20
	// overhead is more than any packet has on the wire besides its payload:
	// length, padding, message number, channel, authentication tag.
	overhead = 64
)

// wire is a client's TCP connection as the SSH transport sees it. It counts, so that
// the connection can be watched from outside.
type wire struct {
	net.Conn
	start time.Time
	stall atomic.Int64         // for a write, time.Duration; 0 while logging in, which has a deadline
	turn  atomic.Pointer[turn] // while logging in

	exchanges atomic.Uint64 // key exchanges that were asked for

	said  int    // bytes that the SSH library writes and hello has written
	first []byte // read by hello, for the SSH library

	gcm  atomic.Bool          // logged in, and AES-GCM is all that is possible
	head *[libraryBuffer]byte // held back by hold, for gather

	fate atomic.Uint32 // End that the connection has come to by itself; Running: none

	read    atomic.Uint64 // bytes
	written atomic.Uint64
	last    atomic.Int64 // when something came from the client, UnixNano

	// What channels took of what was read, as payload and as number of reads,
	// and how many relays wait for a VM at the moment.
	taken      atomic.Uint64
	takes      atomic.Uint64
	waiting    atomic.Int32
	halfClosed atomic.Int32 // channels that are not read any more
	channels   atomic.Int32
	// mark is the backlog estimate's zero: moved up whenever nothing is kept.
	mark atomic.Int64
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c, start: time.Now()}
	w.last.Store(w.start.UnixNano())
	return w
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.first) > 0 {
		if t := w.turn.Load(); t != nil {
			if err := t.take(); err != nil {
				return 0, err
			}
		}
		n := copy(p, w.first)
		if w.first = w.first[n:]; len(w.first) == 0 {
			w.first = nil
		}
		return n, nil
	}
	if t := w.turn.Load(); t != nil {
		return w.loginRead(t, p)
	}
	if w.excess() > backlogMax+windowSize*int64(w.channels.Load()) {
		w.ended(Stalled)
		return 0, errBacklog
	}
	return w.receive(p)
}

func (w *wire) receive(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.read.Add(uint64(n))
		w.last.Store(time.Now().UnixNano())
	}
	if err != nil {
		w.ended(fateOf(err))
	}
	return n, err
}

// fateOf tells how a connection ends with an error. A reset is an ordinary end:
// "ssh -J" kills the ssh that it has started to come here.
func fateOf(err error) End {
	switch {
	case errors.Is(err, net.ErrClosed): // by us: who did it has the reason
		return Running
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Finished
	case errors.Is(err, os.ErrDeadlineExceeded): // for a write: reads have none
		return Stalled
	}
	return ClientGone
}

// ended notes why nothing more can come or go. The first reason counts.
func (w *wire) ended(why End) { w.fate.CompareAndSwap(uint32(Running), uint32(why)) }

// excess estimates how many bytes from the wire no channel has taken. It is only
// meant while a relay waits for its VM, or does not read: otherwise nothing is
// kept for long.
func (w *wire) excess() int64 {
	balance := w.balance()
	// Small packets taken one by one count for more than they were; that is
	// nothing to save up.
	if w.waiting.Load() == 0 && w.halfClosed.Load() == 0 || balance < w.mark.Load() {
		w.mark.Store(balance)
		return 0
	}
	return balance - w.mark.Load()
}

// settle forgets, unless a relay waits for its VM, what was read for no channel:
// such as the flow control of a long transfer on a half-closed one.
func (w *wire) settle() {
	if w.waiting.Load() == 0 {
		w.mark.Store(w.balance())
	}
}

func (w *wire) balance() int64 {
	return int64(w.read.Load()) - int64(w.taken.Load()) - overhead*int64(w.takes.Load())
}

// take notes that a channel has taken n bytes of payload.
func (w *wire) take(n int) {
	w.taken.Add(uint64(n))
	w.takes.Add(1)
}

func (w *wire) Write(p []byte) (int, error) {
	if w.said > 0 {
		n := min(w.said, len(p))
		w.said -= n
		if n == len(p) {
			return n, nil
		}
		rest, err := w.Write(p[n:])
		return n + rest, err
	}
	if w.unfinished(p) {
		w.hold(p)
		w.written.Add(uint64(len(p)))
		return len(p), nil
	}
	if stall := time.Duration(w.stall.Load()); stall > 0 {
		if err := w.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return 0, err
		}
	}
	n, err := w.gather(p)
	w.written.Add(uint64(n))
	if err != nil {
		w.ended(fateOf(err))
		w.Close() // the SSH library would go on reading
	}
	return n, err
}

// silent is how long nothing has come from the client.
func (w *wire) silent() time.Duration { return time.Since(time.Unix(0, w.last.Load())) }
