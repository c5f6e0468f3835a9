package jump

import (
	"context"
	"errors"
	"sync"
	"time"
)

// What a client may send before it has proved to take part in a key exchange,
// and before it has logged in, bytes. OpenSSH needs 3 KiB and 10 KiB. The SSH
// library unpacks lists of names to twenty times their size, for each of the
// connections that have not logged in.
const (
	exchangeMax = 16 << 10
	loginMax    = 64 << 10
)

var (
	errLong = errors.New("too much before logging in")
	errBusy = errors.New("too many handshakes at once")
)

// turn is a connection's place among the handshakes that are worked on. It is
// held while there is something to compute, and not while waiting for the
// client: who is slow keeps nobody else out.
type turn struct {
	slots chan struct{}
	ctx   context.Context // ends with the time to log in

	mu   sync.Mutex
	held bool
	over bool
	done chan struct{} // closed when it is over
}

// take waits for a place, unless it is held or not needed any more: a read that
// began while logging in may end long after.
func (t *turn) take() error {
	if t.settled() {
		return nil
	}
	select {
	case t.slots <- struct{}{}:
	case <-t.ctx.Done():
		if t.settled() {
			return nil
		}
		return errBusy
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		<-t.slots
		return nil
	}
	t.held = true
	return nil
}

func (t *turn) settled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held || t.over
}

// give gives the place back, if it is held.
func (t *turn) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held {
		t.held = false
		<-t.slots
	}
}

// end gives the place back for good.
func (t *turn) end() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.give()
	close(t.done)
}

// Key exchanges that one connection may ask for: some at once, then one a second,
// and one for each so many bytes, since clients rekey by volume. Before logging
// in there is one, and nothing to rekey for.
const (
	loginExchanges  = 2
	freeExchanges   = 20
	exchangeEvery   = time.Second
	exchangePerByte = 256 << 10
)

// exchange counts a key exchange that the client asks for, and tells whether it
// gets it.
func (w *wire) exchange() bool {
	done := w.exchanges.Add(1)
	if w.turn.Load() != nil {
		return done <= loginExchanges
	}
	return done <= freeExchanges+uint64(time.Since(w.start)/exchangeEvery)+(w.read.Load()+w.written.Load())/exchangePerByte
}

// begin starts the time in which a client is to log in.
func (w *wire) begin(ctx context.Context, slots chan struct{}) *turn {
	t := &turn{slots: slots, ctx: ctx, done: make(chan struct{})}
	w.turn.Store(t)
	return t
}

// loginRead reads for a client that has not logged in.
func (w *wire) loginRead(t *turn, p []byte) (int, error) {
	read := w.read.Load()
	if read >= exchangeMax && w.exchanges.Load() == 0 {
		return 0, errLong
	}
	t.give()
	if read >= loginMax {
		// It may have been let in a moment ago.
		select {
		case <-t.done:
		case <-t.ctx.Done():
		}
		if w.turn.Load() != nil {
			return 0, errLong
		}
		return w.Read(p)
	}
	n, err := w.receive(p)
	if n > 0 && err == nil {
		err = t.take()
	}
	if err != nil {
		return 0, err
	}
	return n, nil
}
