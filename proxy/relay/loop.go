package relay

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loop owns connections. All its methods but do run on its own goroutine.
type loop struct {
	config *Config
	judge  Judge
	epoll  *os.File
	raw    syscall.RawConn // of epoll
	fd     int             // likewise
	armed  int64           // when epoll's deadline is, in the loop's clock; 0: none
	wake   int             // eventfd
	buffer []byte
	pipes  pipes

	now   int64 // ns, of the monotonic clock, read once per round
	conns []*Conn
	free  []int32 // slots of conns
	ready []*Conn // connections that could go on
	rests []*Conn // connections to look at when nothing is left to do

	hello, connect, idle, linger timers

	listeners []*listener
	draining  bool
	ended     bool
	stats     counters

	mu       sync.Mutex
	commands []func() // from other goroutines
}

// listener is one listening socket.
type listener struct {
	fd     int
	paused bool
	until  int64
}

// What an epoll event is about is told by its Fd: the slot of a connection times
// two, plus one for the backend; or one of these.
const (
	isWake     = -1
	isListener = -2 // and below: -2-index
)

// acceptPause is how long accepting rests when it fails, as it does without file
// descriptors.
const acceptPause = 50 * time.Millisecond

// accepts bounds how many connections are taken at a time, so that those that
// are there have their turn.
const accepts = 64

func newLoop(c *Config, j Judge) (*loop, error) {
	l := &loop{config: c, judge: j, buffer: make([]byte, bufferSize), wake: -1}
	l.hello.delay, l.connect.delay = int64(c.HelloTimeout), int64(c.ConnectTimeout)
	l.idle.delay, l.linger.delay = int64(c.IdleTimeout), int64(lingerTime)
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	// Waiting is left to the runtime, whose own epoll watches this one: a thread
	// that waits in a system call of its own would have to be handed back to the
	// scheduler each time, for a third of all CPU time.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l.epoll = os.NewFile(uintptr(fd), "epoll")
	if l.raw, err = l.epoll.SyscallConn(); err != nil {
		l.close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l.fd = fd
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.close()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if err = l.watch(l.wake, unix.EPOLLIN, isWake); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loop) watch(fd int, events uint32, id int32) error {
	return unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: id})
}

func (l *loop) close() {
	l.pipes.close()
	l.epoll.Close()
	if l.wake >= 0 {
		unix.Close(l.wake)
	}
}

// do has f called by the loop.
func (l *loop) do(f func()) {
	l.mu.Lock()
	l.commands = append(l.commands, f)
	l.mu.Unlock()
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// run serves until the loop has ended.
func (l *loop) run() {
	events := make([]unix.EpollEvent, 256)
	for !l.ended {
		n := l.wait(events)
		l.now = nanotime()
		ready := l.ready
		l.ready = nil
		for i := range max(n, 0) {
			l.event(&events[i])
		}
		for _, c := range ready {
			c.again = false
			if c.stage == relaying {
				l.relay(c)
			}
		}
		l.expire()
		for _, c := range l.rests {
			if c.stage == relaying && !c.again {
				l.rest(c)
			}
		}
		l.rests = l.rests[:0]
	}
	l.close()
}

func nanotime() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// wait gives what has happened. It comes back without anything when a timer is
// due, perhaps a little early, or something is ready.
func (l *loop) wait(events []unix.EpollEvent) (n int) {
	look := func(uintptr) bool {
		n, _ = unix.EpollWait(l.fd, events, 0)
		return n > 0
	}
	if look(0); n > 0 || len(l.ready) > 0 {
		return n
	}
	switch next := l.next(); {
	case next == 0 && l.armed != 0:
		l.armed = 0
		_ = l.epoll.SetReadDeadline(time.Time{})
	case next != 0 && (l.armed == 0 || next < l.armed || l.armed <= l.now):
		l.armed = next
		_ = l.epoll.SetReadDeadline(time.Now().Add(time.Duration(next - nanotime())))
	}
	if err := l.raw.Read(look); err != nil {
		return 0 // the deadline
	}
	return n
}

// next is when the first timer is due, 0 if there is none.
func (l *loop) next() (at int64) {
	sooner := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	for _, t := range [...]*timers{&l.hello, &l.connect, &l.idle, &l.linger} {
		if t.first != nil {
			sooner(t.first.timer.at)
		}
	}
	for _, x := range l.listeners {
		if x.paused {
			sooner(x.until)
		}
	}
	return at
}

func (l *loop) event(e *unix.EpollEvent) {
	switch {
	case e.Fd == isWake:
		l.obey()
	case e.Fd <= isListener:
		l.accept(l.listeners[isListener-e.Fd])
	default:
		c := l.conns[e.Fd/2]
		if c == nil {
			return // ended by an earlier event of this round
		}
		s := &c.client
		if e.Fd%2 == 1 {
			s = &c.backend
		}
		l.socket(c, s, e.Events)
	}
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

// accept takes new connections.
func (l *loop) accept(x *listener) {
	for range accepts {
		fd, sa, err := syscall.Accept4(x.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			// Out of file descriptors or memory: let others go first.
			l.stats.acceptFailed.Add(1)
			l.pause(x)
			return
		}
		l.stats.accepted.Add(1)
		from := addrPort(sa)
		if !l.judge.Accept(from) {
			l.stats.ends[Unwelcome].Add(1)
			unix.Close(fd)
			continue
		}
		l.begin(fd, from)
	}
}

func (l *loop) pause(x *listener) {
	x.paused, x.until = true, l.now+int64(acceptPause)
	_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, x.fd, nil)
}

func (l *loop) resume(i int) {
	x := l.listeners[i]
	if l.watch(x.fd, unix.EPOLLIN, isListener-int32(i)) == nil {
		x.paused = false
	} else {
		x.until = l.now + int64(acceptPause)
	}
}

// begin takes a client in.
func (l *loop) begin(fd int, from netip.AddrPort) {
	c := &Conn{From: from, Start: time.Now(), loop: l, client: side{fd: fd, writable: true}, backend: side{fd: -1}, moved: l.now}
	if n := len(l.free); n > 0 {
		c.slot = l.free[n-1]
		l.free = l.free[:n-1]
		l.conns[c.slot] = c
	} else {
		c.slot = int32(len(l.conns))
		l.conns = append(l.conns, c)
	}
	l.stats.open.Add(1)
	if err := l.watch(fd, socketEvents, 2*c.slot); err != nil {
		l.end(c, Unwelcome)
		return
	}
	l.hello.start(c, l.now)
}

// socketEvents are asked for once: a side's own state tells what they mean at
// the moment.
const socketEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// socket notes what an event says and does what follows.
func (l *loop) socket(c *Conn, s *side, events uint32) {
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.readable = true
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.hangup = true
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.writable = true
	}
	switch c.stage {
	case sniffing:
		if s.readable {
			l.sniff(c)
		}
	case connecting:
		if s == &c.backend && s.writable {
			l.connected(c)
		}
	case relaying:
		l.relay(c)
	case closing:
		l.last(c)
	}
}

