package relay

import (
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptPause is how long accepting rests when it fails, as it does without file
// descriptors.
const acceptPause = 50 * time.Millisecond

// accepts bounds how many connections are taken at a time, so that those that
// are there have their turn.
const accepts = 64

// clientEvents are asked for at first. That a socket can be written is known
// without being told, until a write has failed.
const clientEvents = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET

// accept takes new connections, most of them at most.
func (l *loop) accept(x *listener, most int) {
	// One by one while they come one by one: each time that there was another
	// one, twice as many are asked for. So the call that finds nothing is rare.
	x.burst = min(max(1, 2*x.burst), most)
	for n := range x.burst {
		fd, from, err := l.acceptOne(x.fd)
		switch err {
		case nil:
		case unix.EAGAIN:
			x.burst = n / 2
			return
		case unix.ECONNABORTED:
			continue
		default:
			// Out of file descriptors or memory: let others go first.
			l.stats.acceptFailed.Add(1)
			l.pauseAll()
			return
		}
		l.stats.accepted.Add(1)
		if !l.judge.Accept(from) {
			l.stats.ends[Unwelcome].Add(1)
			l.turnAway(fd)
			continue
		}
		l.begin(fd, from, x)
	}
}

func (l *loop) pauseAll() {
	for _, x := range l.listeners {
		if !x.paused {
			_ = l.control(unix.EPOLL_CTL_DEL, x.fd, unix.EpollEvent{})
		}
		x.paused, x.until = true, l.now+int64(acceptPause)
	}
}

func (l *loop) resume(i int) {
	x := l.listeners[i]
	if l.watch(x.fd, x.events, isListener-int32(i), 0) == nil {
		x.paused = false
	} else {
		x.until = l.now + int64(acceptPause)
	}
}

// begin takes a client in.
func (l *loop) begin(fd int, from netip.AddrPort, x *listener) {
	c := l.newConn(fd, from)
	c.listener = x
	l.hello.start(c, l.now)
	// The hello is mostly there already (TCP_DEFER_ACCEPT). Read before epoll
	// knows of the socket, it makes no event.
	c.client.readable = true
	l.sniff(c)
	if c.stage != gone && !l.add(c, &c.client, clientEvents) {
		l.end(c, Unwelcome)
	}
}

// newConn gives a connection its place.
func (l *loop) newConn(fd int, from netip.AddrPort) *Conn {
	c := &Conn{ID: l.next*l.count + l.index, From: from, Start: time.Now(), moved: l.now}
	l.next++
	c.client.fd, c.client.writable, c.backend.fd = fd, true, -1
	if n := len(l.free); n > 0 {
		c.slot = l.free[n-1]
		l.free = l.free[:n-1]
		l.conns[c.slot] = c
	} else {
		c.slot = int32(len(l.conns))
		l.conns = append(l.conns, c)
	}
	l.stats.open.Add(1)
	return c
}

// add puts a side's socket into epoll.
func (l *loop) add(c *Conn, s *side, events uint32) bool {
	about := 2 * c.slot
	if s == &c.backend {
		about++
	}
	// What sniffing the hello wanted to be told.
	events |= s.watched
	if l.watch(s.fd, events, about, c.ID) != nil {
		return false
	}
	s.watched = events | unix.EPOLLET
	return true
}

// blocked notes that a side takes no more for now, and has epoll tell when it
// does.
func (l *loop) blocked(c *Conn, s *side) {
	s.writable = false
	switch {
	case s.watched&unix.EPOLLOUT != 0:
	case s.watched == 0:
		s.watched = unix.EPOLLOUT
	default:
		about := 2 * c.slot
		if s == &c.backend {
			about++
		}
		s.watched |= unix.EPOLLOUT
		// It looks whether it could be written by now, too. There is no memory
		// to be had for it, and so nothing to fail.
		_ = l.control(unix.EPOLL_CTL_MOD, s.fd, unix.EpollEvent{Events: s.watched, Fd: about, Pad: int32(c.ID)})
	}
}

func addrPort(sa syscall.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// Local is the address that the client came to. The kernel is asked for it at
// most once, and only if the listener has none of its own.
func (c *Conn) Local() netip.AddrPort {
	switch {
	case c.to.IsValid() || c.client.fd < 0 || c.listener == nil:
	case !c.listener.address.Addr().IsUnspecified():
		c.to = c.listener.address
	default:
		if sa, err := syscall.Getsockname(c.client.fd); err == nil {
			c.to = addrPort(sa)
		}
	}
	return c.to
}
