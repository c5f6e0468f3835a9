package proxy

import (
	"container/list"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"aarch64.com/isthmus/proxy/sniff"
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

	events []unix.EpollEvent
	told   int                // how many of them
	look   func(uintptr) bool // asks for events

	listeners []int
	addresses []netip.AddrPort
	paths     map[path][]*flow
	slots     []*flow
	free      []int32
	now       time.Time
	messages  *messages
	spare     *sniff.QUIC // of a newcomer that was none
	second    time.Time   // in which there were
	answers   int         // to what may be forged

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

// rounds bounds how often one socket is read before others have their turn.
const rounds = 4

func newQUICLoop(q *quicPart, at []netip.AddrPort) (*quicLoop, error) {
	l := &quicLoop{
		quic: q, wake: -1, addresses: at, paths: map[path][]*flow{},
		messages: newMessages(), events: make([]unix.EpollEvent, 256),
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
	l.look = func(uintptr) bool {
		l.told, _ = unix.EpollWait(l.fd, l.events, 0)
		return l.told > 0
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

// maxHanded bounds what other loops hand over, as any queue of datagrams.
const maxHanded = 1000

// hand is do, unless there is too much to do already.
func (l *quicLoop) hand(f func()) bool {
	l.mu.Lock()
	full := len(l.commands) >= maxHanded
	l.mu.Unlock()
	return !full && l.do(f)
}

// do has f called by the loop. It tells whether that will be.
func (l *quicLoop) do(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
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
	for !l.ended {
		l.wait()
		l.now = time.Now()
		for i := range max(l.told, 0) {
			l.event(&l.events[i])
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

// wait asks what has happened, and comes back without events when it is time to
// look at the timers. Package relay's loops wait in the kernel without the
// runtime's knowledge, because a TLS connection is a dozen events of a few bytes;
// that takes a processor of the runtime for each loop. Here one event brings up to
// 1 MB, and a second set of loops would take the processors from the first.
func (l *quicLoop) wait() {
	if l.look(0) {
		return
	}
	var deadline time.Time
	if l.flows() > 0 {
		deadline = time.Now().Add(tick)
	}
	_ = l.epoll.SetReadDeadline(deadline)
	if l.raw.Read(l.look) != nil {
		l.told = 0 // the deadline
	}
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
	for range rounds {
		n, err := l.messages.receive(l.listeners[i])
		if err != nil {
			return
		}
		for k := range n {
			d := l.messages.at(k)
			l.take(i, path{d.from, d.to}, &d)
		}
		if n < maxMessages {
			return
		}
	}
}