// relay moves what can be moved, both ways.
func (l *loop) relay(c *Conn) {
	if !l.pump(c, &c.client, &c.backend, &c.Up) {
		return
	}
	down := c.Down
	if !l.pump(c, &c.backend, &c.client, &c.Down) {
		return
	}
	if down == 0 && c.Down > 0 {
		c.First = time.Since(c.Start)
	}
	if c.client.pipe != nil || c.backend.pipe != nil {
		l.rests = append(l.rests, c)
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
	for c := l.connect.due(l.now); c != nil; c = l.connect.due(l.now) {
		l.tryNext(c)
	}
	for c := l.linger.due(l.now); c != nil; c = l.linger.due(l.now) {
		l.end(c, c.End)
	}
	// The list is by when a connection was looked at last: those that have
	// moved something since go to its end.
	for c := l.idle.due(l.now); c != nil; c = l.idle.due(l.now) {
		if l.now-c.moved >= l.idle.delay {
			l.end(c, IdleTimeout)
		} else {
			l.idle.start(c, c.moved)
		}
	}
	for i, x := range l.listeners {
		if x.paused && x.until <= l.now {
			l.resume(i)
		}
	}
}

// finished tells whether a connection goes on, which it does until both sides
// have said all and have been told all.
func (l *loop) finished(c *Conn) bool {
	if c.client.eof && c.backend.eof && !c.client.pending() && !c.backend.pending() {
		l.end(c, Finished)
		return false
	}
	return true
}

func (l *loop) resetBy(c *Conn, s *side) End {
	if s == &c.client {
		return ClientReset
	}
	return BackendReset
}

// end closes a connection. Its descriptors leave epoll by themselves.
func (l *loop) end(c *Conn, why End) {
	if c.stage == gone {
		return
	}
	c.stage, c.End = gone, why
	c.stop()
	for _, s := range [...]*side{&c.client, &c.backend} {
		if s.fd >= 0 {
			unix.Close(s.fd)
		}
		if s.pipe != nil {
			l.pipes.put(s.pipe)
			s.pipe = nil
		}
		s.out = nil
	}
	c.hello, c.header, c.backends = nil, nil, nil
	l.conns[c.slot] = nil
	l.free = append(l.free, c.slot)
	l.stats.open.Add(-1)
	l.stats.ends[why].Add(1)
	l.stats.up.Add(c.Up)
	l.stats.down.Add(c.Down)
	l.judge.Closed(c)
	if l.draining && len(l.free) == len(l.conns) {
		l.ended = true
	}
}
