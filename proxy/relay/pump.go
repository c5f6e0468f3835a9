package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// bufferSize is that of the one buffer through which a loop copies.
	bufferSize = 64 << 10
	// spliceFrom: a direction whose reads give so much is cheaper to splice
	// than to copy.
	spliceFrom = 16 << 10
	// turn is how much one direction may move before others have theirs.
	turn = 1 << 20
)

// relay moves what can be moved, both ways.
func (l *loop) relay(c *Conn) {
	up, down := c.Up, c.Down
	// Writing to the client may have shown that it is gone, and what it has
	// still said is to be read then.
	if l.pump(c, &c.client, &c.backend, &c.Up) && l.pump(c, &c.backend, &c.client, &c.Down) && c.client.broken {
		l.pump(c, &c.client, &c.backend, &c.Up)
	}
	if c.Up != up {
		l.stats.up.Add(c.Up - up)
	}
	if c.Down != down {
		l.stats.down.Add(c.Down - down)
	}
	if c.client.pipe != nil || c.backend.pipe != nil {
		l.rests = append(l.rests, c)
	}
}

// pump moves bytes from one side to the other until it can't. It tells whether
// the connection is still there.
func (l *loop) pump(c *Conn, from, to *side, count *uint64) bool {
	for left := turn; ; {
		if to.pending() && !l.flush(c, to) {
			return c.stage != gone
		}
		switch {
		case from == &c.backend && from.broken && from.saidAll() && !to.broken:
			// All that it had to say has been passed on. Servers close like that
			// which read nothing behind their answer, not even a close_notify.
			l.end(c, Finished)
			return false
		case from.broken && (from.eof || to.broken):
			l.end(c, resetBy(c, from))
			return false
		case from.eof && to.eof && !from.pending():
			l.end(c, Finished)
			return false
		case from.eof:
			if !to.shut {
				to.shut = true
				shut(to.fd)
			}
			return true
		case !from.readable || to.shut:
			return true
		case left <= 0:
			l.later(c)
			return true
		}
		n, err := l.receive(c, from, to)
		switch {
		case err == unix.EAGAIN:
			from.readable = false
		case err != nil:
			l.end(c, resetBy(c, from))
			return false
		case n == 0:
			from.eof = true
		default:
			left -= n
			*count += uint64(n)
			l.active(c)
			from.usual += (n - from.usual) / 4
			if c.First == 0 && from == &c.backend {
				c.First = max(time.Since(c.Start), 1)
			}
		}
	}
}

func resetBy(c *Conn, s *side) End {
	if s == &c.client {
		c.Late = c.backend.ends() && !s.pending()
		return ClientReset
	}
	c.Late = c.client.ends() && !s.pending()
	return BackendReset
}

// receive reads once, into a pipe or by way of the loop's buffer, and sends on
// what the other side takes at once. Nothing may wait for that side: the pipe is
// empty, so EAGAIN is about the socket.
func (l *loop) receive(c *Conn, from, to *side) (int, error) {
	if from.usual >= spliceFrom && !from.urgent {
		if to.pipe == nil {
			to.pipe = l.pipes.get()
		}
		if to.pipe != nil {
			n, err := splice(from.fd, to.pipe.w, pipeSize)
			to.pipe.n += n
			return n, err
		}
	}
	n, err := read(from.fd, l.buffer)
	if n <= 0 {
		return 0, err
	}
	// A short read has emptied the socket, unless more than data is there; what
	// comes later is a new event.
	if n < len(l.buffer) && !from.hasty {
		from.readable = false
	}
	sent := 0
	if to.writable {
		sent = l.send(c, to, l.buffer[:n])
	}
	if sent < n {
		to.out = append([]byte(nil), l.buffer[sent:n]...)
	}
	return n, nil
}

// send writes what can be written at once. When that fails, what was meant for
// that side is lost, and it is read to its end for why.
func (l *loop) send(c *Conn, to *side, b []byte) int {
	n, err := send(to.fd, b)
	if err != nil && err != unix.EAGAIN {
		to.fail(err)
		return len(b)
	}
	if n < len(b) {
		l.blocked(c, to)
	}
	return n
}

// fail notes that a side takes no more. A reset behind its end is told as EPIPE, one
// without as ECONNRESET (tcp_reset in net/ipv4/tcp_input.c).
func (s *side) fail(err error) {
	s.complete = s.complete || !s.broken && (s.eof || err == unix.EPIPE)
	s.broken, s.shut, s.readable, s.hasty = true, true, true, true
}

// flush writes what waits for a side. It tells whether nothing does any more.
func (l *loop) flush(c *Conn, to *side) bool {
	if !to.writable {
		return false
	}
	if len(to.out) > 0 {
		n := l.send(c, to, to.out)
		if n < len(to.out) {
			to.out = to.out[n:]
			return false
		}
		to.out = nil
	}
	for p := to.pipe; p != nil && p.n > 0; {
		n, err := splice(p.r, to.fd, p.n)
		switch {
		case err == unix.EAGAIN:
			l.blocked(c, to)
			return false
		case err != nil || n == 0:
			l.pipes.put(p)
			to.pipe, p = nil, nil
			to.fail(err)
		default:
			p.n -= n
		}
	}
	return true
}

// rest gives back the pipes of a connection that has nothing to do.
func (l *loop) rest(c *Conn) {
	for _, s := range [...]*side{&c.client, &c.backend} {
		if s.pipe != nil && s.pipe.n == 0 {
			l.pipes.put(s.pipe)
			s.pipe = nil
		}
	}
}

// end closes a connection. Its descriptors leave epoll by themselves.
func (l *loop) end(c *Conn, why End) {
	if c.stage == gone {
		return
	}
	c.End = why
	l.stats.open.Add(-1)
	l.stats.ends[why].Add(1)
	l.judge.Closed(c)
	switch why {
	case ClientReset:
		c.backend.reset()
	case BackendReset:
		c.client.reset()
	}
	for _, s := range [...]*side{&c.client, &c.backend} {
		if s.fd >= 0 {
			closeFD(s.fd)
			s.fd = -1
		}
		if s.pipe != nil {
			l.pipes.put(s.pipe)
			s.pipe = nil
		}
		s.out = nil
	}
	l.forget(c)
}

// forget takes a connection's place.
func (l *loop) forget(c *Conn) {
	c.stage = gone
	c.stop()
	c.hello, c.header, c.backends = nil, nil, nil
	l.conns[c.slot] = nil
	l.free = append(l.free, c.slot)
	if l.draining && len(l.free) == len(l.conns) {
		l.ended = true
	}
}

// reset has a side's close break the connection, as the other side's broke, so
// that it does not look complete. Only what has been sent and waits to be
// acknowledged comes first: then it is an ordinary close.
func (s *side) reset() {
	if s.fd < 0 {
		return
	}
	if unsent, err := unix.IoctlGetInt(s.fd, unix.SIOCOUTQ); s.pending() || err == nil && unsent == 0 {
		_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
}
