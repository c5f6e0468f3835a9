package router

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router/nexthop"
	"aarch64.com/isthmus/xsk/tun"
)

// idleRounds is how often a worker looks at its empty rings before it sleeps
// until a packet comes.
const idleRounds = 64

// unknownMTU is that of the link that a packet from the kernel came by.
const unknownMTU = 0

// worker moves packets between queue id of every port.
type worker struct {
	id      int
	cpu     int         // pinned to, or -1
	wire    []*wirePort // by index of Config.Ports; nil: not open
	kernel  *kernelPort
	shared  *shared
	plan    translate.Plan
	state   *translate.State
	limit   bucket
	batch   [batchSize]frame
	polled  []unix.PollFd // the wake-up descriptor, then the ports'
	wakeup  int           // eventfd
	asked   atomic.Bool
	answers chan WorkerStats

	verdicts [2][translate.NumVerdicts]uint64
	reasons  [NumReasons]uint64
}

// shared is what all workers read: each field is replaced whole.
type shared struct {
	translator atomic.Pointer[translate.Translator]
	hops       func() *nexthop.Table
	// learn is asked for mappings that packets lack, see Router.learn; nil:
	// there are none to be had.
	learn      func(*translate.Translator, translate.Verdict, []byte) (*translate.Translator, translate.Verdict)
	ownAddress bool // packets to the host's own IPv4 addresses are let through
}

// run is the worker's life. It returns when ctx has ended or a port has gone
// for good, which the error then says.
func (w *worker) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if w.cpu >= 0 {
		var set unix.CPUSet
		set.Set(w.cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin worker %d to CPU %d: %w", w.id, w.cpu, err)
		}
	}
	idle := 0
	for ctx.Err() == nil {
		if w.step() > 0 {
			idle = 0
		} else if idle++; idle >= idleRounds {
			w.sleep()
			idle = 0
		}
		if w.asked.Load() {
			w.asked.Store(false)
			w.answers <- w.snapshot()
		}
		if err := w.broken(); err != nil {
			return err
		}
	}
	return nil
}

// step is one round: take a batch from each port, forward it, send. It returns
// how much it found to do: packets taken, and ports that must be asked again.
func (w *worker) step() int {
	tr, hops := w.shared.translator.Load(), w.shared.hops()
	n := 0
	for _, p := range w.wire {
		if p == nil {
			continue
		}
		got := p.recv(w.batch[:], &w.reasons)
		w.forward(tr, hops, got, p.mtu, false)
		n += len(got)
	}
	got := w.kernel.recv(w.batch[:kernelBatch], &w.reasons)
	w.forward(tr, hops, got, unknownMTU, true)
	n += len(got)
	for _, p := range w.wire {
		if p != nil && p.flush(&w.reasons) {
			n++
		}
	}
	return n
}

// forward decides about each packet of a batch that came in by a link of the
// given MTU and sends it on its way. Every frame is released or handed over.
func (w *worker) forward(tr *translate.Translator, hops *nexthop.Table, batch []frame, mtu int, fromKernel bool) {
	plan := &w.plan
	if tr.Large() {
		w.fetch(tr, batch)
	}
	for i := range batch {
		f := &batch[i]
		v := tr.Decide(plan, f.packet(), f.meta)
		if w.shared.learn != nil && (v == translate.NoMapping6 || v == translate.NotOurs4) {
			tr, v = w.learn(tr, f, v)
		}
		var hop *nexthop.Hop
		if v.Action() == translate.Emit {
			var hopMTU int
			hop, hopMTU = hops.Lookup(plan.To, plan.DstHi, plan.DstLo)
			if hop.Kind == nexthop.Local && plan.To == translate.V4 && !w.shared.ownAddress {
				v = translate.LocalDestination4
				plan.Verdict = v
			} else {
				in := mtu
				if fromKernel && plan.AsksMTUIn() {
					in = w.linkOf(hops, f)
				}
				v = tr.Fit(plan, in, hopMTU)
			}
		}
		if v == translate.Superpacket && f.segmented() {
			w.forwardSegments(tr, hops, f, mtu, fromKernel)
			continue
		}
		w.verdicts[direction(plan.From)][v]++
		switch v.Action() {
		case translate.Emit:
			f.start, f.n = tr.Rewrite(plan, w.state, f.buf, f.start)
			f.translated(plan.OutLen-plan.Len, plan.To)
			w.send(f, hop, hops)
		case translate.Cut:
			f.start, f.n = tr.Rewrite(plan, w.state, f.buf, f.start)
			f.hdr = tun.Header{} // Rewrite has completed the checksum
			w.split(f, hop, hops)
		case translate.Answer:
			w.answer(tr, hops, f)
		case translate.Pass:
			w.pass(f, fromKernel)
		default:
			f.release()
		}
	}
}

