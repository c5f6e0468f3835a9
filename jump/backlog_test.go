package jump

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// line stands for a channel of the SSH library: packets, joined by reads.
type line struct {
	packets []packetOf
	// kept is what the packets that are still there took on the wire, without
	// what has been taken of the first.
	kept int64
}

// packetOf is a packet with its payload and what it took on the wire.
type packetOf struct{ payload, wire int }

var errWait = errors.New("the library would wait here")

func (l *line) Read(b []byte) (n int, err error) {
	for n < len(b) && len(l.packets) > 0 {
		p := &l.packets[0]
		take := min(len(b)-n, p.payload)
		n += take
		l.kept -= int64(take)
		p.wire -= take
		if p.payload -= take; p.payload == 0 {
			l.kept -= int64(p.wire)
			l.packets = l.packets[1:]
		}
	}
	if n == 0 {
		err = errWait
	}
	return n, err
}

// bench is a connection with its channels.
type bench struct {
	backlog
	wire  uint64
	lines []*line
	ins   []*intake
	b     [bufferSize]byte
}

func newBench(channels int) *bench {
	w := &bench{backlog: backlog{all: &atomic.Int64{}}}
	for range channels {
		w.lines, w.ins = append(w.lines, &line{}), append(w.ins, w.add(nil))
	}
	return w
}

func (w *bench) send(channel, payload, wire int) {
	w.lines[channel].packets = append(w.lines[channel].packets, packetOf{payload, wire})
	w.lines[channel].kept += int64(wire)
	w.wire += uint64(wire)
}

func (w *bench) take(channel, size int) { _, _ = w.ins[channel].read(w.lines[channel], w.b[:size]) }

func (w *bench) kept() (n int64) {
	for _, l := range w.lines {
		n += l.kept
	}
	return n
}

// Whatever clients and VMs do, the estimate is not below what is kept.
func TestBacklogIsNeverTooLow(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 0))
		w := newBench(1 + random.IntN(5))
		next := uint64(0)
		var window [5]int
		for range 100_000 {
			i := random.IntN(len(w.lines))
			// Each channel has a pace of its own, and some have stopped.
			switch pace := (seed + uint64(i)) % 4; {
			case random.IntN(2) == 0:
				size := 1 + random.IntN(1<<random.IntN(15))
				if window[i]+size <= windowSize {
					window[i] += size
					w.send(i, size, size+35+random.IntN(16))
				}
			case pace == 0:
			case pace == 1 && random.IntN(20) != 0:
			default:
				taken := w.ins[i].taken.Load()
				w.take(i, []int{1, keystrokes, bufferSize}[random.IntN(3)])
				window[i] -= int(w.ins[i].taken.Load() - taken)
			}
			if w.wire-next >= 1<<10 {
				next = w.wire
				if e, kept := w.estimate(w.wire), w.kept(); e < kept {
					t.Fatalf("seed %d: estimated %d, kept %d", seed, e, kept)
				}
			}
		}
	}
}

// One VM is stuck with a full window, while another channel of the connection is
// busy: the estimate stays below the bound.
func TestBacklogOfOneStuckChannel(t *testing.T) {
	for _, c := range []struct {
		name                 string
		packets, size, joins int
	}{
		{"10 GB in large packets", 300_000, 32768, 1},
		{"ten hours of keystrokes at five a second", 10 * 3600 * 5, 64, 1},
		{"a hundred thousand small writes, joined", 100_000, 40, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newBench(2)
			for range windowSize / 32768 {
				w.send(0, 32768, 32768+36)
			}
			w.take(0, bufferSize)
			next, most := uint64(0), int64(0)
			for i := range c.packets {
				w.send(1, c.size, c.size+52)
				if i%c.joins == 0 {
					w.take(1, bufferSize)
				}
				if w.wire-next >= estimateEvery {
					next = w.wire
					most = max(most, w.estimate(w.wire))
				}
			}
			t.Logf("at most %d bytes", most)
			if most > backlogMax {
				t.Errorf("estimated %d", most)
			}
		})
	}
}

// An upload that its VM takes more slowly than the client sends is always behind,
// and never by more than two windows or so.
func TestBacklogOfASlowUpload(t *testing.T) {
	w := newBench(1)
	ahead, next, most := 0, uint64(0), int64(0)
	for range 100_000 {
		for ahead+1000 <= windowSize {
			w.send(0, 1000, 1052)
			ahead += 1000
		}
		w.take(0, bufferSize)
		ahead -= bufferSize
		if w.wire-next >= estimateEvery {
			next = w.wire
			most = max(most, w.estimate(w.wire))
		}
	}
	t.Logf("at most %d bytes", most)
	if most > 10<<20 {
		t.Errorf("estimated %d", most)
	}
}

// What is kept for all connections together comes back to nothing.
func TestBacklogOfAll(t *testing.T) {
	w := newBench(2)
	w.send(0, 1000, 100_000)
	w.send(1, 1000, 100_000)
	w.take(1, bufferSize)
	if w.estimate(w.wire); w.all.Load() < 100_000 {
		t.Errorf("all: %d", w.all.Load())
	}
	w.remove(w.ins[0])
	for range 3 {
		w.take(1, bufferSize)
		w.estimate(w.wire)
	}
	if w.all.Load() != 0 {
		t.Errorf("all: %d after all has been taken", w.all.Load())
	}
	w.send(1, 1000, 100_000)
	w.estimate(w.wire)
	w.free()
	if w.all.Load() != 0 {
		t.Errorf("all: %d after the connection", w.all.Load())
	}
}
