package xsk

import (
	"fmt"
	"math"
	"testing"
)

// memRing is a ring in ordinary memory whose other side the test plays; both
// indexes begin at start.
func memRing(size, start uint32) ring {
	prod, cons, flags := new(uint32), new(uint32), new(uint32)
	*prod, *cons = start, start
	return ring{prod: prod, cons: cons, flags: flags, size: size, mask: size - 1, own: start, seen: start}
}

// starts lie before, across and after the wrap of a 32-bit index.
var starts = []uint32{0, 1, math.MaxUint32 - 2, math.MaxUint32, 1 << 31}

func TestRingSpace(t *testing.T) {
	for _, start := range starts {
		t.Run(fmt.Sprintf("from_%#x", start), func(t *testing.T) {
			r := memRing(4, start)
			if n := r.space(1); n != 4 {
				t.Fatalf("empty: space %d, want 4", n)
			}
			r.own += 4
			if *r.prod != start {
				t.Fatal("the kernel saw entries before submit")
			}
			r.submit()
			if *r.prod != start+4 {
				t.Fatalf("after submit the producer index is %#x, want %#x", *r.prod, start+4)
			}
			if n := r.space(1); n != 0 {
				t.Fatalf("full: space %d, want 0", n)
			}
			if n := r.pending(); n != 4 {
				t.Fatalf("full: pending %d, want 4", n)
			}
			*r.cons += 3 // the kernel takes three
			if n := r.space(1); n != 3 {
				t.Fatalf("after the kernel took 3: space %d, want 3", n)
			}
			if n := r.pending(); n != 1 {
				t.Fatalf("after the kernel took 3: pending %d, want 1", n)
			}
		})
	}
}

func TestRingReady(t *testing.T) {
	for _, start := range starts {
		t.Run(fmt.Sprintf("from_%#x", start), func(t *testing.T) {
			r := memRing(4, start)
			if n := r.ready(1); n != 0 {
				t.Fatalf("empty: ready %d, want 0", n)
			}
			*r.prod += 4 // the kernel fills it
			if n := r.ready(1); n != 4 {
				t.Fatalf("full: ready %d, want 4", n)
			}
			r.own += 3
			if *r.cons != start {
				t.Fatal("the kernel saw slots as free before release")
			}
			r.release()
			if *r.cons != start+3 {
				t.Fatalf("after release the consumer index is %#x, want %#x", *r.cons, start+3)
			}
			if n := r.ready(1); n != 1 {
				t.Fatalf("after reading 3: ready %d, want 1", n)
			}
		})
	}
}

// TestRingCachedIndex: the other side's index is read only when needed.
func TestRingCachedIndex(t *testing.T) {
	p := memRing(8, 0)
	p.own = 2
	*p.cons = 2
	if n := p.space(6); n != 6 {
		t.Errorf("space(6) = %d: 6 were known to be free", n)
	}
	if n := p.space(7); n != 8 {
		t.Errorf("space(7) = %d, want 8 after looking again", n)
	}
	c := memRing(8, 0)
	*c.prod = 3
	c.ready(1)
	*c.prod = 5
	if n := c.ready(3); n != 3 {
		t.Errorf("ready(3) = %d: 3 were known to be there", n)
	}
	if n := c.ready(4); n != 5 {
		t.Errorf("ready(4) = %d, want 5 after looking again", n)
	}
}

func TestRingNeedWakeup(t *testing.T) {
	r := memRing(4, 0)
	if r.needWakeup() {
		t.Error("flag clear, yet a wake-up is needed")
	}
	*r.flags = 1
	if !r.needWakeup() {
		t.Error("flag set, yet no wake-up is needed")
	}
}

// memSocket is a socket whose four rings are in ordinary memory, 8 entries each.
func memSocket(t testing.TB, u *UMEM, start uint32) *Socket {
	t.Helper()
	return memSocketSize(t, u, start, 8)
}

func memSocketSize(t testing.TB, u *UMEM, start, size uint32) *Socket {
	t.Helper()
	s := &Socket{u: u, fd: -1, ctl: -1, name: "memory"}
	if err := u.join(s); err != nil {
		t.Fatal(err)
	}
	s.fill = addrRing{memRing(size, start), make([]uint64, size)}
	s.comp = addrRing{memRing(size, start), make([]uint64, size)}
	s.rx = descRing{memRing(size, start), make([]Desc, size)}
	s.tx = descRing{memRing(size, start), make([]Desc, size)}
	t.Cleanup(func() { u.leave(s, true) })
	return s
}

// kernelReceives plays the kernel: takes an address from the fill ring, puts a
// frame into the rx ring.
func kernelReceives(t *testing.T, s *Socket, size uint32) {
	t.Helper()
	if *s.fill.cons == *s.fill.prod {
		t.Fatal("the fill ring is empty")
	}
	addr := s.fill.slots[*s.fill.cons&7]
	*s.fill.cons++
	s.rx.slots[*s.rx.prod&7] = Desc{Addr: addr + RxHeadroom, Len: size}
	*s.rx.prod++
}

// kernelSends takes a frame from the tx ring and completes it.
func kernelSends(t *testing.T, s *Socket) Desc {
	t.Helper()
	if *s.tx.cons == *s.tx.prod {
		t.Fatal("the tx ring is empty")
	}
	d := s.tx.slots[*s.tx.cons&7]
	*s.tx.cons++
	s.comp.slots[*s.comp.prod&7] = d.Addr
	*s.comp.prod++
	return d
}

