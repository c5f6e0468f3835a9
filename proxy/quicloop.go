package proxy

import (
	"container/list"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// quicLoop owns flows. All its methods but do run on its own goroutine, so that
// a datagram meets no lock.
type quicLoop struct {
	quic  *quicPart
	epoll *os.File
	raw   syscall.RawConn // of epoll
	fd    int             // likewise
	wake  int             // eventfd

	listeners []int
	addresses []netip.AddrPort
	paths     map[path][]*flow
	slots     []*flow
	free      []int32
	now       time.Time
	buffer    []byte
	control   []byte

	// Each list is by when its flows are due.
	pending list.List // the hello is not complete
	dialing list.List // another backend may be tried
	young   list.List // the client has not shown that it gets our answers
	steady  list.List

	draining bool
	ended    bool

	mu       sync.Mutex
	commands []func() // from other goroutines
	over     bool     // no more of them
}

// What an epoll event is about: the slot of a flow times two, plus one for the
// socket to its client; or one of these.
const (
	quicWake     = -1
	quicListener = -2 // and below: -2-index
)

// maxGuesses bounds how many flows get a datagram that may be any one's.
const maxGuesses = 8

// receives bounds how often one socket is read before others have their turn.
const receives = 16

func newQUICLoop(q *quicPart, at []netip.AddrPort) (*quicLoop, error) {
	l := &quicLoop{
		quic: q, wake: -1, addresses: at, paths: map[path][]*flow{},
		buffer: make([]byte, maxDatagrams), control: make([]byte, controlSize),
	}
	for _, x := range []*list.List{&l.pending, &l.dialing, &l.young, &l.steady} {
		x.Init()
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	// The runtime's poller waits for this one, see package relay.
	l.fd, l.epoll = fd, os.NewFile(uintptr(fd), "epoll")
	if l.raw, err = l.epoll.SyscallConn(); err == nil {
		l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	}
	if err == nil {
		err = l.watch(l.wake, quicWake)
	}
	for i := 0; i < len(at) && err == nil; i++ {
		var fd int
		if fd, err = udpListen(at[i]); err == nil {
			l.listeners = append(l.listeners, fd)
			err = l.watch(fd, quicListener-int32(i))
		}
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *quicLoop) watch(fd int, id int32) error {
	return unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: id})
}

func (l *quicLoop) close() {
	l.closeListeners()
	l.epoll.Close()
	if l.wake >= 0 {
		unix.Close(l.wake)
	}
}

func (l *quicLoop) closeListeners() {
	for _, fd := range l.listeners {
		unix.Close(fd)
	}
	l.listeners = nil
}

// do has f called by the loop. It tells whether that will be.
func (l *quicLoop) do(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What other loops hand over is bounded, as any queue of datagrams.
	if l.over || len(l.commands) > 1000 {
		return false
	}
	l.commands = append(l.commands, f)
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return true
}

func (l *quicLoop) obey() {
	var b [8]byte
	_, _ = unix.Read(l.wake, b[:])
	l.mu.Lock()
	todo := l.commands
	l.commands = nil
	l.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

func (l *quicLoop) run() {
	events := make([]unix.EpollEvent, 256)
	for !l.ended {
		n := l.wait(events)
		l.now = time.Now()
		for i := range max(n, 0) {
			l.event(&events[i])
		}
		l.expire()
	}
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.close()
}

// tick is how late a timer may be. All of them are for seconds.
const tick = 50 * time.Millisecond

// wait gives what has happened, or nothing when it is time to look at the timers.
func (l *quicLoop) wait(events []unix.EpollEvent) (n int) {
	look := func(uintptr) bool {
		n, _ = unix.EpollWait(l.fd, events, 0)
		return n > 0
	}
	if look(0); n > 0 {
		return n
	}
	var deadline time.Time
	if l.flows() > 0 {
		deadline = time.Now().Add(tick)
	}
	_ = l.epoll.SetReadDeadline(deadline)
	if l.raw.Read(look) != nil {
		return 0 // the deadline
	}
	return n
}

func (l *quicLoop) flows() int { return len(l.slots) - len(l.free) }

func (l *quicLoop) event(e *unix.EpollEvent) {
	switch {
	case e.Fd == quicWake:
		l.obey()
	case e.Fd <= quicListener:
		if i := int(quicListener - e.Fd); i < len(l.listeners) {
			l.fromClients(i)
		}
	default:
		f := l.slots[e.Fd/2]
		switch {
		case f == nil: // ended by an earlier event of this round
		case e.Fd%2 == 0:
			l.fromBackend(f)
		default:
			l.fromOwn(f)
		}
	}
}

// fromClients reads a listener.
func (l *quicLoop) fromClients(i int) {
	for range receives {
		d, err := udpReceive(l.listeners[i], l.buffer, l.control)
		if err != nil {
			return
		}
		l.take(i, path{d.from, d.to}, &d)
	}
}

// take finds the flow of what a client sends.
func (l *quicLoop) take(i int, p path, d *datagrams) {
	if len(d.bytes) == 0 {
		return
	}
	if here := l.paths[p]; len(here) == 1 && here[0].confirmed && d.bytes[0]&0x80 == 0 {
		// All that the kernel joins has the same length, so long headers, which
		// are of the handshake, may be among them. They go the same way.
		l.forward(here[0], p, d.bytes, d.segment, d.ecn)
		return
	}
	for b := d.bytes; len(b) > 0; {
		n := min(d.segment, len(b))
		l.datagram(i, p, b[:n], d.ecn)
		b = b[n:]
	}
}

func (l *quicLoop) datagram(i int, p path, b []byte, ecn byte) {
	if b[0]&0x80 != 0 {
		l.long(i, p, b, ecn)
		return
	}
	here := l.paths[p]
	if f := ofShort(here, b); f != nil {
		l.confirm(f)
		l.forward(f, p, b, len(b), ecn)
		return
	}
	// Client and backend have agreed on a connection id since. Several flows on
	// one path are rare: each backend gets it, and all but one can't open it.
	if len(here) > 0 {
		for _, f := range slices.Clone(here[:min(maxGuesses, len(here))]) { // some may end
			if !f.over {
				l.confirm(f)
				l.forward(f, p, b, len(b), ecn)
			}
		}
		return
	}
	f := l.quic.moved.find(b)
	if f == nil {
		l.quic.counts.stray.Add(1)
		return
	}
	l.quic.counts.moved.Add(1)
	if f.loop == l {
		l.rebind(f, p)
		l.forward(f, p, b, len(b), ecn)
		return
	}
	b = append([]byte(nil), b...)
	f.loop.do(func() {
		if !f.over {
			f.loop.rebind(f, p)
			f.loop.forward(f, p, b, len(b), ecn)
		}
	})
}

// due tells of the first flow in a list whether its time is over.
func (l *quicLoop) due(x *list.List, after time.Duration) *flow {
	if e := x.Front(); e != nil {
		if f := e.Value.(*flow); l.now.Sub(f.since) >= after {
			return f
		}
	}
	return nil
}

func (l *quicLoop) expire() {
	t := &l.quic.server.config().Timeouts
	for f := l.due(&l.pending, t.Hello); f != nil; f = l.due(&l.pending, t.Hello) {
		l.end(f, SlowUser, "hello_timeout")
	}
	for f := l.due(&l.dialing, t.Connect); f != nil; f = l.due(&l.dialing, t.Connect) {
		l.dial(f)
	}
	for f := l.due(&l.young, t.Hello); f != nil; f = l.due(&l.young, t.Hello) {
		if f.first == 0 {
			l.end(f, SlowBackend, "no_answer")
		} else {
			l.end(f, SlowUser, "unconfirmed")
		}
	}
	for f := l.due(&l.steady, t.QUICIdle); f != nil; f = l.due(&l.steady, t.QUICIdle) {
		if l.now.Sub(f.moved) < t.QUICIdle {
			f.since = f.moved
			l.steady.MoveToBack(f.place)
			continue
		}
		// The end of a connection is sealed: silence is all that there is to see.
		l.end(f, Served, "idle")
	}
}

// drain stops listening. The flows that are there get sockets of their own, each
// connected to its client's address: the kernel prefers these, and gives all else
// to whoever listens from now on.
func (l *quicLoop) drain() {
	l.draining = true
	for _, f := range l.slots {
		switch {
		case f == nil:
		case f.hello != nil:
			l.end(f, Stopped, "drained")
		default:
			if err := l.ownSocket(f); err != nil {
				l.end(f, Stopped, err.Error())
			}
		}
	}
	l.closeListeners()
	l.ended = l.flows() == 0
}

// kill ends what is left.
func (l *quicLoop) kill() {
	for _, f := range l.slots {
		if f != nil {
			l.end(f, Stopped, "drained")
		}
	}
	l.ended = true
}