// linkOf is the MTU of the link by which the sender of f's packet is reached, which
// the kernel does not tell of the packets that it hands over. A translated Packet
// Too Big must not exceed it (RFC 7915 sections 4.2 and 5.2), and a SYN's answer
// comes by it.
func (w *worker) linkOf(hops *nexthop.Table, f *frame) int {
	hi, lo := sender(w.plan.From, f.packet())
	_, mtu := hops.Lookup(w.plan.From, hi, lo)
	return mtu
}

// learn asks for a mapping that f's packet lacks, and decides again. It returns
// the translator to go on with.
func (w *worker) learn(tr *translate.Translator, f *frame, v translate.Verdict) (*translate.Translator, translate.Verdict) {
	next, refused := w.shared.learn(tr, v, f.packet())
	if next == nil {
		w.plan.Verdict = refused
		return tr, refused
	}
	return next, next.Decide(&w.plan, f.packet(), f.meta)
}

// fetch brings the batch's mappings into the cache, all at once.
func (w *worker) fetch(tr *translate.Translator, batch []frame) {
	var at [batchSize]uint32
	for i := range batch {
		at[i] = tr.Locate(batch[i].packet())
	}
	tr.Fetch(at[:len(batch)])
}

// direction is the index of counters by the family that came in.
func direction(f translate.Family) int {
	if f == translate.V6 {
		return 0
	}
	return 1
}

// send takes the frame over.
func (w *worker) send(f *frame, hop *nexthop.Hop, hops *nexthop.Table) {
	if hop.Kind == nexthop.Port {
		if p := w.wire[hop.Port]; p != nil && w.sendWire(p, f, hop) {
			return
		}
	}
	if hop.Kind == nexthop.Miss {
		w.reasons[NeighbourMiss]++
	}
	w.reasons[ToKernel]++
	if isError4(f.packet()) && hops.Own4([4]byte(f.packet()[12:16])) {
		w.kernel.originate(f, &w.reasons)
		return
	}
	w.kernel.send(f, &w.reasons)
}

// sendWire sends by an AF_XDP port, a superpacket as its segments. It tells
// whether it could; if not, the kernel can.
func (w *worker) sendWire(p *wirePort, f *frame, hop *nexthop.Hop) bool {
	if !f.segmented() {
		if !p.holds(f, f.n) {
			return false
		}
		p.send(f, hop, &w.reasons)
		return true
	}
	s, ok := newSegments(f.packet(), &f.hdr)
	if !ok || s.bytes() > p.pool.umem.ChunkSize()-frameStart {
		return false
	}
	for more := true; more; {
		var part frame
		if !p.pool.get(&part) {
			w.reasons[NoFrame]++
			break
		}
		part.n, more = s.next(part.buf[part.start:])
		w.reasons[SegmentSent]++
		p.send(&part, hop, &w.reasons)
	}
	f.release()
	return true
}

