package xsk

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Sizes of a chunk that the kernel takes on every machine.
const (
	Chunk2K = 2048
	Chunk4K = 4096
)

// RxHeadroom is where in its chunk the kernel puts a received frame, in copy
// and zero-copy mode alike (XDP_PACKET_HEADROOM): so many bytes in front of it
// are free to grow into.
const RxHeadroom = 256

// A chunk's owner: free, held by the caller, or socket number owner-ownerSocket.
const (
	ownerFree   = 0
	ownerHeld   = 1
	ownerSocket = 2
	maxSockets  = 250
)

// UMEMConfig sizes a UMEM.
type UMEMConfig struct {
	// Chunks is how many frames there are. Enough for every socket's fill and
	// tx ring plus a few batches in the caller's hands.
	Chunks int
	// ChunkSize is Chunk2K or Chunk4K bytes; see CheckMTU.
	ChunkSize int
	// Reserve chunks are never put into a fill ring, so that Alloc finds one
	// while traffic comes in faster than it leaves.
	Reserve int
}

// UMEM is the memory that frames live in, outside the Go heap, and its free
// list. It belongs to one worker; see the package comment.
type UMEM struct {
	mem       []byte // the mapping: whole pages
	area      []byte // Chunks*ChunkSize bytes of it
	chunkSize uint64
	shift     uint
	reserve   int
	free      []uint64 // a stack: the chunk used last is still in the cache
	owner     []uint8  // per chunk
	sockets   []*Socket
	limbo     []limbo
	huge      bool
	misuse    uint64
}

// limbo: chunks that a closed zero-copy socket had lent to its driver. The
// kernel tears a queue down after close returns, so they are not safe to reuse
// until that queue could be bound again, or its device is known to be gone.
type limbo struct {
	slot, ifindex, queue int
}

// NewUMEM maps the memory: on huge pages if the system has some to give, else
// on ordinary ones, every page present before it returns.
func NewUMEM(c UMEMConfig) (*UMEM, error) {
	if c.ChunkSize != Chunk2K && c.ChunkSize != Chunk4K {
		return nil, fmt.Errorf("umem: chunk size %d: must be %d or %d", c.ChunkSize, Chunk2K, Chunk4K)
	}
	if c.Chunks < 1 || c.Chunks > math.MaxInt32/c.ChunkSize {
		return nil, fmt.Errorf("umem: %d chunks: must be between 1 and %d", c.Chunks, math.MaxInt32/c.ChunkSize)
	}
	if c.Reserve < 0 || c.Reserve > c.Chunks {
		return nil, fmt.Errorf("umem: reserve %d of %d chunks", c.Reserve, c.Chunks)
	}
	size := c.Chunks * c.ChunkSize
	mem, huge, err := mapFrames(size, os.Getpagesize())
	if err != nil {
		return nil, fmt.Errorf("umem: map %d bytes: %w", size, err)
	}
	u := &UMEM{
		mem: mem, area: mem[:size:size], huge: huge,
		chunkSize: uint64(c.ChunkSize), shift: 11, reserve: c.Reserve,
		free: make([]uint64, 0, c.Chunks), owner: make([]uint8, c.Chunks),
	}
	if c.ChunkSize == Chunk4K {
		u.shift = 12
	}
	for i := c.Chunks - 1; i >= 0; i-- { // lowest address on top
		u.free = append(u.free, uint64(i)<<u.shift)
	}
	return u, nil
}

// hugePage is one on every kernel: of amd64, and of arm64 with pages of 4, 16 and
// 64 KiB (512, 128 or 32 of them, next to each other).
const hugePage = 2 << 20

// mapFrames tries reserved huge pages, then ordinary memory that asks for
// transparent ones. Children don't inherit it (the kernel holds the pages, so a
// fork would have to copy them) and core dumps leave it out.
func mapFrames(size, page int) (mem []byte, huge bool, err error) {
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	if size >= hugePage/2 {
		mem, err = unix.Mmap(-1, 0, up(size, hugePage), prot, flags|unix.MAP_HUGETLB|unix.MAP_POPULATE|21<<unix.MAP_HUGE_SHIFT)
		if err == nil {
			// MAP_POPULATE doesn't report a shortage, and touching a page
			// that isn't there would be SIGBUS. Ask in a way that fails.
			if unix.Madvise(mem, unix.MADV_POPULATE_WRITE) == nil {
				unix.Madvise(mem, unix.MADV_DONTFORK)
				unix.Madvise(mem, unix.MADV_DONTDUMP)
				return mem, true, nil
			}
			unix.Munmap(mem)
		}
	}
	if mem, err = unix.Mmap(-1, 0, up(size, page), prot, flags); err != nil {
		return nil, false, err
	}
	unix.Madvise(mem, unix.MADV_HUGEPAGE)
	unix.Madvise(mem, unix.MADV_DONTFORK)
	unix.Madvise(mem, unix.MADV_DONTDUMP)
	if unix.Madvise(mem, unix.MADV_POPULATE_WRITE) != nil { // before Linux 5.14
		for i := 0; i < len(mem); i += page {
			mem[i] = 0
		}
	}
	return mem, false, nil
}

