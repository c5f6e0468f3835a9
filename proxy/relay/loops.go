package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Config of the loops. 0 stands for the default.
type Config struct {
	Loops    int // one per CPU
	MaxHello int // bytes that a client may say before it is known where to; 65536

	HelloTimeout   time.Duration // until that is known; 10 s
	ConnectTimeout time.Duration // for each backend; 3 s
	IdleTimeout    time.Duration // without a byte either way; 10 min
	UserTimeout    time.Duration // until a peer has acknowledged what it was sent; 1 min (TCP_USER_TIMEOUT)
}

func (c *Config) setDefaults() {
	if c.Loops == 0 {
		c.Loops = runtime.GOMAXPROCS(0)
	}
	if c.MaxHello == 0 {
		c.MaxHello = 64 << 10
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.HelloTimeout, 10 * time.Second}, {&c.ConnectTimeout, 3 * time.Second},
		{&c.IdleTimeout, 10 * time.Minute}, {&c.UserTimeout, time.Minute},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
}

// Loops serve listeners.
type Loops struct {
	config  Config
	loops   []*loop
	running sync.WaitGroup
}

// counters are a loop's, read by others.
type counters struct {
	accepted, acceptFailed atomic.Uint64
	open                   atomic.Int64
	up, down               atomic.Uint64
	ends                   [NumEnds]atomic.Uint64
	_                      [64]byte
}

// Stats are sums over all loops. Bytes are those of connections that have ended.
type Stats struct {
	Accepted, AcceptFailed uint64
	Open                   int64
	Up, Down               uint64
	Ends                   [NumEnds]uint64
}

// New opens a listener per loop at each address and begins to serve. The port 0
// is not possible.
func New(c Config, addresses []netip.AddrPort, j Judge) (*Loops, error) {
	c.setDefaults()
	s := &Loops{config: c}
	for range c.Loops {
		l, err := newLoop(&s.config, j)
		if err == nil {
			s.loops = append(s.loops, l)
			err = l.listen(addresses, &s.config)
		}
		if err != nil {
			for _, l := range s.loops {
				l.closeListeners()
				l.close()
			}
			return nil, err
		}
	}
	for _, l := range s.loops {
		s.running.Go(l.run)
	}
	return s, nil
}

// listen opens the loop's own listeners. The kernel shares connections out among
// all that have the same address.
func (l *loop) listen(addresses []netip.AddrPort, c *Config) error {
	for _, a := range addresses {
		fd, err := listen(a, c)
		if err != nil {
			return err
		}
		l.listeners = append(l.listeners, &listener{fd: fd})
		if err := l.watch(fd, unix.EPOLLIN, isListener-int32(len(l.listeners)-1)); err != nil {
			return fmt.Errorf("listen on %v: %w", a, err)
		}
	}
	return nil
}

func listen(a netip.AddrPort, c *Config) (int, error) {
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: a.Addr().Unmap().As4(), Port: int(a.Port())}
	if a.Addr().Is6() && !a.Addr().Is4In6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("listen on %v: %w", a, err)
	}
	set := func(level, name, value int) {
		if err == nil {
			err = unix.SetsockoptInt(fd, level, name, value)
		}
	}
	set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if family == unix.AF_INET6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	// Accepted connections have these from their listener.
	set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(c.UserTimeout.Milliseconds()))
	set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	// Clients speak first: there is nothing to do before they have.
	set(unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int(c.HelloTimeout.Seconds()))
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
		return -1, fmt.Errorf("listen on %v: another program has this port (see `ss -lntp`)", a)
	case errors.Is(err, unix.EACCES):
		return -1, fmt.Errorf("listen on %v: %w (the capability CAP_NET_BIND_SERVICE is missing)", a, err)
	}
	return -1, fmt.Errorf("listen on %v: %w", a, err)
}

func (l *loop) closeListeners() {
	for _, x := range l.listeners {
		unix.Close(x.fd)
	}
	l.listeners = nil
}

// Stats adds up all counters.
func (s *Loops) Stats() (t Stats) {
	for _, l := range s.loops {
		c := &l.stats
		t.Accepted += c.accepted.Load()
		t.AcceptFailed += c.acceptFailed.Load()
		t.Open += c.open.Load()
		t.Up += c.up.Load()
		t.Down += c.down.Load()
		for i := range c.ends {
			t.Ends[i] += c.ends[i].Load()
		}
	}
	return t
}

// Shutdown stops listening at once and waits for the connections to end. When ctx
// ends it closes those that are left.
func (s *Loops) Shutdown(ctx context.Context) {
	for _, l := range s.loops {
		l.do(l.drain)
	}
	finished := make(chan struct{})
	go func() { s.running.Wait(); close(finished) }()
	select {
	case <-finished:
		return
	case <-ctx.Done():
	}
	for _, l := range s.loops {
		l.do(func() {
			for _, c := range l.conns {
				if c != nil {
					l.end(c, Drained)
				}
			}
		})
	}
	<-finished
}

// drain takes what waits to be accepted, and then nothing more.
func (l *loop) drain() {
	for _, x := range l.listeners {
		l.accept(x)
	}
	l.closeListeners()
	l.draining = true
	l.ended = len(l.free) == len(l.conns)
}
