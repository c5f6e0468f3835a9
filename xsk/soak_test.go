package xsk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
)

var soakTime = flag.Duration("soak", time.Second, "how long TestSoak sends frames; at 300,000 a second an index wraps after four hours")

// soakRing is the size of the rx and tx rings of the soak: so small that they run
// full and their slots are used anew all the time.
const soakRing = 64

// soaker sends numbered frames by AF_XDP and wants them back: once, in order, with
// all their bytes. With more of them under way than an rx ring holds, some are lost,
// and have to be counted.
type soaker struct {
	w          *wire // whose frames they are
	u          *UMEM
	s, far     *Socket
	queue      uint16
	window     uint64 // frames under way
	sent, came uint64
	lost       uint64 // as far as is known
	next       uint64 // the least number that may come
}

// frame is the frame of a number, which decides on its size and all of its bytes.
func (k *soaker) frame(seq uint64) []byte {
	x := seq*0x9e3779b97f4a7c15 + uint64(k.queue)
	f := k.w.frame6(70+int(x>>32)%1400, k.queue, seq)
	for b := f[62 : len(f)-8]; len(b) >= 8; b = b[8:] {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(b, x)
	}
	return f
}

// enough is how many frames use each slot more than once.
const enough = 4 * soakRing

// run sends until the time is over, however slow the machine, and waits for what is
// under way.
func (k *soaker) run(end time.Time) error {
	var d [soakRing]Desc
	for heard := time.Now(); ; {
		k.s.Service()
		now := time.Now()
		more := now.Before(end) || k.came <= enough
		out := d[:0]
		for more && k.sent-k.came-k.lost < k.window && len(out) < len(d) {
			addr, ok := k.u.Alloc()
			if !ok {
				return fmt.Errorf("queue %d: no chunk is free with %d frames under way", k.queue, k.sent-k.came-k.lost)
			}
			out = append(out, Desc{Addr: addr, Len: uint32(copy(k.u.Chunk(addr), k.frame(k.sent)))})
			k.sent++
		}
		for len(out) > 0 {
			out = out[k.s.Send(out):]
			if err := k.s.Flush(); err != nil {
				return err
			}
			k.s.Service()
		}
		if err := k.s.Flush(); err != nil {
			return err
		}
		n := k.s.Recv(d[:])
		for _, f := range d[:n] {
			if err := k.check(k.u.Frame(f)); err != nil {
				return err
			}
			k.u.Free(f.Addr)
		}
		if err := k.count(); err != nil {
			return err
		}
		switch {
		case n > 0:
			heard = now
			continue
		case k.came+k.lost == k.sent && !more:
			return nil
		case now.Sub(heard) > 30*time.Second:
			return fmt.Errorf("queue %d: %d of %d frames came back and %d were counted as lost, then none for 30 s", k.queue, k.came, k.sent, k.lost)
		}
		wait(k.s)
	}
}

// count asks both sockets what they had no room for.
func (k *soaker) count() error {
	k.lost = 0
	for _, s := range []*Socket{k.s, k.far} {
		st, err := s.Stats()
		if err != nil {
			return err
		}
		k.lost += st.RxDropped + st.RxRingFull
	}
	return nil
}

// settle takes sent frames back until there are no more: the kernel may still be
// about to return one that has long been received.
func settle(t *testing.T, s *Socket) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.Service()
		st, err := s.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if st.Completed == st.Sent {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d frames were completed: %+v", st.Completed, st.Sent, st)
		}
	}
}

func (k *soaker) check(got []byte) error {
	seq := seqOf(got)
	if seq < k.next || seq >= k.sent || seq != k.next && k.window <= soakRing {
		return fmt.Errorf("queue %d: frame %d came back instead of %d (%d are sent)", k.queue, seq, k.next, k.sent)
	}
	want := k.frame(seq)
	swapMACs(want)
	if !bytes.Equal(got, want) {
		return fmt.Errorf("queue %d: frame %d came back as\n%x, should be\n%x", k.queue, seq, got, want)
	}
	k.next = seq + 1
	k.came++
	return nil
}

// TestSoak sends numbered frames there and back over several queues at once, AF_XDP
// at both ends, as fast as they come. None may be doubled, changed, out of order or
// lost without being counted, and every chunk is accounted for afterwards.
func TestSoak(t *testing.T) {
	t.Run("as_many_as_a_ring_holds", func(t *testing.T) { runSoak(t, soakRing) })
	t.Run("three_times_as_many", func(t *testing.T) { runSoak(t, 3*soakRing) })
}

func runSoak(t *testing.T, window uint64) {
	const queues = 2
	l, host := newLab(t)
	w := newWire(t, l, host, "eth0", lab.LinkConfig{Queues: queues})
	peer := *w
	peer.host, peer.ifname = w.peer, "eth0"
	var err error
	if peer.ifindex, err = w.peer.Ifindex("eth0"); err != nil {
		t.Fatal(err)
	}
	c := SocketConfig{Rx: soakRing, Tx: soakRing, Fill: 4 * soakRing, Completion: soakRing}
	tables := w.tables()
	here, there := w.program(tables, AttachAuto), peer.program(tables, AttachAuto)
	stop := make(chan struct{})
	var (
		soakers        [queues]soaker
		echoes, sends  sync.WaitGroup
		echoed, soaked [queues]error
		memory         []*UMEM
		opened         [queues]*Socket
	)
	for q := range queues {
		c.Queue = q
		k := &soakers[q]
		*k = soaker{w: w, u: newUMEM(t, 512), queue: uint16(q), window: window}
		k.s = peer.open(k.u, c)
		u := newUMEM(t, 512)
		opened[q] = w.open(u, c)
		k.far = opened[q]
		memory = append(memory, k.u, u)
		if err := errors.Join(here.Register(q, opened[q]), there.Register(q, k.s)); err != nil {
			t.Fatal(err)
		}
		echoes.Go(func() { echoed[q] = forward(u, opened[q], opened[q], stop) })
	}
	end := time.Now().Add(*soakTime)
	for q := range queues {
		sends.Go(func() { soaked[q] = soakers[q].run(end) })
	}
	sends.Wait()
	close(stop)
	echoes.Wait()
	if err := errors.Join(append(soaked[:], echoed[:]...)...); err != nil {
		t.Fatal(err)
	}
	for _, k := range soakers {
		settle(t, k.s)
		settle(t, k.far)
	}
	for _, u := range memory {
		audited(t, u)
	}
	for q, k := range soakers {
		near, err := k.s.Stats()
		far, err2 := k.far.Stats()
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if near.Sent != k.sent || near.Completed != k.sent || far.Sent != far.Received || far.Completed != far.Sent || near.Received != k.came {
			t.Errorf("queue %d: %d frames sent, %d came; statistics\n%+v\n%+v", q, k.sent, k.came, near, far)
		}
		t.Logf("queue %d: %d frames sent, %d came back, %d had no room", q, k.sent, k.came, k.lost)
	}
}
