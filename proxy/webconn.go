package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/proxy/http1"
	"aarch64.com/isthmus/proxy/relay"
)

// webConn is a client's connection as net/http gets it: nothing is read from it
// that a [http1.Checker] has not taken. In the place of a head that is not in
// order net/http reads faultHead, so that the answer comes in its turn behind
// those to the requests before it.
type webConn struct {
	net.Conn
	of     *generation
	web    *web
	client netip.AddrPort
	local  netip.AddrPort // that the client came to

	// Read's alone.
	check  http1.Checker
	buffer *[readAhead]byte // from the pool; nil while nothing is held
	held   []byte           // read and not passed on
	passed int              // bytes at the beginning of held that may be
	dead   bool             // faultHead has taken the place of all else

	fault     http1.Fault // what faultHead stands for; set before it is read
	bodyFault atomic.Pointer[http1.Fault]
	next      atomic.Uint32

	backends  backends
	lingering bool        // the client may be sending what nobody reads
	idle      atomic.Bool // net/http waits for the next request
	unheard   atomic.Bool // net/http has not read a head
	parking   atomic.Bool // the connection goes back to the event loops
	kept      bool        // they relay it
	closed    atomic.Bool
}

// What follows a head that asks for another protocol.
const (
	settled uint32 = iota
	undecided
	nextRequest
)

const (
	parkAfter  = time.Second // a connection without a request goes back to the loops
	readAhead  = 4 << 10
	lingerTime = 2 * time.Second // a client has to take a last answer
	lingerMax  = 1 << 20         // bytes that it may go on sending meanwhile
	faultHost  = "!"             // no client's: the checker takes no such Host
)

// faultHead is a request with a Host that no client can have sent.
func faultHead(html bool) string {
	if html {
		return "GET / HTTP/1.1\r\nHost: " + faultHost + "\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
	}
	return "GET / HTTP/1.1\r\nHost: " + faultHost + "\r\nConnection: close\r\n\r\n"
}

var readAheads = sync.Pool{New: func() any { return new([readAhead]byte) }}

var errEarly = errors.New("too much from a client that waits for another protocol")

// newWebConn takes a connection from the event loops.
func newWebConn(w *web, from *relay.Conn, fd int, said []byte) *webConn {
	c := &webConn{
		web: w, client: from.From, local: from.Local(),
		check: http1.Checker{MaxHead: w.server.config().Limits.RequestHeader},
	}
	c.Conn = newSocket(fd, c.local, c.client)
	c.keep(said)
	if from.Resumed() {
		c.check.Continue()
	}
	c.unheard.Store(true)
	w.fresh.Add(1)
	w.busy.Add(1)
	return c
}

// heard notes that net/http has read a head.
func (c *webConn) heard() {
	if c.unheard.Swap(false) {
		c.web.fresh.Add(-1)
	}
}

