package xsk

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"aarch64.com/isthmus/perf/lab"
)

// TestSharedUMEM: frames received on one interface go out on another without
// being copied by us, both directions at once, out of one UMEM.
func TestSharedUMEM(t *testing.T) {
	l, host := newLab(t)
	a := newWire(t, l, host, "eth0", lab.LinkConfig{})
	b := newWire(t, l, host, "eth1", lab.LinkConfig{})
	u := newUMEM(t, 8192)
	sa, sb := a.open(u, SocketConfig{}), b.open(u, SocketConfig{})
	tables := a.tables()
	for _, p := range []struct {
		w *wire
		s *Socket
	}{{a, sa}, {b, sb}} {
		if err := p.w.program(tables, AttachAuto).Register(0, p.s); err != nil {
			t.Fatal(err)
		}
	}
	stop, done := make(chan struct{}), make(chan error)
	// One worker owns the UMEM, so it serves both directions.
	go func() {
		var d [64]Desc
		for idle := 0; ; {
			moved := 0
			for _, dir := range [][2]*Socket{{sa, sb}, {sb, sa}} {
				dir[0].Service()
				n := dir[0].Recv(d[:])
				for sent := 0; sent < n; {
					sent += dir[1].Send(d[sent:n])
					if err := dir[1].Flush(); err != nil {
						done <- err
						return
					}
					dir[1].Service()
				}
				moved += n
				// A Flush may leave some for a later one.
				if err := dir[1].Flush(); err != nil {
					done <- err
					return
				}
			}
			select {
			case <-stop:
				if idle++; idle > 20 {
					done <- nil
					return
				}
			default:
			}
			if moved == 0 {
				wait(sa)
			}
		}
	}()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	wg.Go(func() { errs[0] = pump(a, b, 20_000, 128, 70, oneFlow) })
	wg.Go(func() { errs[1] = pump(b, a, 20_000, 128, 1400, oneFlow) })
	wg.Wait()
	close(stop)
	if err := errors.Join(<-done, errs[0], errs[1]); err != nil {
		t.Fatal(err)
	}
	sa.Service()
	sb.Service()
	if got := audited(t, u); got.Fill != 2048 {
		t.Errorf("both fill rings should be full: %+v", got)
	}
	if err := u.Close(); err == nil {
		t.Error("a UMEM with open sockets was unmapped")
	}
}

