package router

import (
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/xsk"
	"aarch64.com/isthmus/xsk/tun"
)

// batchSize is how many frames a worker takes from a port at once.
const batchSize = 64

// frame is one packet on its way through a worker: buf[start:start+n] is the IP
// packet, possibly with Ethernet padding behind it.
type frame struct {
	buf   []byte
	start int
	n     int
	addr  uint64 // of buf in pool
	pool  *pool
	meta  translate.Meta
	hdr   tun.Header // of a packet from the kernel; zero: the packet is what it looks like
}

func (f *frame) packet() []byte { return f.buf[f.start : f.start+f.n] }

func (f *frame) release() { f.pool.put(f.addr) }

// pool hands out frames of one memory: a UMEM, or plain memory for a TUN device
// alone. It belongs to one worker.
type pool struct {
	umem  *xsk.UMEM
	plain []byte
	chunk int
	free  []uint64
}

func newPlainPool(chunks, chunk int) *pool {
	p := &pool{plain: make([]byte, chunks*chunk), chunk: chunk}
	for i := range chunks {
		p.free = append(p.free, uint64(i*chunk))
	}
	return p
}

// get returns an empty frame, or false when all are in use.
func (p *pool) get(f *frame) bool {
	var addr uint64
	if p.umem != nil {
		a, ok := p.umem.Alloc()
		if !ok {
			return false
		}
		addr = a
		f.buf = p.umem.Chunk(addr)
	} else {
		last := len(p.free) - 1
		if last < 0 {
			return false
		}
		addr = p.free[last]
		p.free = p.free[:last]
		f.buf = p.plain[addr : addr+uint64(p.chunk) : addr+uint64(p.chunk)]
	}
	f.addr, f.pool, f.start, f.n, f.meta, f.hdr = addr, p, frameStart, 0, translate.Meta{}, tun.Header{}
	return true
}

func (p *pool) put(addr uint64) {
	if p.umem != nil {
		p.umem.Free(addr)
		return
	}
	p.free = append(p.free, addr)
}

// frameStart is where a packet that we put into a frame begins: room for what
// translation adds, an Ethernet header and a virtio-net header in front of it,
// and where AF_XDP puts received frames.
const frameStart = 256