// forwardSegments cuts a superpacket that can't be translated as one, because
// its segments need fragments or checksums of their own, and forwards them.
func (w *worker) forwardSegments(tr *translate.Translator, hops *nexthop.Table, f *frame, mtu int, fromKernel bool) {
	s, ok := newSegments(f.packet(), &f.hdr)
	if !ok {
		w.verdicts[direction(w.plan.From)][translate.Superpacket]++
		f.release()
		return
	}
	var part [1]frame
	for more := true; more; {
		if !f.pool.get(&part[0]) {
			w.reasons[NoFrame]++
			break
		}
		part[0].n, more = s.next(part[0].buf[part[0].start:])
		w.forward(tr, hops, part[:], mtu, fromKernel)
	}
	f.release()
}

// isError4 tells an ICMPv4 error: only such packets have a source that is the
// host's own, for want of a better one (RFC 7915 section 5.2, RFC 6791).
func isError4(p []byte) bool {
	return p[0] == 0x45 && p[9] == unix.IPPROTO_ICMP && len(p) > 21 && (p[20] == 3 || p[20] == 11 || p[20] == 12)
}

// split sends the rewritten packet in f as fragments (RFC 7915 sections 4.1 and
// 5.1.1), each in a frame of its own.
func (w *worker) split(f *frame, hop *nexthop.Hop, hops *nexthop.Table) {
	pool := w.kernel.pool
	if hop.Kind == nexthop.Port && w.wire[hop.Port] != nil && w.wire[hop.Port].holds(f, f.n) {
		pool = w.wire[hop.Port].pool
	}
	for more := true; more; {
		var part frame
		if !pool.get(&part) {
			w.reasons[NoFrame]++
			break
		}
		part.n, more = w.plan.Split(f.packet(), part.buf[part.start:])
		w.reasons[FragmentSent]++
		w.send(&part, hop, hops)
	}
	f.release()
}

// answer turns the untouched packet in f into an ICMP error to its source.
func (w *worker) answer(tr *translate.Translator, hops *nexthop.Table, f *frame) {
	if !w.limit.take(time.Now()) {
		w.reasons[ErrorLimited]++
		f.release()
		return
	}
	hi, lo := sender(w.plan.From, f.packet())
	hop, _ := hops.Lookup(w.plan.From, hi, lo)
	var ok bool
	f.start, f.n, ok = tr.Error(&w.plan, f.buf, f.start, *hop.Source)
	if !ok {
		w.reasons[ErrorForbidden]++
		f.release()
		return
	}
	w.reasons[ErrorSent]++
	w.send(f, hop, hops)
}

// sender is the source address of a packet whose IP header is whole, as it would
// be given for a destination.
func sender(f translate.Family, p []byte) (hi, lo uint64) {
	if f == translate.V4 {
		return uint64(binary.BigEndian.Uint32(p[12:16])) << 32, 0
	}
	return binary.BigEndian.Uint64(p[8:16]), binary.BigEndian.Uint64(p[16:24])
}

// pass gives a packet that is not ours to the kernel as it came. Where it came
// from the kernel, that would loop.
func (w *worker) pass(f *frame, fromKernel bool) {
	if fromKernel {
		w.reasons[LoopedBack]++
		f.release()
		return
	}
	w.reasons[ToKernel]++
	w.kernel.send(f, &w.reasons)
}

// sleep waits until a port has a packet or somebody wants something.
func (w *worker) sleep() {
	for i := range w.polled {
		w.polled[i].Revents = 0
	}
	// EINTR and the like just mean another round.
	_, _ = unix.Poll(w.polled, 1000)
	if w.polled[0].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(w.wakeup, b[:])
	}
}

// wake ends the worker's sleep.
func (w *worker) wake() {
	one := [8]byte{0: 1}
	_, _ = unix.Write(w.wakeup, one[:])
}

// broken tells why the worker can't go on with its ports as they are.
func (w *worker) broken() error {
	if w.kernel.down != nil {
		return w.kernel.down
	}
	for _, p := range w.wire {
		if p != nil && p.down != nil {
			return fmt.Errorf("port %s: %w", p.name, p.down)
		}
	}
	return nil
}
