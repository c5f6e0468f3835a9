package jump

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
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

	backlog   backlog
	catchUp   atomic.Int64 // for slow channels, time.Duration
	estimated uint64       // how much had been read at the last estimate

	closing sync.Once
	closed  chan struct{}
}

func newWire(c net.Conn, backlogs *atomic.Int64) *wire {
	w := &wire{Conn: c, start: time.Now(), backlog: backlog{all: backlogs}, closed: make(chan struct{})}
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
	if w.read.Load()-w.estimated >= estimateEvery {
		if err := w.settle(); err != nil {
			return 0, err
		}
		w.estimated = w.read.Load()
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

// Close closes the connection, also one that is not read at the moment.
func (w *wire) Close() error {
	w.closing.Do(func() { close(w.closed) })
	return w.Conn.Close()
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
