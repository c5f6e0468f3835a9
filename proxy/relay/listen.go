package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listener is one listening socket.
type listener struct {
	fd      int
	address netip.AddrPort
	events  uint32 // to ask epoll for
	shared  bool   // others have the same socket
	burst   int    // how many connections to take at a time
	paused  bool
	until   int64
}

// keepAlive is how long a connection is idle before its peers are asked whether
// they are still there.
const keepAlive = 5 * time.Minute

// listen opens the loop's own listeners. The kernel shares connections out among
// all that have the same address.
func (l *loop) listen(addresses []netip.AddrPort, files []*os.File) error {
	for _, a := range addresses {
		fd, err := listen(a, &l.config)
		if err != nil {
			return err
		}
		if err := l.serve(&listener{fd: fd, address: a, events: unix.EPOLLIN}); err != nil {
			return fmt.Errorf("listen on %v: %w", a, err)
		}
	}
	for _, f := range files {
		if err := l.share(f); err != nil {
			return fmt.Errorf("listen with %s: %w", f.Name(), err)
		}
	}
	return nil
}

func (l *loop) serve(x *listener) error {
	l.listeners = append(l.listeners, x)
	return l.watch(x.fd, x.events, isListener-int32(len(l.listeners)-1), 0)
}

// share listens with a socket that somebody else has opened.
func (l *loop) share(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	var sa syscall.Sockaddr
	if e := raw.Control(func(of uintptr) {
		if fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			sa, err = syscall.Getsockname(fd)
		}
	}); e != nil {
		return e
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		err = tuneListener(fd, &l.config)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	// Of all loops that wait for it, one is woken.
	return l.serve(&listener{fd: fd, address: addrPort(sa), events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, shared: true})
}

func listen(a netip.AddrPort, c *Config) (int, error) {
	family := unix.AF_INET6
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	if ip := a.Addr().Unmap(); ip.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4(), Port: int(a.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("listen on %v: %w", a, err)
	}
	err = tune(fd, []option{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, {unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}})
	if err == nil && family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = tuneListener(fd, c)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	if err == nil {
		return fd, nil
	}
	unix.Close(fd)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return -1, fmt.Errorf("listen on %v: another program has this port (see `ss -lntp`): %w", a, err)
	case errors.Is(err, unix.EACCES):
		return -1, fmt.Errorf("listen on %v: %w (the capability CAP_NET_BIND_SERVICE is missing)", a, err)
	}
	return -1, fmt.Errorf("listen on %v: %w", a, err)
}

type option struct {
	level, name int
	value       int32
}

// tune sets a socket's options.
func tune(fd int, list []option) error {
	for i := range list {
		if err := setOption(fd, &list[i]); err != nil {
			return err
		}
	}
	return nil
}

// options are those of every connection.
func (c *Config) options() []option {
	return []option{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int32(c.UserTimeout.Milliseconds())},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int32(keepAlive.Seconds())},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	}
}

// tuneListener sets a listener's options. Accepted connections have them from it.
func tuneListener(fd int, c *Config) error {
	if err := tune(fd, c.options()); err != nil {
		return err
	}
	// Clients speak first: there is nothing to do before they have. The kernel
	// counts in retransmissions of its SYN, so this is a rough time, after which
	// the connection comes without a word.
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, max(1, int(c.HelloTimeout.Seconds())))
}

// closeListeners stops listening.
func (l *loop) closeListeners() {
	for _, x := range l.listeners {
		if x.shared {
			// Closing one of several descriptors does not take it out.
			_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, x.fd, nil)
		}
		unix.Close(x.fd)
	}
	l.listeners = nil
}