// TestQueues: each of four queues has its own socket, UMEM and goroutine, and
// all of them carry traffic.
func TestQueues(t *testing.T) {
	const queues = 4
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{Queues: queues})
	if err := host.Do(func() error {
		n, err := QueueCount(w.ifindex)
		if n != queues {
			t.Errorf("counted %d queues, want %d", n, queues)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	p := w.program(w.tables(), AttachDriver)
	stop, done := make(chan struct{}), make(chan error)
	var sockets [queues]*Socket
	for q := range queues {
		u := newUMEM(t, 4096)
		sockets[q] = w.open(u, SocketConfig{Queue: q})
		if err := p.Register(q, sockets[q]); err != nil {
			t.Fatal(err)
		}
		go func() { done <- forward(u, sockets[q], sockets[q], stop) }()
	}
	const n = 20_000
	buf := make([]byte, 4096)
	seen := make([]bool, n) // order holds per flow only
	for i, back := 0, 0; back < n; {
		if i < n && i-back < 128 {
			w.send(w.frame6(70, uint16(i%64), uint64(i)))
			i++
			continue
		}
		f := w.receiveUDP(buf)
		if f == nil {
			t.Fatalf("%d of %d frames came back", back, n)
		}
		if seq := seqOf(f); seq >= n || seen[seq] {
			t.Fatalf("frame %d came back twice or was never sent", seq)
		} else {
			seen[seq] = true
		}
		back++
	}
	close(stop)
	for range queues {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for q, s := range sockets {
		audited(t, s.u)
		st, err := s.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if st.Received == 0 || st.Sent != st.Received || st.Completed != st.Received {
			t.Errorf("queue %d: %+v", q, st)
		}
		t.Logf("queue %d: %d frames", q, st.Received)
	}
}

// leaks counts what closing must give back.
func leaks(t *testing.T) (fds, maps int) {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	m, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return len(d), strings.Count(string(m), "AF_XDP") + strings.Count(string(m), "[xsk]") + strings.Count(string(m), "socket:")
}

// TestRebind closes and opens everything on the same queue, at once.
func TestRebind(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	tables := w.tables()
	once := func() {
		u, err := NewUMEM(UMEMConfig{Chunks: 2048, ChunkSize: Chunk2K})
		if err != nil {
			t.Fatal(err)
		}
		s, err := w.tryOpen(u, SocketConfig{})
		if err != nil {
			t.Fatal(err)
		}
		var p *Program
		if err := host.Do(func() (err error) {
			p, err = AttachProgram(tables, ProgramConfig{Ifindex: w.ifindex})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := p.Register(0, s); err != nil {
			t.Fatal(err)
		}
		stop, done := make(chan struct{}), make(chan error)
		go func() { done <- forward(u, s, s, stop) }()
		err = pump(w, w, 10, 10, 70, oneFlow)
		close(stop)
		if err := errors.Join(<-done, err, p.Unregister(0), s.Close(), p.Close()); err != nil {
			t.Fatal(err)
		}
		audited(t, u)
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
	}
	once()
	fds, maps := leaks(t)
	if maps != 0 {
		t.Errorf("%d ring mappings are left", maps)
	}
	for range 50 {
		once()
	}
	if f, m := leaks(t); f > fds || m != 0 {
		t.Errorf("after 50 rounds: %d file descriptors (before: %d), %d ring mappings", f, fds, m)
	}
}

// TestLeakCheckSees: the leak check isn't blind.
func TestLeakCheckSees(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	fds, _ := leaks(t)
	w.open(newUMEM(t, 2048), SocketConfig{})
	if f, m := leaks(t); f != fds+2 || m != 4 {
		t.Errorf("an open socket shows as %d descriptors and %d mappings, want 2 and 4", f-fds, m)
	}
}

func TestBusyQueue(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	w.open(newUMEM(t, 2048), SocketConfig{})
	_, err := w.tryOpen(newUMEM(t, 2048), SocketConfig{})
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "queue 0 of eth0") {
		t.Errorf("second socket on a queue: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	u := newUMEM(t, 2048)
	closed, err := NewUMEM(UMEMConfig{Chunks: 1, ChunkSize: Chunk2K})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, c := range []struct {
		name string
		u    *UMEM
		cfg  SocketConfig
		want error
		text string
	}{
		{"zero_copy_required", u, SocketConfig{ZeroCopy: ZeroCopyRequire}, ErrZeroCopy, "queue 0 of eth0"},
		{"no_such_queue", u, SocketConfig{Queue: 1}, ErrQueueGone, "the interface has 1"},
		{"ring_size", u, SocketConfig{Rx: 100}, nil, "power of two"},
		{"umem_closed", closed, SocketConfig{}, ErrClosed, "closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.tryOpen(c.u, c.cfg)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
			if c.u == u {
				if a := audited(t, u); a.Free != a.Chunks {
					t.Errorf("a failed Open kept chunks: %+v", a)
				}
			}
		})
	}
	t.Run("no_such_interface", func(t *testing.T) {
		gone := *w
		gone.ifindex = 4711
		if _, err := gone.tryOpen(u, SocketConfig{}); !errors.Is(err, ErrDeviceGone) {
			t.Error(err)
		}
	})
}

// TestZeroCopyOff: asking for copy gives copy, and XDP_OPTIONS says so.
func TestZeroCopyOff(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	s := w.open(newUMEM(t, 2048), SocketConfig{ZeroCopy: ZeroCopyOff})
	if s.Mode() != Copy || !s.NeedWakeup() {
		t.Errorf("%v, need wake-up %v", s.Mode(), s.NeedWakeup())
	}
}

// TestFrameTooLarge: a frame that doesn't fit into a chunk goes to the kernel and
// is counted.
func TestFrameTooLarge(t *testing.T) {
	for _, c := range []struct {
		name string
		size int
		fits bool
	}{
		{"largest", Chunk2K - RxHeadroom, true},
		{"one_more", Chunk2K - RxHeadroom + 1, false},
		{"of_a_3000_byte_mtu", 3000, false},
		{"of_a_9000_byte_mtu", 9000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, host := newLab(t)
			w := newWire(t, l, host, "eth0", lab.LinkConfig{MTU: 9000})
			u := newUMEM(t, 2048)
			s := w.open(u, SocketConfig{})
			p := w.program(w.tables(), AttachDriver)
			if err := p.Register(0, s); err != nil {
				t.Fatal(err)
			}
			w.send(w.frame6(c.size, 0, 1))
			var st Stats
			eventually(t, "the frame to be received or counted", func() (ok bool) {
				var d [1]Desc
				if n := s.Recv(d[:]); n == 1 {
					if got := seqOf(u.Frame(d[0])); got != 1 || int(d[0].Len) != c.size {
						t.Fatalf("frame %d of %d bytes", got, d[0].Len)
					}
					u.Free(d[0].Addr)
				}
				var err error
				if st, err = s.Stats(); err != nil {
					t.Fatal(err)
				}
				steered, err := p.Counters()
				if err != nil {
					t.Fatal(err)
				}
				return st.Received+steered.Oversize == 1
			})
			if c.fits != (st.Received == 1) || st.RxDropped != 0 {
				t.Errorf("%+v", st)
			}
			audited(t, u)
		})
	}
}

// TestFillRingEmpty: frames that find no chunk are counted, and none is lost
// from the books.
func TestFillRingEmpty(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	u := newUMEM(t, 16)
	s := w.open(u, SocketConfig{})
	if err := w.program(w.tables(), AttachAuto).Register(0, s); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		w.send(w.frame6(70, 0, uint64(i)))
	}
	eventually(t, "4 frames to be dropped", func() bool {
		st, err := s.Stats()
		return err == nil && st.RxDropped == 4 && st.RxFillRingEmptyDescs >= 4
	})
	if a := audited(t, u); a.Rx != 16 {
		t.Errorf("%+v", a)
	}
}

// TestRxRingFull: the kernel counts what finds no room in the rx ring, and
// keeps the chunk it had taken for it until the next frame.
func TestRxRingFull(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	u := newUMEM(t, 256)
	s := w.open(u, SocketConfig{Rx: 16, Fill: 64})
	if err := w.program(w.tables(), AttachAuto).Register(0, s); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		w.send(w.frame6(70, 0, uint64(i)))
	}
	eventually(t, "4 frames to be counted", func() bool {
		st, err := s.Stats()
		return err == nil && st.RxRingFull == 4
	})
	a, err := u.Audit()
	if err != nil || a.Rx != 16 || a.Kernel > 1 || a.Free+a.Fill+a.Rx+a.Kernel != 256 {
		t.Errorf("%+v, %v", a, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if a := audited(t, u); a.Free != 256 {
		t.Errorf("after close: %+v", a)
	}
}

// TestCloseTwice and use after close.
func TestCloseTwice(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	s := w.open(newUMEM(t, 2048), SocketConfig{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Stats()
	for what, err := range map[string]error{"close": s.Close(), "state": s.State(), "stats": err} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
}

// TestNoAllocations: the hot path leaves nothing for the garbage collector.
func TestNoAllocations(t *testing.T) {
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{})
	u := newUMEM(t, 4096)
	s := w.open(u, SocketConfig{})
	if err := w.program(w.tables(), AttachAuto).Register(0, s); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		w.send(w.frame6(70, 0, uint64(i)))
	}
	eventually(t, "500 frames in the rx ring", func() bool { a, err := u.Audit(); return err == nil && a.Rx == 500 })
	var d [4]Desc
	moved := 0
	allocs := testing.AllocsPerRun(100, func() {
		s.Service()
		n := s.Recv(d[:])
		for _, f := range d[:n] {
			swapMACs(u.Frame(f))
		}
		moved += s.Send(d[:n])
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if addr, ok := u.Alloc(); ok {
			u.Free(addr)
		}
	})
	if allocs != 0 || moved < 400 {
		t.Errorf("%v allocations a round, %d frames moved", allocs, moved)
	}
}

func TestCheckMTU(t *testing.T) {
	for _, c := range []struct {
		mtu, chunk int
		want       string
	}{
		{1500, Chunk2K, ""},
		{1766, Chunk2K, ""},
		{1767, Chunk2K, "up to 1766 bytes"},
		{3814, Chunk4K, ""},
		{3815, Chunk4K, "up to 3814 bytes"},
		{9000, Chunk2K, "the MTU is 9000"},
	} {
		err := CheckMTU(c.mtu, c.chunk)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("mtu %d, chunk %d: %v, want %q", c.mtu, c.chunk, err, c.want)
		}
	}
}
