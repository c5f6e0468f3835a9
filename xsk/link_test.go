package xsk

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// sendOne puts one fresh frame into the tx ring.
func sendOne(t *testing.T, w *wire, s *Socket) {
	t.Helper()
	s.Service()
	addr, ok := s.u.Alloc()
	if !ok {
		t.Fatal("no chunk")
	}
	n := copy(s.u.Chunk(addr), w.frame6(70, 0, 1))
	copy(s.u.Chunk(addr), w.peerMAC)
	copy(s.u.Chunk(addr)[6:], w.myMAC)
	if s.Send([]Desc{{Addr: addr, Len: uint32(n)}}) != 1 {
		t.Fatal("the tx ring is full")
	}
}

// eventually waits for what the kernel does a little later.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 5 s for: %s", what)
		}
	}
}

// TestLinkDown: sending says why it can't, nothing is lost, and it goes on by
// itself when the link is back.
func TestLinkDown(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	u := newUMEM(t, 2048)
	s := w.open(u, SocketConfig{})
	p := w.program(w.tables(), AttachAuto)
	if err := p.Register(0, s); err != nil {
		t.Fatal(err)
	}
	if err := s.State(); err != nil {
		t.Fatalf("link is up, yet: %v", err)
	}
	if err := host.Down("eth0"); err != nil {
		t.Fatal(err)
	}
	sendOne(t, w, s)
	if err := s.Flush(); !errors.Is(err, ErrLinkDown) || !strings.Contains(err.Error(), "queue 0 of eth0") {
		t.Fatalf("flush: %v", err)
	}
	if err := s.State(); !errors.Is(err, ErrLinkDown) {
		t.Fatalf("state: %v", err)
	}
	if s.Pending() != 1 {
		t.Errorf("%d frames wait, want 1", s.Pending())
	}
	if err := host.Up("eth0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the link to come back", func() bool { return s.State() == nil })
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	if f := w.receiveUDP(buf); f == nil || seqOf(f) != 1 {
		t.Fatal("the frame that waited didn't arrive")
	}
	stop, done := make(chan struct{}), make(chan error)
	go func() { done <- forward(u, s, s, stop) }()
	err := pump(w, w, 100, 10, 70, oneFlow)
	close(stop)
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	audited(t, u)
}

// TestCarrierLost: the interface is up, but the other end isn't. The kernel
// drops and completes what is sent; that is counted, not retried.
func TestCarrierLost(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	u := newUMEM(t, 2048)
	s := w.open(u, SocketConfig{})
	if err := w.peer.Down("eth0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the carrier to go", func() bool { return errors.Is(s.State(), ErrLinkDown) })
	for range 10 {
		sendOne(t, w, s)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Service()
	audited(t, u)
	if st, err := s.Stats(); err != nil || st.TxDropped != 10 || st.Completed != 10 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestDeviceGone: of two ports on one UMEM one is deleted. The other carries
// on, nothing is lost, and a new device can join.
func TestDeviceGone(t *testing.T) {
	l, host := newLab(t)
	a := newWire(t, l, host, "eth0", lab.LinkConfig{})
	b := newWire(t, l, host, "eth1", lab.LinkConfig{})
	u := newUMEM(t, 4096)
	sa, sb := a.open(u, SocketConfig{}), b.open(u, SocketConfig{}) // sa registered the memory
	deleteLink(t, a)
	sendOne(t, a, sa)
	if err := sa.Flush(); !errors.Is(err, ErrDeviceGone) || !strings.Contains(err.Error(), "queue 0 of eth0") {
		t.Fatalf("flush: %v", err)
	}
	if err := sa.State(); !errors.Is(err, ErrDeviceGone) {
		t.Fatalf("state: %v", err)
	}
	if _, err := sa.Stats(); err != nil {
		t.Errorf("statistics of a socket without device: %v", err)
	}
	p := b.program(b.tables(), AttachAuto)
	if err := p.Register(0, sb); err != nil {
		t.Fatal(err)
	}
	echo := func(w *wire, s *Socket) {
		t.Helper()
		stop, done := make(chan struct{}), make(chan error)
		go func() { done <- forward(u, s, s, stop) }()
		err := pump(w, w, 1000, 64, 70, oneFlow)
		close(stop)
		if err := errors.Join(err, <-done); err != nil {
			t.Fatal(err)
		}
	}
	echo(b, sb)
	// A new port joins while the dead one is still open, and then without it.
	c := newWire(t, l, host, "eth2", lab.LinkConfig{})
	sc := c.open(u, SocketConfig{})
	if err := sa.Close(); err != nil {
		t.Fatal(err)
	}
	audited(t, u)
	if err := c.program(c.tables(), AttachAuto).Register(0, sc); err != nil {
		t.Fatal(err)
	}
	echo(c, sc)
	if err := errors.Join(sb.Close(), sc.Close()); err != nil {
		t.Fatal(err)
	}
	if a := audited(t, u); a.Free != a.Chunks {
		t.Errorf("all sockets are closed: %+v", a)
	}
	// All closed: the memory is registered anew.
	again := b.open(u, SocketConfig{})
	if err := p.Register(0, again); err != nil {
		t.Fatal(err)
	}
	echo(b, again)
}

func deleteLink(t *testing.T, w *wire) {
	t.Helper()
	nl, err := w.host.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	link, err := nl.LinkByName(w.ifname)
	if err != nil {
		t.Fatal(err)
	}
	if err := nl.LinkDel(link); err != nil {
		t.Fatal(err)
	}
}

// TestChannels: queues are counted as they are, not as they could be; and the
// kernel doesn't take away a queue that has a socket.
func TestChannels(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{Queues: 4})
	set := func(n uint32) (err error) {
		return host.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			ch := ethtoolChannels{cmd: unix.ETHTOOL_SCHANNELS, rxCount: n, txCount: n}
			return ethtool(fd, "eth0", unsafe.Pointer(&ch))
		})
	}
	if err := set(2); err != nil {
		t.Fatal(err)
	}
	if _, err := w.tryOpen(newUMEM(t, 2048), SocketConfig{Queue: 2}); !errors.Is(err, ErrQueueGone) {
		t.Errorf("queue 2 of 2: %v", err)
	}
	s := w.open(newUMEM(t, 2048), SocketConfig{Queue: 1})
	if err := set(1); err == nil {
		t.Error("the kernel took a queue away from a socket")
	}
	// Kernels that allow it make a kick return 0 with nothing sent. Here the
	// socket only believes that it is on a queue that doesn't exist.
	s.cfg.Queue = 2
	for range quietKicks - 1 {
		if err := s.nothingSent(); err != nil {
			t.Fatalf("asked too early: %v", err)
		}
	}
	if err := s.nothingSent(); !errors.Is(err, ErrQueueGone) || !strings.Contains(err.Error(), "2 left") {
		t.Errorf("after %d kicks without effect: %v", quietKicks, err)
	}
}
