package relay

import (
	"context"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Config of the loops. 0 stands for the default.
type Config struct {
	Loops    int // one per CPU; GOMAXPROCS is raised by their number
	MaxHello int // bytes that a client may say before it is known where to; 65536

	HelloTimeout   time.Duration // until that is known; 10 s
	ConnectTimeout time.Duration // for each backend; 3 s
	IdleTimeout    time.Duration // without a byte either way; 10 min
	KeepTimeout    time.Duration // of what [Loops.Park] takes; 1 min

	// UserTimeout is how long a peer may leave what it was sent without
	// acknowledging it, or its window closed: TCP_USER_TIMEOUT; 5 min.
	UserTimeout time.Duration

	// Files are listening sockets that somebody else has opened, as systemd
	// does. All loops share them; the caller closes them after New.
	Files []*os.File
}

func (c *Config) setDefaults() {
	if c.Loops == 0 {
		c.Loops = freeProcs()
	}
	if c.MaxHello == 0 {
		c.MaxHello = 64 << 10
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.HelloTimeout, 10 * time.Second}, {&c.ConnectTimeout, 3 * time.Second},
		{&c.IdleTimeout, 10 * time.Minute}, {&c.UserTimeout, 5 * time.Minute}, {&c.KeepTimeout, time.Minute},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
}

// Loops serve listeners.
type Loops struct {
	loops   []*loop
	running sync.WaitGroup
	turn    atomic.Uint64 // whose the next is that somebody else has accepted
}

// counters are a loop's, read by others.
type counters struct {
	accepted, acceptFailed, dialStarved atomic.Uint64
	open                                atomic.Int64
	up, down                            atomic.Uint64
	ends                                [NumEnds]atomic.Uint64
	_                                   [64]byte
}

// Stats are sums over all loops.
type Stats struct {
	Accepted     uint64
	AcceptFailed uint64 // for want of descriptors or memory: accepting pauses then
	DialStarved  uint64 // likewise, of sockets to backends: tried again later
	Open         int64
	Up, Down     uint64 // bytes, those of open connections included
	Ends         [NumEnds]uint64
}

// New opens a listener per loop at each address and begins to serve. The port 0
// is not possible. Where another process listens at the same address with
// SO_REUSEPORT, as one does that is about to shut down, new connections are
// shared out between the two.
func New(c Config, addresses []netip.AddrPort, j Judge) (*Loops, error) {
	c.setDefaults()
	s := &Loops{}
	for i := range c.Loops {
		l, err := newLoop(&c, j, i, c.Loops)
		if err == nil {
			s.loops = append(s.loops, l)
			err = l.listen(addresses, c.Files)
		}
		if err != nil {
			for _, l := range s.loops {
				l.closeListeners()
				l.close()
			}
			return nil, err
		}
	}
	holdProcs(c.Loops)
	for _, l := range s.loops {
		s.running.Go(func() {
			defer holdProcs(-1)
			l.run()
		})
	}
	return s, nil
}

// Update sets timeouts and sizes for the connections that are there, too; only
// UserTimeout counts for new ones. The number of loops and the listeners stay.
func (s *Loops) Update(c Config) {
	c.setDefaults()
	s.each(func(l *loop) {
		l.configure(c)
		for _, x := range l.listeners {
			_ = tuneListener(x.fd, &c)
		}
	})
}

// each has f called by each loop, one after the other, and waits for it.
func (s *Loops) each(f func(*loop)) {
	for _, l := range s.loops {
		called := make(chan struct{})
		if l.do(func() { f(l); close(called) }) {
			<-called
		}
	}
}

// Each calls f with each open connection, on the loop that it belongs to: f must
// be quick, must not keep c, and must not call methods of Loops. It is never
// called twice at the same time. Judges must not call Each.
func (s *Loops) Each(f func(c *Conn)) {
	s.each(func(l *loop) {
		for _, c := range l.conns {
			if c != nil {
				f(c)
			}
		}
	})
}

// Kill ends the connection with this ID. It tells whether there was one.
func (s *Loops) Kill(id uint64) (found bool) {
	l := s.loops[id%uint64(len(s.loops))]
	done := make(chan struct{})
	if !l.do(func() {
		defer close(done)
		for _, c := range l.conns {
			if c != nil && c.ID == id {
				found = true
				l.end(c, Killed)
				return
			}
		}
	}) {
		return false
	}
	<-done
	return found
}

// Stats adds up all counters.
func (s *Loops) Stats() (t Stats) {
	for _, l := range s.loops {
		c := &l.stats
		t.Accepted += c.accepted.Load()
		t.AcceptFailed += c.acceptFailed.Load()
		t.DialStarved += c.dialStarved.Load()
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
	s.each(func(l *loop) {
		for _, c := range l.conns {
			if c != nil {
				l.end(c, Drained)
			}
		}
	})
	<-finished
}

// stopListening takes what waits to be accepted, and then nothing more. A
// connection whose client has not said anything yet waits in the kernel, and moves
// to another process that listens at the same address only if the sysctl
// net.ipv4.tcp_migrate_req is 1.
func (l *loop) stopListening() {
	for _, x := range l.listeners {
		if x.shared {
			continue
		}
		for paused := x.paused; x.paused == paused; {
			before := l.stats.accepted.Load()
			if l.accept(x, accepts); l.stats.accepted.Load() == before {
				break
			}
		}
	}
	l.closeListeners()
	l.silent.Store(true)
}

func (l *loop) drain() {
	l.stopListening()
	l.draining = true
	l.ended = len(l.free) == len(l.conns)
}
