//go:build nic

package nic

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/xsk"
)

// flows is how many there are; ports tell them apart, and so choose the queue.
const flows = 64

// stream is numbered frames from one card to another.
type stream struct {
	from, to *card
	id       uint16 // late frames of an earlier stream are none of this one's
	next     int    // to send
	seen     []int  // how often each came
	arrived  int
	lost     int // given up
	queues   map[int]int
	last     time.Time // when something arrived
	rand     *rand.Rand
	faults   []string
}

// window is how many frames are on their way at most: less than any ring or queue
// on the way holds.
const window = 128

var streams uint16

func newStream(from, to *card) *stream {
	streams++
	return &stream{id: streams, from: from, to: to, queues: map[int]int{}, last: time.Now(), rand: rand.New(rand.NewPCG(1, uint64(from.index)))}
}

// frame is number seq: a UDP datagram to an address that is translated. All its
// bytes follow from the number.
func (s *stream) frame(b []byte, seq int) []byte {
	n := 70 + seq*37%1400
	b = b[:n]
	copy(b, s.to.mac)
	copy(b[6:], s.from.mac)
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IPV6)
	ip := b[14:]
	binary.BigEndian.PutUint32(ip, 6<<28)
	binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
	ip[6], ip[7] = unix.IPPROTO_UDP, 64
	source, to := netip.MustParseAddr("2001:db8::2").As16(), netip.MustParseAddr("64:ff9b::198.51.100.2").As16()
	copy(ip[8:], source[:])
	ip[8+15] = byte(seq % flows) // cards may leave ports out of their hash
	copy(ip[24:], to[:])
	udp := ip[40:]
	binary.BigEndian.PutUint16(udp, uint16(1024+seq%flows))
	binary.BigEndian.PutUint16(udp[2:], s.id)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint16(udp[6:], 0)
	for i := range udp[8:] {
		udp[8+i] = byte(seq*131 + i*7)
	}
	binary.BigEndian.PutUint64(udp[8:], uint64(seq))
	return b
}

// send puts up to a few frames into random queues.
func (s *stream) send(limit int) {
	for range 16 {
		if s.next >= limit || s.next-s.arrived-s.lost >= window {
			return
		}
		addr, ok := s.from.umem.Alloc()
		if !ok {
			return
		}
		b := s.frame(s.from.umem.Chunk(addr), s.next)
		out := s.from.sockets[s.rand.IntN(len(s.from.sockets))]
		if out.Send([]xsk.Desc{{Addr: addr, Len: uint32(len(b))}}) != 1 {
			s.from.umem.Free(addr)
			return
		}
		s.next++
		s.seen = append(s.seen, 0)
	}
}

// receive takes what came, and looks at each byte.
func (s *stream) receive() {
	var d [64]xsk.Desc
	want := make([]byte, 2048)
	for _, in := range s.to.sockets {
		n := in.Recv(d[:])
		for _, d := range d[:n] {
			f := s.to.umem.Frame(d)
			seq := -1
			if len(f) >= 70 {
				seq = int(binary.BigEndian.Uint64(f[62:]))
			}
			switch {
			case len(f) >= 70 && binary.BigEndian.Uint16(f[56:]) < s.id:
			case seq < 0 || seq >= s.next:
				s.fault("a frame of %d bytes that nobody sent: % x", len(f), f[:min(len(f), 70)])
			case !bytes.Equal(f, s.frame(want, seq)):
				s.fault("frame %d is not as it was sent", seq)
			default:
				if s.seen[seq]++; s.seen[seq] > 1 {
					s.fault("frame %d came %d times", seq, s.seen[seq])
				} else {
					s.arrived++
					s.queues[in.Queue()]++
				}
				s.last = time.Now()
			}
			s.to.umem.Free(d.Addr)
		}
	}
}

func (s *stream) fault(format string, args ...any) {
	if len(s.faults) < 10 {
		s.faults = append(s.faults, s.from.name+" to "+s.to.name+": "+fmt.Sprintf(format, args...))
	}
}

// pump sends n more frames on each stream and waits for them. Those that did not
// come within patience are lost, which ends the test; where losses are expected,
// because of what is done to the cards meanwhile, lossy is a short time after which
// sending goes on.
func pump(t *testing.T, n int, streams ...*stream) {
	t.Helper()
	pumpLossy(t, n, 0, streams...)
}

func pumpLossy(t *testing.T, n int, lossy time.Duration, streams ...*stream) {
	t.Helper()
	wait := lossy
	if lossy == 0 {
		wait = patience
	}
	limits := make([]int, len(streams))
	for i, s := range streams {
		limits[i], s.last = s.next+n, time.Now()
	}
	for busy := true; busy; {
		busy = false
		for i, s := range streams {
			_ = s.from.service()
			_ = s.to.service()
			s.send(limits[i])
			s.receive()
			if time.Since(s.last) > wait && lossy == 0 && uint64(s.next-s.arrived) > s.from.full()+s.to.full() {
				s.stuck(t)
			}
			if time.Since(s.last) > wait {
				s.lost, s.last = s.next-s.arrived, time.Now()
			}
			busy = busy || s.arrived+s.lost < limits[i]
		}
		if busy {
			sleep(streams)
		}
	}
	for _, s := range streams {
		for _, f := range s.faults {
			t.Error(f)
		}
		s.faults = nil
	}
}

// stuck ends the test with all that is known of the cards.
func (s *stream) stuck(t *testing.T) {
	t.Helper()
	for _, c := range []*card{s.from, s.to} {
		a, err := c.umem.Audit()
		t.Logf("%s: %+v, %v", c.name, a, err)
		for _, in := range c.sockets {
			st, err := in.Stats()
			t.Logf("%s, queue %d: %d pending, state %v: %+v, %v", c.name, in.Queue(), in.Pending(), in.State(), st, err)
		}
		counters, err := c.program.Counters()
		t.Logf("%s: %+v, %v", c.name, counters, err)
	}
	t.Fatalf("%s to %s: nothing more came after %d of %d frames, by queue %v", s.from.name, s.to.name, s.arrived, s.next, s.queues)
}

// sleep waits until a socket has something, or a millisecond.
func sleep(streams []*stream) {
	var fds []unix.PollFd
	for _, s := range streams {
		for _, in := range s.to.sockets {
			fds = append(fds, unix.PollFd{Fd: int32(in.FD()), Events: unix.POLLIN})
		}
	}
	_, _ = unix.Poll(fds, 1)
}

// complete fails if a frame is missing that no ring has reported.
func (s *stream) complete(t *testing.T) {
	t.Helper()
	missing := s.next - s.arrived
	if told := s.from.full() + s.to.full(); uint64(missing) > told {
		t.Errorf("%s to %s: %d of %d frames are missing, rings report %d", s.from.name, s.to.name, missing, s.next, told)
	}
	t.Logf("%s to %s: %d frames, %d missing, by queue %v", s.from.name, s.to.name, s.next, missing, s.queues)
}

// everyQueue fails if a queue brought nothing.
func (s *stream) everyQueue(t *testing.T) {
	t.Helper()
	for _, in := range s.to.sockets {
		if s.queues[in.Queue()] == 0 {
			t.Errorf("%s to %s: nothing came on queue %d: %v", s.from.name, s.to.name, in.Queue(), s.queues)
		}
	}
}