// TestSocketCycle walks frames through all four rings many times over, across
// the wrap of every index, moving their start as a translator does.
func TestSocketCycle(t *testing.T) {
	for _, start := range starts {
		t.Run(fmt.Sprintf("from_%#x", start), func(t *testing.T) {
			u := newUMEM(t, 32)
			s := memSocket(t, u, start)
			d := make([]Desc, 8)
			for round := range 50 {
				s.Service()
				n := 1 + round%8
				for range n {
					kernelReceives(t, s, 60)
				}
				if got := s.Recv(d); got != n {
					t.Fatalf("round %d: received %d, want %d", round, got, n)
				}
				for i := range d[:n] {
					d[i].Addr -= 20
					d[i].Len += 20
				}
				if got := s.Send(d[:n]); got != n {
					t.Fatalf("round %d: sent %d, want %d", round, got, n)
				}
				for i := range n {
					if got := kernelSends(t, s); got != d[i] {
						t.Fatalf("round %d: the kernel got %+v, want %+v", round, got, d[i])
					}
				}
				a, err := u.Audit()
				if err != nil {
					t.Fatal(err)
				}
				if a.Completion != n || a.Held != 0 || a.Kernel != 0 {
					t.Fatalf("round %d: %+v", round, a)
				}
			}
			s.Service()
			audited(t, u)
		})
	}
}

func TestSendLimits(t *testing.T) {
	u := newUMEM(t, 32)
	s := memSocket(t, u, 0)
	var d []Desc
	for range 10 {
		addr, ok := u.Alloc()
		if !ok {
			t.Fatal("no chunk")
		}
		d = append(d, Desc{Addr: addr, Len: 60})
	}
	if n := s.Send(d); n != 8 {
		t.Fatalf("a ring of 8 took %d of 10", n)
	}
	if n := s.Send(d[8:]); n != 0 {
		t.Fatalf("a full ring took %d", n)
	}
	for _, f := range d[8:] {
		u.Free(f.Addr)
	}
	if a, err := u.Audit(); err != nil || a.Tx != 8 || a.Held != 0 || a.Free != 24 {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestSendRejects: what the kernel would refuse without giving it back never
// reaches it.
func TestSendRejects(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(held, other uint64) Desc
	}{
		{"empty", func(a, _ uint64) Desc { return Desc{Addr: a} }},
		{"less_than_an_ethernet_header", func(a, _ uint64) Desc { return Desc{Addr: a, Len: 13} }},
		{"beyond_its_chunk", func(a, _ uint64) Desc { return Desc{Addr: a + 1, Len: Chunk2K} }},
		{"length_overflow", func(a, _ uint64) Desc { return Desc{Addr: a + 1, Len: math.MaxUint32} }},
		{"outside", func(a, _ uint64) Desc { return Desc{Addr: 4 * Chunk2K, Len: 60} }},
		{"far_outside", func(a, _ uint64) Desc { return Desc{Addr: math.MaxUint64, Len: 60} }},
		{"not_held", func(_, b uint64) Desc { return Desc{Addr: b, Len: 60} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUMEM(t, 4)
			s := memSocket(t, u, 0)
			held, _ := u.Alloc()
			good, _ := u.Alloc()
			other := u.free[0] // on the free list
			if n := s.Send([]Desc{c.make(held, other), {Addr: good, Len: 60}}); n != 2 {
				t.Fatalf("took %d, want 2", n)
			}
			if d := kernelSends(t, s); d.Addr != good {
				t.Errorf("the kernel got %#x, want %#x", d.Addr, good)
			}
			if *s.tx.cons != *s.tx.prod {
				t.Error("the kernel got more than the good frame")
			}
			s.Service()
			s.u.Free(held) // by the caller, if Send hasn't
			if n := s.counters.txRejected.Load(); n != 1 {
				t.Errorf("rejected %d, want 1", n)
			}
			if a, err := u.Audit(); err != nil || a.Free+a.Fill != 4 {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
}

// TestSendClearsOptions: what a caller leaves in Options (or a driver, in a
// received descriptor) must not turn into XDP_PKT_CONTD.
func TestSendClearsOptions(t *testing.T) {
	u := newUMEM(t, 4)
	s := memSocket(t, u, 0)
	addr, _ := u.Alloc()
	s.Send([]Desc{{Addr: addr, Len: 60, Options: 1}})
	if d := kernelSends(t, s); d.Options != 0 {
		t.Errorf("options %#x reached the kernel", d.Options)
	}
}

// BenchmarkFrame is what one frame costs in this package (Service, Recv and
// Send in batches of 64), without the kernel: the test plays its part, which
// the benchmark "kernel" times alone.
func BenchmarkFrame(b *testing.B) {
	const batch = 64
	run := func(b *testing.B, ours func(s *Socket, d []Desc)) {
		s := memSocketSize(b, newUMEM(b, 2048), 0, 1024)
		s.Service()
		var d [batch]Desc
		n := 0
		for ; b.Loop(); n += batch {
			for range batch {
				s.rx.slots[*s.rx.prod&1023] = Desc{Addr: s.fill.slots[*s.fill.cons&1023] + RxHeadroom, Len: 60}
				*s.fill.cons++
				*s.rx.prod++
			}
			ours(s, d[:])
			for range batch {
				s.comp.slots[*s.comp.prod&1023] = s.tx.slots[*s.tx.cons&1023].Addr
				*s.tx.cons++
				*s.comp.prod++
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/frame")
	}
	b.Run("whole", func(b *testing.B) {
		run(b, func(s *Socket, d []Desc) {
			s.Service()
			if n := s.Recv(d); n != len(d) || s.Send(d) != n {
				b.Fatalf("received %d", n)
			}
		})
	})
	b.Run("kernel", func(b *testing.B) { run(b, func(*Socket, []Desc) {}) })
}
