package relay

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A Taker is a [Judge] that serves connections itself from their hello on, and may
// give them back while they are idle.
//
//	accept ─▶ hello ─▶ Take ─▶ served elsewhere ─▶ Park ─▶ hello ─▶ …
//	                                  └──▶ Adopt ─▶ relay ⇄ ─▶ end
type Taker interface {
	Judge
	// Take gets a connection whose hello was answered with Answer.Take. The
	// descriptor is the Taker's from now on, and Closed is not called; c and
	// hello are only lent.
	Take(c *Conn, fd int, hello []byte)
	// TurnAway gives what a client reads that Accept does not let in.
	TurnAway() []byte
}

// Parked is a connection that waits for its client to say something again, for
// Config.KeepTimeout. Then it is the Judge's as a new one is.
type Parked struct {
	Client   int            // the descriptor, non-blocking; the loops' from now on
	From, To netip.AddrPort // the client, and the address that it came to
	Tag      any            // of the Conn
}

// Adopted are two connections between which bytes are relayed from now on.
type Adopted struct {
	Client, Backend int // descriptors, non-blocking; the loops' from now on
	From, To        netip.AddrPort
	VM              netip.AddrPort // the backend
	Tag             any            // of the Conn
	Up, Down        []byte         // read from the client and the backend, and not passed on yet
}

// Park takes a connection. False: it does not, since it listens no more, and the
// descriptor stays the caller's.
func (s *Loops) Park(p Parked) bool {
	l := s.loops[s.turn.Add(1)%uint64(len(s.loops))]
	if l.silent.Load() {
		return false
	}
	return l.do(func() {
		c := l.newConn(p.Client, p.From)
		c.to, c.Tag = p.To, p.Tag
		if l.silent.Load() {
			l.end(c, Drained)
			return
		}
		l.parked.start(c, l.now)
		if !l.add(c, &c.client, clientEvents) {
			l.end(c, Unwelcome)
		}
	})
}

// Adopt takes a pair. False: it does not, since its loops have ended, and the
// descriptors stay the caller's.
func (s *Loops) Adopt(a Adopted) bool {
	l := s.loops[s.turn.Add(1)%uint64(len(s.loops))]
	return l.do(func() {
		c := l.newConn(a.Client, a.From)
		c.to, c.Tag, c.Backend = a.To, a.Tag, a.VM
		c.backend = side{fd: a.Backend, readable: true, writable: true}
		c.client.readable = true
		c.client.out, c.backend.out = a.Down, a.Up
		c.Up, c.Down = uint64(len(a.Up)), uint64(len(a.Down))
		l.stats.up.Add(c.Up)
		l.stats.down.Add(c.Down)
		c.stage = relaying
		l.idle.start(c, l.now)
		if !l.add(c, &c.client, clientEvents) || !l.add(c, &c.backend, clientEvents) {
			l.end(c, Unwelcome)
			return
		}
		l.relay(c)
	})
}

// Silence stops listening at once, after those that wait have been accepted, and
// ends connections that have not said anything, or not anything new. Those that
// are relayed go on, and Adopt still takes some.
func (s *Loops) Silence() {
	s.each(func(l *loop) {
		l.stopListening()
		for _, c := range l.conns {
			if c != nil && c.stage == sniffing {
				l.end(c, Drained)
			}
		}
	})
}

// give hands a connection to the one who serves it.
func (l *loop) give(c *Conn, hello []byte) {
	fd := c.client.fd
	if c.client.watched != 0 {
		_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, fd, nil)
	}
	l.taker.Take(c, fd, hello)
	c.client.fd = -1
	l.stats.open.Add(-1)
	l.forget(c)
}

// turnAway ends a client that is not let in, with a word where there is one: what
// it has said is read first, so that closing sends no reset that overtakes it.
func (l *loop) turnAway(fd int) {
	if l.taker != nil {
		_, _ = read(fd, l.buffer)
		_, _ = send(fd, l.taker.TurnAway())
	}
	closeFD(fd)
}

// Resumed tells whether the connection comes from [Loops.Park].
func (c *Conn) Resumed() bool { return c.listener == nil }

// Tune sets the options of a socket that is not accepted from a listener of Loops:
// TCP_NODELAY, TCP_USER_TIMEOUT and keep-alive.
func Tune(fd int, userTimeout time.Duration) error {
	c := Config{UserTimeout: userTimeout}
	return tune(fd, c.options())
}
