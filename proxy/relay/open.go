package relay

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// lingerTime is how long a client has to take a last reply.
const lingerTime = 2 * time.Second

// sniff reads what the client says first and asks what is to be done.
func (l *loop) sniff(c *Conn) {
	for {
		n, err := read(c.client.fd, l.buffer)
		switch {
		case err == unix.EAGAIN:
			c.client.readable = false
			return
		case n <= 0:
			l.end(c, HelloGone)
			return
		}
		c.client.readable = n == len(l.buffer) || c.client.hasty
		said := l.buffer[:n]
		if c.hello != nil {
			c.hello = append(c.hello, said...)
			said = c.hello
		}
		answer := l.judge.Hello(c, said)
		switch {
		case answer.Take:
			l.give(c, said)
			return
		case answer.Wait && len(said) > l.config.MaxHello:
			l.end(c, HelloTooLong)
			return
		case !answer.Wait && len(answer.Backends) == 0:
			l.reply(c, answer.Reply, Refused)
			return
		}
		if c.hello == nil {
			c.hello = append([]byte(nil), said...)
		}
		if !answer.Wait {
			c.header, c.backends, c.stage, c.moved = answer.Header, answer.Backends, connecting, l.now
			l.tryNext(c)
			return
		}
		if !c.client.readable {
			return
		}
	}
}

// tryNext connects to the next backend.
func (l *loop) tryNext(c *Conn) {
	if c.backend.fd >= 0 {
		closeFD(c.backend.fd)
		c.backend = side{fd: -1}
	}
	for len(c.backends) > 0 {
		c.Backend = c.backends[0]
		fd, err := l.dial(c.Backend)
		switch err {
		case nil:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			// Not the backend's fault. Those that are there go before those
			// that wait to be accepted.
			l.stats.dialStarved.Add(1)
			l.pauseAll()
			if l.now-c.moved < l.connect.delay {
				l.starved.start(c, l.now)
				return
			}
			c.backends = nil
			continue
		default:
			c.backends = c.backends[1:]
			continue
		}
		c.backends = c.backends[1:]
		c.backend.fd = fd
		if !l.add(c, &c.backend, clientEvents|unix.EPOLLOUT) {
			closeFD(fd)
			c.backend = side{fd: -1}
			continue
		}
		l.connect.start(c, l.now)
		return
	}
	l.reply(c, l.judge.Unreached(c), ConnectFailed)
}

// connected sends the backend what the client has said so far. Whether the
// connection stands is what the write tells.
func (l *loop) connected(c *Conn) {
	first := c.hello
	if len(c.header) > 0 {
		first = append(c.header[:len(c.header):len(c.header)], c.hello...)
	}
	n, err := send(c.backend.fd, first)
	if err == unix.EAGAIN {
		c.backend.writable = false
		return
	}
	if err != nil {
		l.tryNext(c)
		return
	}
	c.Connect = max(time.Since(c.Start), 1)
	c.Up += uint64(len(c.hello))
	l.stats.up.Add(uint64(len(c.hello)))
	if n < len(first) {
		c.backend.out = first[n:]
		l.blocked(c, &c.backend)
	}
	c.hello, c.header, c.backends = nil, nil, nil
	c.stage, c.moved = relaying, l.now
	l.idle.start(c, l.now)
	l.relay(c)
}

// reply sends a last word to the client. It closes when the client has, so that
// the word is not lost by what the client has sent and nobody reads.
func (l *loop) reply(c *Conn, b []byte, why End) {
	c.stage, c.End = closing, why
	c.hello, c.header, c.backends = nil, nil, nil
	l.linger.start(c, l.now)
	c.client.out = b
	l.last(c)
}

// last gets on with a last word.
func (l *loop) last(c *Conn) {
	if c.client.pending() && !l.flush(c, &c.client) {
		return
	}
	if !c.client.shut {
		c.client.shut = true
		shut(c.client.fd)
	}
	for left := turn; c.client.readable; {
		n, err := read(c.client.fd, l.buffer)
		switch {
		case err == unix.EAGAIN:
			c.client.readable = false
		case n <= 0:
			l.end(c, c.End)
			return
		default:
			if left -= n; left <= 0 {
				l.later(c)
				return
			}
		}
	}
}

// dial begins to connect.
func (l *loop) dial(to netip.AddrPort) (int, error) {
	fd, err := newSocket()
	if err != nil {
		return -1, err
	}
	err = tune(fd, l.options)
	if err == nil {
		err = l.connectTo(fd, to)
	}
	if err != nil && err != unix.EINPROGRESS {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}
