package relay

import (
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// hold is how long a loop waits in the kernel before it gives its thread back to
// the runtime. While connections come in quick succession, this spares the
// scheduler's going to sleep and waking up, a third of all CPU time. The runtime
// is not told of the wait: a stop of the world interrupts it by a signal, and the
// loop keeps its share of GOMAXPROCS, which is raised by as much.
const hold = 5 * time.Millisecond

var procs struct {
	sync.Mutex
	held int // by loops
}

// holdProcs changes GOMAXPROCS by n, for loops that begin or end.
func holdProcs(n int) {
	procs.Lock()
	defer procs.Unlock()
	procs.held += n
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
}

// freeProcs is GOMAXPROCS without what loops hold.
func freeProcs() int {
	procs.Lock()
	defer procs.Unlock()
	return runtime.GOMAXPROCS(0) - procs.held
}

func (l *loop) openEpoll() (err error) {
	if l.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err = unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	l.park = os.NewFile(uintptr(fd), "epoll")
	if l.raw, err = l.park.SyscallConn(); err != nil {
		return err
	}
	l.look = func(uintptr) bool { return l.poll(0) }
	// Armed while the loop is parked: else the runtime would wake up with each
	// event of a loop that does not sleep.
	return unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, l.fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT})
}

// poll asks for events, l.told of them, and waits for them without telling the
// runtime. It tells whether the time was not up.
func (l *loop) poll(timeout time.Duration) bool {
	n, err := epollWait(l.fd, l.events[:], int(timeout.Milliseconds()))
	l.told = n
	return n > 0 || err == unix.EINTR
}

// wait waits for events, l.told of them. It comes back without any when a timer
// is due, perhaps a little early, or a connection is ready.
func (l *loop) wait() {
	if len(l.ready) > 0 {
		l.poll(0)
		return
	}
	if l.poll(hold) {
		return
	}
	switch due := l.due(); {
	case due == 0 && l.armed != 0:
		l.armed = 0
		_ = l.park.SetReadDeadline(time.Time{})
	case due != 0 && (l.armed == 0 || due < l.armed || l.armed <= l.now):
		l.armed = due
		_ = l.park.SetReadDeadline(epoch.Add(time.Duration(due)))
	}
	l.arm(unix.EPOLLIN)
	if l.raw.Read(l.look) != nil {
		l.poll(0) // The deadline is over; has anything come nevertheless?
	}
	l.arm(0)
}

// arm has the runtime told of events, or not.
func (l *loop) arm(events uint32) {
	_ = l.raw.Control(func(park uintptr) {
		_ = unix.EpollCtl(int(park), unix.EPOLL_CTL_MOD, l.fd, &unix.EpollEvent{Events: events | unix.EPOLLONESHOT})
	})
}

// due is when the first timer is, 0 if there is none.
func (l *loop) due() (at int64) {
	sooner := func(t int64) {
		if at == 0 || t < at {
			at = t
		}
	}
	for _, t := range [...]*timers{&l.hello, &l.connect, &l.idle, &l.linger, &l.starved, &l.parked} {
		if t.first != nil {
			sooner(t.first.timer.start + t.delay)
		}
	}
	for _, x := range l.listeners {
		if x.paused {
			sooner(x.until)
		}
	}
	return at
}
