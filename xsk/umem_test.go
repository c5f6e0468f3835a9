package xsk

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestUMEMConfig(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  UMEMConfig
		want string
	}{
		{"2K", UMEMConfig{Chunks: 64, ChunkSize: Chunk2K}, ""},
		{"4K", UMEMConfig{Chunks: 64, ChunkSize: Chunk4K}, ""},
		{"one_chunk_less_than_a_page", UMEMConfig{Chunks: 1, ChunkSize: Chunk2K}, ""},
		{"no_chunks", UMEMConfig{ChunkSize: Chunk2K}, "0 chunks"},
		{"size_of_no_chunk", UMEMConfig{Chunks: 1, ChunkSize: 1500}, "chunk size 1500"},
		{"too_many", UMEMConfig{Chunks: 1 << 30, ChunkSize: Chunk2K}, "chunks"},
		{"reserve", UMEMConfig{Chunks: 1, ChunkSize: Chunk2K, Reserve: 2}, "reserve"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := NewUMEM(c.cfg)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v, want one with %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(u.mem)%os.Getpagesize() != 0 {
				t.Errorf("%d bytes are not whole pages", len(u.mem))
			}
			audited(t, u)
			if err := u.Close(); err != nil {
				t.Error(err)
			}
			if err := u.Close(); !errors.Is(err, ErrClosed) {
				t.Errorf("second close: %v", err)
			}
		})
	}
}

func TestUMEMChunks(t *testing.T) {
	u := newUMEM(t, 3)
	seen := map[uint64]bool{}
	for range 3 {
		addr, ok := u.Alloc()
		if !ok || addr%Chunk2K != 0 || seen[addr] {
			t.Fatalf("alloc: %#x, %v", addr, ok)
		}
		seen[addr] = true
	}
	if _, ok := u.Alloc(); ok {
		t.Fatal("a fourth of three")
	}
	c := u.Chunk(Chunk2K + 300)
	if len(c) != Chunk2K || cap(c) != Chunk2K || &c[0] != &u.area[Chunk2K] {
		t.Errorf("chunk of length %d, capacity %d", len(c), cap(c))
	}
	if o := u.Offset(Chunk2K + 300); o != 300 {
		t.Errorf("offset %d, want 300", o)
	}
	f := u.Frame(Desc{Addr: Chunk2K + 300, Len: 60})
	if len(f) != 60 || cap(f) != Chunk2K-300 || &f[0] != &u.area[Chunk2K+300] {
		t.Errorf("frame of length %d, capacity %d", len(f), cap(f))
	}
	u.Free(Chunk2K + 300) // any address in it
	if addr, ok := u.Alloc(); !ok || addr != Chunk2K {
		t.Errorf("freed chunk 1, got %#x", addr)
	}
	for addr := range seen {
		u.Free(addr)
	}
	audited(t, u)
}

// TestUMEMMisuse: freeing twice, or what is elsewhere, doesn't put a chunk into
// two places.
func TestUMEMMisuse(t *testing.T) {
	u := newUMEM(t, 4)
	addr, _ := u.Alloc()
	u.Free(addr)
	u.Free(addr)
	u.Free(99 * Chunk2K)
	a, err := u.Audit()
	if err != nil || a.Free != 4 || a.Misuse != 2 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestAuditFindsFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(u *UMEM, s *Socket)
		want  string
	}{
		{"in_two_rings", func(u *UMEM, s *Socket) {
			s.tx.slots[0] = Desc{Addr: s.fill.slots[0], Len: 60}
			*s.tx.prod++
		}, "is in fill ring"},
		{"free_and_lent", func(u *UMEM, s *Socket) { u.free = append(u.free, s.fill.slots[0]) }, "is in the free list"},
		{"lost", func(u *UMEM, s *Socket) { u.free = u.free[1:] }, "not on the free list"},
		{"outside", func(u *UMEM, s *Socket) { u.free[0] = 1 << 40 }, "outside"},
		{"wrong_owner", func(u *UMEM, s *Socket) { u.owner[s.fill.slots[0]>>u.shift] = ownerHeld }, "belongs to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUMEM(t, 32)
			s := memSocket(t, u, 0)
			s.Service()
			audited(t, u)
			c.spoil(u, s)
			if a, err := u.Audit(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, error %v, want one with %q", a, err, c.want)
			}
		})
	}
}

func TestReserve(t *testing.T) {
	u := newUMEM(t, 10)
	u.reserve = 4
	s := memSocket(t, u, 0)
	s.Service()
	if a, err := u.Audit(); err != nil || a.Fill != 6 || a.Free != 4 {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestLimbo: chunks of a closed zero-copy socket come back when its queue is
// bound again, not before, and not by another queue's.
func TestLimbo(t *testing.T) {
	u := newUMEM(t, 32)
	s := memSocket(t, u, 0)
	s.cfg = SocketConfig{Ifindex: 7, Queue: 3}
	s.Service()
	lent := u.Chunks() - u.Available()
	u.leave(s, false)
	if a, err := u.Audit(); err != nil || a.Kernel != lent {
		t.Fatalf("%+v, %v", a, err)
	}
	next := memSocket(t, u, 0)
	if next.slot == s.slot {
		t.Fatal("a new socket got the slot whose chunks are still out")
	}
	u.rebound(7, 2)
	if a, _ := u.Audit(); a.Kernel != lent {
		t.Fatal("another queue's bind freed them")
	}
	u.rebound(7, 3)
	audited(t, u)
}
