package relay

import (
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lingerTime is how long a client has to take a last reply.
const lingerTime = 2 * time.Second

// sniff reads what the client says first and asks what is to be done.
func (l *loop) sniff(c *Conn) {
	for {
		n, err := ignoringEINTR(func() (int, error) { return unix.Read(c.client.fd, l.buffer) })
		switch {
		case err == unix.EAGAIN:
			c.client.readable = false
			return
		case n <= 0:
			l.end(c, HelloGone)
			return
		}
		said := l.buffer[:n]
		if c.hello != nil {
			c.hello = append(c.hello, said...)
			said = c.hello
		}
		if n < len(l.buffer) && !c.client.hangup {
			c.client.readable = false
		}
		answer := l.judge.Hello(c, said)
		switch {
		case answer.Wait && len(said) > l.config.MaxHello:
			l.end(c, HelloTooLong)
			return
		case answer.Wait:
			if c.hello == nil {
				c.hello = append([]byte(nil), said...)
			}
			if !c.client.readable {
				return
			}
			continue
		case len(answer.Backends) == 0:
			l.reply(c, answer.Reply, Refused)
			return
		}
		if c.hello == nil {
			c.hello = append([]byte(nil), said...)
		}
		c.header, c.backends, c.stage = answer.Header, answer.Backends, connecting
		l.tryNext(c)
		return
	}
}

// tryNext connects to the next backend.
func (l *loop) tryNext(c *Conn) {
	if c.backend.fd >= 0 {
		unix.Close(c.backend.fd)
		c.backend = side{fd: -1}
	}
	for len(c.backends) > 0 {
		c.Backend, c.backends = c.backends[0], c.backends[1:]
		fd, err := dial(c.Backend, l.config.UserTimeout)
		if err != nil {
			continue
		}
		if err := l.watch(fd, socketEvents, 2*c.slot+1); err != nil {
			unix.Close(fd)
			continue
		}
		c.backend.fd = fd
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
	n, err := ignoringEINTR(func() (int, error) { return unix.Write(c.backend.fd, first) })
	if err == unix.EAGAIN {
		c.backend.writable = false
		return
	}
	if err != nil {
		l.tryNext(c)
		return
	}
	c.Connect = time.Since(c.Start)
	c.Up += uint64(len(c.hello))
	if n < len(first) {
		c.backend.out, c.backend.writable = first[n:], false
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
	l.linger.start(c, l.now)
	c.client.out = b
	l.last(c)
}

// last gets on with a last word.
func (l *loop) last(c *Conn) {
	if len(c.client.out) > 0 {
		if !c.client.writable {
			return
		}
		n := l.send(&c.client, c.client.out)
		if c.client.out = c.client.out[min(n, len(c.client.out)):]; len(c.client.out) > 0 {
			return
		}
	}
	if !c.client.shut {
		c.client.shut = true
		_ = unix.Shutdown(c.client.fd, unix.SHUT_WR)
	}
	for c.client.readable {
		n, err := ignoringEINTR(func() (int, error) { return unix.Read(c.client.fd, l.buffer) })
		switch {
		case err == unix.EAGAIN:
			c.client.readable = false
		case n <= 0:
			l.end(c, c.End)
			return
		}
	}
}

// dial begins to connect.
func dial(to netip.AddrPort, userTimeout time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	err = unix.Connect(fd, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// The standard library's Accept4 and Getsockname: those of x/sys ask the kernel
// for each socket's protocol.
func addrPort(sa syscall.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// Local asks the kernel for the address that the client came to.
func (c *Conn) Local() netip.AddrPort {
	sa, err := syscall.Getsockname(c.client.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}
