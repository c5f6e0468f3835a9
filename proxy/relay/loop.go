package relay

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// loop owns connections. All its methods but do run on its own goroutine.
type loop struct {
	config  Config
	options []option // of connections
	judge   Judge
	taker   Taker           // judge, if it is one
	index   uint64          // among the loops
	count   uint64          // of the loops
	fd      int             // epoll
	park    *os.File        // an epoll for this one, which the runtime waits for
	raw     syscall.RawConn // of park
	look    func(uintptr) bool
	events  [256]unix.EpollEvent
	told    int   // how many of events have come
	armed   int64 // when epoll's deadline is, in the loop's clock; 0: none
	wake    int   // eventfd
	buffer  []byte
	scratch
	pipes pipes

	now   int64 // ns, read once per round
	conns []*Conn
	free  []int32 // slots of conns
	next  uint64  // the next connection's number
	ready []*Conn // connections that could go on
	turns []*Conn // the ready ones of this round
	rests []*Conn // connections to look at when nothing is left to do

	hello, connect, idle, linger, starved, parked timers

	listeners []*listener
	silent    atomic.Bool // listens no more
	draining  bool
	ended     bool
	stats     counters

	mu       sync.Mutex
	commands []func() // from other goroutines
	deaf     bool     // no more commands
}

// What an epoll event is about is told by its Fd: the slot of a connection times
// two, plus one for the backend; or one of these. Pad has the low bits of the
// connection's number, for the slot may have gone to another one in the same
// round.
const (
	isWake     = -1
	isListener = -2 // and below: -2-index
)

func newLoop(c *Config, j Judge, index, count int) (*loop, error) {
	l := &loop{judge: j, index: uint64(index), count: uint64(count), buffer: make([]byte, bufferSize), fd: -1, wake: -1, now: nanotime()}
	l.taker, _ = j.(Taker)
	l.configure(*c)
	l.linger.delay, l.starved.delay = int64(lingerTime), int64(acceptPause)
	if err := l.openEpoll(); err != nil {
		l.close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	var err error
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.close()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if err = l.watch(l.wake, unix.EPOLLIN, isWake, 0); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loop) configure(c Config) {
	l.config, l.options = c, c.options()
	l.hello.delay, l.connect.delay, l.idle.delay = int64(c.HelloTimeout), int64(c.ConnectTimeout), idleDelay(c.IdleTimeout)
	l.parked.delay = int64(c.KeepTimeout)
}

func (l *loop) watch(fd int, events uint32, about int32, number uint64) error {
	err := l.control(unix.EPOLL_CTL_ADD, fd, unix.EpollEvent{Events: events, Fd: about, Pad: int32(number)})
	if err != nil {
		return fmt.Errorf("epoll: add a descriptor: %w", err)
	}
	return nil
}

func (l *loop) close() {
	l.pipes.close()
	if l.park != nil {
		l.park.Close()
	}
	for _, fd := range [...]int{l.fd, l.wake} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// do has f called by the loop. It tells whether it will be, which it is not
// after the loop's end.
func (l *loop) do(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deaf {
		return false
	}
	l.commands = append(l.commands, f)
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return true
}

func (l *loop) obey() {
	var b [8]byte
	_, _ = unix.Read(l.wake, b[:])
	l.mu.Lock()
	list := l.commands
	l.commands = nil
	l.mu.Unlock()
	for _, f := range list {
		f()
	}
}

// run serves until the loop has ended.
func (l *loop) run() {
	for !l.ended {
		l.wait()
		l.now = nanotime()
		l.turns, l.ready = l.ready, l.turns[:0]
		for i := range l.told {
			l.event(&l.events[i])
		}
		for _, c := range l.turns {
			c.again = false
			l.progress(c)
		}
		l.expire()
		for _, c := range l.rests {
			if c.stage == relaying && !c.again {
				l.rest(c)
			}
		}
		clear(l.turns)
		clear(l.rests)
		l.rests = l.rests[:0]
	}
	l.mu.Lock()
	l.deaf = true
	l.mu.Unlock()
	l.obey()
	l.close()
}

func (l *loop) event(e *unix.EpollEvent) {
	switch {
	case e.Fd == isWake:
		l.obey()
	case e.Fd <= isListener:
		// A command of this round may have closed it.
		if i := int(isListener - e.Fd); i < len(l.listeners) {
			l.accept(l.listeners[i], accepts)
		}
	default:
		c := l.conns[e.Fd/2]
		if c == nil || int32(c.ID) != e.Pad {
			return // ended by an earlier event of this round
		}
		s := &c.client
		if e.Fd%2 == 1 {
			s = &c.backend
		}
		l.socket(c, s, e.Events)
	}
}

// socket notes what an event says and does what follows.
func (l *loop) socket(c *Conn, s *side, events uint32) {
	const dead = unix.EPOLLHUP | unix.EPOLLERR
	s.readable = s.readable || events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLPRI|dead) != 0
	s.writable = s.writable || events&(unix.EPOLLOUT|dead) != 0
	// A read stops short of the end of what can be read, and of urgent data.
	s.hasty = s.hasty || events&(unix.EPOLLRDHUP|unix.EPOLLPRI|dead) != 0
	s.urgent = s.urgent || events&unix.EPOLLPRI != 0
	if c.stage == connecting && s == &c.client && events&dead != 0 {
		l.end(c, ClientReset)
		return
	}
	l.progress(c)
}

// progress gets on with a connection.
func (l *loop) progress(c *Conn) {
	switch c.stage {
	case sniffing:
		if c.client.readable {
			l.sniff(c)
		}
	case connecting:
		if c.backend.fd >= 0 && c.backend.writable {
			l.connected(c)
		}
	case relaying:
		l.relay(c)
	case closing:
		l.last(c)
	}
}

// later puts a connection off that has had its turn.
func (l *loop) later(c *Conn) {
	if !c.again {
		c.again = true
		l.ready = append(l.ready, c)
	}
}

// expire ends what has waited too long.
func (l *loop) expire() {
	for c := l.hello.due(l.now); c != nil; c = l.hello.due(l.now) {
		l.end(c, HelloTimeout)
	}
	for c := l.parked.due(l.now); c != nil; c = l.parked.due(l.now) {
		l.end(c, IdleTimeout)
	}
	for c := l.connect.due(l.now); c != nil; c = l.connect.due(l.now) {
		l.tryNext(c)
	}
	for c := l.starved.due(l.now); c != nil; c = l.starved.due(l.now) {
		l.tryNext(c)
	}
	for c := l.linger.due(l.now); c != nil; c = l.linger.due(l.now) {
		l.end(c, c.End)
	}
	for c := l.idle.due(l.now); c != nil; c = l.idle.due(l.now) {
		l.end(c, IdleTimeout)
	}
	for i, x := range l.listeners {
		if x.paused && x.until <= l.now {
			l.resume(i)
		}
	}
}