// HugePages reports whether the memory is on reserved huge pages.
func (u *UMEM) HugePages() bool { return u.huge }

// ChunkSize returns the bytes of a chunk.
func (u *UMEM) ChunkSize() int { return int(u.chunkSize) }

// Chunks returns how many chunks there are in all.
func (u *UMEM) Chunks() int { return len(u.owner) }

// Available returns how many chunks are on the free list.
func (u *UMEM) Available() int { return len(u.free) }

// Alloc takes a chunk; its address is where the chunk begins. The caller holds
// it until Free, or until a Send takes it.
func (u *UMEM) Alloc() (addr uint64, ok bool) {
	n := len(u.free)
	if n == 0 {
		return 0, false
	}
	addr = u.free[n-1]
	u.free = u.free[:n-1]
	u.owner[addr>>u.shift] = ownerHeld
	return addr, true
}

// Free gives back a chunk that the caller holds; addr is any address in it.
// Freeing what isn't held changes nothing and shows in Audit.
func (u *UMEM) Free(addr uint64) {
	i := addr >> u.shift
	if i >= uint64(len(u.owner)) || u.owner[i] != ownerHeld {
		u.misuse++
		return
	}
	u.put(i)
}

// put makes chunk i free, whoever had it.
func (u *UMEM) put(i uint64) {
	u.owner[i] = ownerFree
	u.free = append(u.free, i<<u.shift)
}

// Chunk returns the whole chunk that addr lies in; it can't be appended beyond.
func (u *UMEM) Chunk(addr uint64) []byte {
	base := addr &^ (u.chunkSize - 1)
	return u.area[base : base+u.chunkSize : base+u.chunkSize]
}

// Offset returns addr's offset in its chunk.
func (u *UMEM) Offset(addr uint64) int { return int(addr & (u.chunkSize - 1)) }

// Frame returns the bytes of a received frame, with the rest of the chunk as
// capacity behind it.
func (u *UMEM) Frame(d Desc) []byte {
	end := (d.Addr | (u.chunkSize - 1)) + 1
	return u.area[d.Addr : d.Addr+uint64(d.Len) : end]
}

// Close unmaps the memory. All its sockets must be closed.
func (u *UMEM) Close() error {
	if u.mem == nil {
		return fmt.Errorf("umem: %w", ErrClosed)
	}
	for _, s := range u.sockets {
		if s != nil {
			return errors.New("umem: close: " + s.where() + " is still open")
		}
	}
	mem := u.mem
	u.mem, u.area, u.free, u.owner = nil, nil, nil, nil
	return unix.Munmap(mem)
}

// join gives s a slot among the sockets of u.
func (u *UMEM) join(s *Socket) error {
	for i := range maxSockets {
		if i == len(u.sockets) {
			u.sockets = append(u.sockets, nil)
		}
		if u.sockets[i] == nil && !u.inLimbo(i) {
			u.sockets[i], s.slot = s, i
			return nil
		}
	}
	return fmt.Errorf("umem: more than %d sockets", maxSockets)
}

func (u *UMEM) inLimbo(slot int) bool {
	for _, l := range u.limbo {
		if l.slot == slot {
			return true
		}
	}
	return false
}

// leave ends s's membership. Its chunks are free again at once if safe says
// that nothing can write to them any more.
func (u *UMEM) leave(s *Socket, safe bool) {
	u.sockets[s.slot] = nil
	if safe {
		u.reclaim(s.slot)
		return
	}
	u.limbo = append(u.limbo, limbo{s.slot, s.cfg.Ifindex, s.cfg.Queue})
}

// rebound frees what an earlier socket on the same queue left behind.
func (u *UMEM) rebound(ifindex, queue int) {
	kept := u.limbo[:0]
	for _, l := range u.limbo {
		if l.ifindex == ifindex && l.queue == queue {
			u.reclaim(l.slot)
		} else {
			kept = append(kept, l)
		}
	}
	u.limbo = kept
}

func (u *UMEM) reclaim(slot int) {
	for i, o := range u.owner {
		if int(o) == ownerSocket+slot {
			u.put(uint64(i))
		}
	}
}
