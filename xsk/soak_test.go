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

// soaker sends numbered frames by AF_XDP through a tx ring that it keeps full, and
// wants each of them back: once, in order, with all its bytes.
type soaker struct {
	w          *wire // whose frames they are
	u          *UMEM
	s          *Socket
	queue      uint16
	sent, came uint64
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

// run sends until the time is over, and waits for what is under way.
func (k *soaker) run(end time.Time) error {
	var d [soakRing]Desc
	for heard := time.Now(); ; {
		k.s.Service()
		now := time.Now()
		out := d[:0]
		for now.Before(end) && k.sent-k.came < soakRing {
			addr, ok := k.u.Alloc()
			if !ok {
				return fmt.Errorf("queue %d: no chunk is free with %d frames under way", k.queue, k.sent-k.came)
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
		switch {
		case n > 0:
			heard = now
			continue
		case k.came == k.sent && !now.Before(end):
			k.s.Service()
			return nil
		case now.Sub(heard) > 10*time.Second:
			return fmt.Errorf("queue %d: %d of %d frames came back, then none for 10 s", k.queue, k.came, k.sent)
		}
		wait(k.s)
	}
}

func (k *soaker) check(got []byte) error {
	want := k.frame(k.came)
	swapMACs(want)
	if !bytes.Equal(got, want) {
		return fmt.Errorf("queue %d: frame %d came back as number %d of %d bytes instead of %d:\n%x\n%x", k.queue, k.came, seqOf(got), len(got), len(want), got, want)
	}
	k.came++
	return nil
}

// TestSoak sends numbered frames there and back over several queues at once, AF_XDP
// at both ends, as fast as they come. None may be lost, doubled, changed or out of
// order, and every chunk is accounted for afterwards.
func TestSoak(t *testing.T) {
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
		*k = soaker{w: w, u: newUMEM(t, 512), queue: uint16(q)}
		k.s = peer.open(k.u, c)
		u := newUMEM(t, 512)
		opened[q] = w.open(u, c)
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
	for _, u := range memory {
		audited(t, u)
	}
	for q, k := range soakers {
		for _, s := range []*Socket{k.s, opened[q]} {
			st, err := s.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if st.Received != k.sent || st.Sent != k.sent || st.Completed != k.sent {
				t.Errorf("queue %d: %d frames, statistics %+v", q, k.sent, st)
			}
		}
		if k.sent <= 4*soakRing {
			t.Errorf("queue %d: %d frames are too few to use each slot more than once", q, k.sent)
		}
		t.Logf("queue %d: %d frames there and back", q, k.sent)
	}
}