// Read reads what is in order.
func (c *webConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	// net/http asks for one byte to learn that a client goes while its request is
	// served, and for many when it waits for the next one.
	idle := len(p) > 1 && c.idle.Swap(false) && len(c.held) == 0 && !c.dead && c.check.Between()
	if idle {
		if c.of != c.web.serving.Load() {
			return 0, c.park()
		}
		_ = c.SetReadDeadline(time.Now().Add(min(parkAfter, c.web.server.config().Timeouts.KeepOpen)))
	}
	for {
		if c.passed > 0 {
			n := copy(p, c.held[:c.passed])
			c.held, c.passed = c.held[n:], c.passed-n
			c.giveBack()
			return n, nil
		}
		if c.dead {
			if _, err := c.Conn.Read(p); err != nil {
				return 0, err
			}
			continue
		}
		waiting := c.settle()
		if !waiting && len(c.held) > 0 {
			fault := c.look()
			if fault != nil && fault.InBody && c.passed == 0 {
				c.lingering = true
				c.bodyFault.Store(fault) // net/http does not always pass it on
				return 0, fault
			}
			if c.passed > 0 || fault != nil {
				continue
			}
		}
		n, err := c.more(p, waiting, idle)
		switch {
		case !idle:
		case err == nil:
			// This is the next request's first byte.
			idle = false
			_ = c.SetReadDeadline(time.Now().Add(c.web.server.config().Timeouts.Hello))
		case isTimeout(err) && c.web.server.config().Timeouts.KeepOpen > parkAfter:
			return 0, c.park()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// park has Close give the connection back to the event loops, and net/http call it.
func (c *webConn) park() error {
	c.parking.Store(true)
	return io.EOF
}

// settle tells whether it is still open what follows the last head. If it is
// another protocol this is not the one who reads it.
func (c *webConn) settle() (waiting bool) {
	switch c.next.Load() {
	case undecided:
		return true
	case nextRequest:
		c.check.Resume(false)
		c.next.Store(settled)
	}
	return false
}

// decide says what follows a head that asks for another protocol.
func (c *webConn) decide(next uint32) { c.next.CompareAndSwap(undecided, next) }

// look has the checker look at what is held. What it takes counts as passed, and
// faultHead takes the place of a head that it does not take.
func (c *webConn) look() *http1.Fault {
	c.held = c.held[c.check.Skip(c.held):]
	n, fault := c.check.Feed(c.held)
	c.passed = n
	if c.check.HTTP2() {
		c.heard()
	}
	if c.check.Paused() {
		c.next.Store(undecided)
	}
	if fault == nil || fault.InBody {
		return fault
	}
	c.fault, c.dead, c.lingering = *fault, true, true
	c.held = append(append([]byte(nil), c.held[:n]...), faultHead(wantsHTML(c.held[n:]))...)
	c.passed = len(c.held)
	return fault
}

// more reads from the client. n bytes of p are in order; what is not, or not yet,
// is held.
func (c *webConn) more(p []byte, waiting, idle bool) (n int, err error) {
	if len(c.held) > 0 || waiting {
		return 0, c.hold(waiting)
	}
	if fixed := c.check.Fixed(); fixed > 0 {
		if int64(len(p)) > fixed {
			p = p[:fixed]
		}
		n, err = c.Conn.Read(p)
		c.check.Feed(p[:n])
		return n, err
	}
	// Nothing is held while nothing comes: idle connections need no buffer.
	if n, err = c.Conn.Read(p); n == 0 {
		return 0, err
	}
	if idle { // a new configuration may have come meanwhile
		c.check.MaxHead = c.web.server.config().Limits.RequestHeader
	}
	if c.check.Skip(p[:n]) > 0 {
		c.keep(p[2:n])
		return 0, nil
	}
	took, fault := c.check.Feed(p[:n])
	if c.check.Paused() {
		c.next.Store(undecided)
	}
	if took == n && fault == nil {
		return n, nil
	}
	// The checker gives the same fault again.
	c.keep(p[took:n])
	return took, nil
}

// hold reads to the end of what is held.
func (c *webConn) hold(waiting bool) error {
	if waiting && len(c.held) >= readAhead {
		return errEarly
	}
	c.keep(nil)
	n, err := c.Conn.Read(c.held[len(c.held):cap(c.held)])
	if c.held = c.held[:len(c.held)+n]; n > 0 {
		return nil
	}
	return err
}

// keep holds b, too, and leaves room behind it.
func (c *webConn) keep(b []byte) {
	if c.buffer == nil && len(c.held) == 0 {
		c.buffer = readAheads.Get().(*[readAhead]byte)
		c.held = c.buffer[:0]
	}
	if c.held = append(c.held, b...); len(c.held) == cap(c.held) {
		c.held = append(make([]byte, 0, 2*len(c.held)), c.held...)
	}
}

func (c *webConn) giveBack() {
	if len(c.held) > 0 {
		return
	}
	c.held = nil
	if c.buffer != nil {
		readAheads.Put(c.buffer)
		c.buffer = nil
	}
}

// CloseWrite tells the client that nothing more comes.
func (c *webConn) CloseWrite() error { return c.Conn.(*socket).CloseWrite() }

// Close ends the connection, as far as net/http is concerned. If the client may
// still be sending it gets time to take the answer first: closing while something
// is unread makes the kernel send a reset, which overtakes it.
func (c *webConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	c.heard()
	c.backends.close()
	if c.lingering && !c.kept {
		_ = c.CloseWrite()
		_ = c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c.Conn, lingerMax)
	}
	parked := c.parking.Load() && c.giveUp()
	err := c.Conn.Close()
	c.of.open.Add(-1)
	c.web.busy.Add(-1)
	if !parked {
		c.web.open.Add(-1)
		if !c.kept {
			c.web.server.limiter.leave(c.client.Addr())
		}
	}
	return err
}

// giveUp gives the connection to the event loops, if they take it.
func (c *webConn) giveUp() bool {
	fd, err := duplicate(c.Conn.(*socket))
	if err != nil {
		return false
	}
	if c.web.loops.Park(relay.Parked{Client: fd, From: c.client, To: c.local}) {
		return true
	}
	unix.Close(fd)
	return false
}

// isFault tells whether a request is faultHead.
func (c *webConn) isFault(r *http.Request) bool { return r.ProtoMajor == 1 && r.Host == faultHost }
