package router

import (
	"errors"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router/nexthop"
	"aarch64.com/isthmus/xsk"
	"aarch64.com/isthmus/xsk/tun"
)

// PortCounters count what passed one port of one worker: packets, and bytes of
// IP packet.
type PortCounters struct {
	RxPackets, RxBytes uint64
	TxPackets, TxBytes uint64
}

// wirePort is one worker's queue of an AF_XDP port.
type wirePort struct {
	name     string
	mtu      int
	sock     *xsk.Socket
	pool     *pool
	in       [batchSize]xsk.Desc
	out      [batchSize]xsk.Desc
	queued   int // descriptors waiting in out
	count    PortCounters
	complete bool  // sources leave partial checksums
	down     error // why the socket can't send for good
}

// holds tells whether a packet of n bytes in f fits into a frame of this port's
// memory.
func (p *wirePort) holds(f *frame, n int) bool {
	return f.pool == p.pool || n <= p.pool.umem.ChunkSize()-frameStart
}

// recv takes up to batchSize packets. Frames without an IP packet are counted
// and released here.
func (p *wirePort) recv(batch []frame, reasons *[NumReasons]uint64) []frame {
	got := p.sock.Recv(p.in[:])
	n := 0
	for i := range p.in[:got] {
		d := &p.in[i]
		f := &batch[n]
		chunk := p.pool.umem.Chunk(d.Addr)
		at := p.pool.umem.Offset(d.Addr)
		start, bad := network(chunk[at : at+int(d.Len)])
		if bad != ReasonNone {
			reasons[bad]++
			p.pool.put(d.Addr)
			continue
		}
		f.buf, f.addr, f.pool = chunk, d.Addr, p.pool
		f.start, f.n = at+start, int(d.Len)-start
		if p.complete {
			translate.CompleteChecksum(f.packet())
		}
		f.meta, f.hdr = translate.Meta{}, tun.Header{}
		p.count.RxPackets++
		p.count.RxBytes += uint64(f.n)
		n++
	}
	return batch[:n]
}

// send queues a frame for the next flush and takes it over. A frame of another
// memory is copied, which a fast setup avoids by sharing one UMEM; it must fit
// (see holds).
func (p *wirePort) send(f *frame, hop *nexthop.Hop, reasons *[NumReasons]uint64) {
	f.complete()
	if f.pool != p.pool {
		var own frame
		if !p.pool.get(&own) {
			reasons[NoFrame]++
			f.release()
			return
		}
		own.n = copy(own.buf[own.start:], f.packet())
		f.release()
		*f = own
	}
	if p.queued == len(p.out) {
		p.flush(reasons)
	}
	at := hop.PutHeader(f.buf, f.start)
	base := f.addr - uint64(p.pool.umem.Offset(f.addr))
	p.out[p.queued] = xsk.Desc{Addr: base + uint64(at), Len: uint32(f.start + f.n - at)}
	p.queued++
	p.count.TxPackets++
	p.count.TxBytes += uint64(f.n)
}

// flush takes sent frames back, refills the fill ring, gives all queued frames to
// the kernel, and counts and releases those that it does not take. It tells whether the kernel has more to send when asked
// again, so that the worker must not sleep.
func (p *wirePort) flush(reasons *[NumReasons]uint64) (more bool) {
	p.sock.Service()
	out := p.out[:p.queued]
	p.queued = 0
	for range 2 {
		out = out[p.sock.Send(out):]
		more = p.kick()
		if len(out) == 0 {
			return more
		}
		p.sock.Service()
	}
	reason := TxFull
	if p.down != nil {
		reason = TxError
	}
	for i := range out {
		reasons[reason]++
		p.count.TxPackets--
		p.pool.put(out[i].Addr)
	}
	return more
}

// kick makes the kernel send what is in the transmit ring. After a link that is
// down the frames wait in the ring until it is up; a device or queue that has
// gone is for the router to replace.
func (p *wirePort) kick() (more bool) {
	switch err := p.sock.Flush(); {
	case err == nil:
		return p.sock.NeedWakeup() && p.sock.Pending() > 0
	case errors.Is(err, xsk.ErrDeviceGone), errors.Is(err, xsk.ErrQueueGone):
		p.down = err
	}
	return false
}

// kernelPort is one worker's queue of the TUN device, and a raw socket for what
// comes from the host itself.
type kernelPort struct {
	queue *tun.Queue
	raw   int // IPPROTO_RAW socket, all workers' together
	to    unix.SockaddrInet4
	pool  *pool
	count PortCounters
	down  error
}

// recv reads packets until the queue is empty or the batch full.
func (p *kernelPort) recv(batch []frame, reasons *[NumReasons]uint64) []frame {
	n := 0
	for n < len(batch) {
		f := &batch[n]
		if !p.pool.get(f) {
			break // frames of this worker are all on their way; the kernel keeps the rest
		}
		size, hdr, err := p.queue.Read(f.buf, f.start)
		if size == 0 {
			f.release()
			p.fail(err, reasons)
			break
		}
		f.n = size
		f.setMeta(hdr)
		p.count.RxPackets++
		p.count.RxBytes += uint64(size)
		n++
	}
	return batch[:n]
}

// send writes the packet to the kernel and releases its frame.
func (p *kernelPort) send(f *frame, reasons *[NumReasons]uint64) {
	if err := p.queue.Write(f.buf, f.start, f.n, &f.hdr); err != nil {
		p.fail(err, reasons)
	} else {
		p.count.TxPackets++
		p.count.TxBytes += uint64(f.n)
	}
	f.release()
}

// originate sends an IPv4 packet whose source is an address of this host, and
// releases its frame. On the TUN device the kernel would take it for spoofed
// (fib_validate_source, net/ipv4/fib_frontend.c).
func (p *kernelPort) originate(f *frame, reasons *[NumReasons]uint64) {
	b := f.packet()
	copy(p.to.Addr[:], b[16:20])
	if err := unix.Sendto(p.raw, b, unix.MSG_DONTWAIT, &p.to); err != nil {
		// No route, a full queue, a firewall: the kernel's reasons not to
		// send, as for any program.
		reasons[KernelFull]++
	} else {
		p.count.TxPackets++
		p.count.TxBytes += uint64(f.n)
	}
	f.release()
}

func (p *kernelPort) fail(err error, reasons *[NumReasons]uint64) {
	switch {
	case err == nil:
	case errors.Is(err, tun.ErrGone):
		p.down = err
		reasons[KernelError]++
	case errors.Is(err, tun.ErrFull):
		reasons[KernelFull]++
	default:
		reasons[KernelError]++
	}
}
