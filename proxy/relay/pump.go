package relay

import "golang.org/x/sys/unix"

const (
	// bufferSize is that of the one buffer through which a loop copies.
	bufferSize = 64 << 10
	// spliceFrom: a direction whose reads give so much is cheaper to splice
	// than to copy.
	spliceFrom = 16 << 10
	// turn is how much one direction may move before others have theirs.
	turn = 1 << 20
)

// pump moves bytes from one side to the other until it can't. It tells whether
// the connection is still there.
func (l *loop) pump(c *Conn, from, to *side, count *uint64) bool {
	for left := turn; ; {
		if to.pending() && !l.flush(c, to) {
			return c.stage != gone
		}
		switch {
		case from.eof:
			if !to.shut && !to.eof {
				to.shut = true
				// It may have gone meanwhile, which a read will tell.
				_ = unix.Shutdown(to.fd, unix.SHUT_WR)
			}
			return l.finished(c)
		case !from.readable || to.shut:
			return true
		case left <= 0:
			l.later(c)
			return true
		}
		n, err := l.receive(from, to)
		switch {
		case err == unix.EAGAIN:
			from.readable = false
		case err != nil:
			l.end(c, l.resetBy(c, from))
			return false
		case n == 0:
			from.eof = true
		default:
			left -= n
			*count += uint64(n)
			c.moved = l.now
			from.usual += (n - from.usual) / 4
		}
	}
}

// receive reads once, into a pipe or by way of the loop's buffer, and sends on
// what the other side takes at once.
func (l *loop) receive(from, to *side) (int, error) {
	if from.usual >= spliceFrom {
		if to.pipe == nil {
			to.pipe = l.pipes.get()
		}
		if to.pipe != nil {
			n, err := splice(from.fd, to.pipe.w, pipeSize)
			to.pipe.n += n
			return n, err
		}
	}
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(from.fd, l.buffer) })
	if n <= 0 {
		return 0, err
	}
	// A short read has emptied the socket, unless its end is there, too; what
	// comes later is a new event.
	if n < len(l.buffer) && !from.hangup {
		from.readable = false
	}
	sent := 0
	if to.writable {
		sent = l.send(to, l.buffer[:n])
	}
	if sent < n {
		to.out = append(to.out[:0], l.buffer[sent:n]...)
	}
	return n, nil
}

// send writes what can be written at once. An error shows at the next read of
// that side.
func (l *loop) send(to *side, b []byte) int {
	n, err := ignoringEINTR(func() (int, error) { return unix.Write(to.fd, b) })
	if err != nil && err != unix.EAGAIN {
		to.failed()
		return len(b)
	}
	if n < len(b) {
		to.writable = false
	}
	return max(n, 0)
}

// failed gives up writing. What was meant for it is lost, and the side is looked
// at for why.
func (s *side) failed() {
	s.shut, s.readable, s.out = true, true, nil
}

// flush writes what waits for a side. It tells whether all has gone.
func (l *loop) flush(c *Conn, to *side) bool {
	if !to.writable {
		return false
	}
	if len(to.out) > 0 {
		n := l.send(to, to.out)
		if n < len(to.out) {
			to.out = to.out[n:]
			return false
		}
		to.out = nil
	}
	if p := to.pipe; p != nil {
		for p.n > 0 {
			n, err := splice(p.r, to.fd, p.n)
			if err == unix.EAGAIN {
				to.writable = false
				return false
			}
			if err != nil || n == 0 {
				l.end(c, l.resetBy(c, to))
				return false
			}
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

func splice(from, to, n int) (int, error) {
	return ignoringEINTR(func() (int, error) {
		n, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		return int(n), err
	})
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
