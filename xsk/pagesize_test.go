package xsk

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Pages are 4 KiB on amd64; kernels for arm64 are built with one of these.
var pageSizes = []int{4 << 10, 16 << 10, 64 << 10}

func eachPageSize(t *testing.T, f func(t *testing.T, page int)) {
	for _, page := range pageSizes {
		t.Run(fmt.Sprintf("%dK", page>>10), func(t *testing.T) { f(t, page) })
	}
}

// kernelTakesUMEM is what xdp_umem_reg in the kernel asks of an area, for chunks
// that are aligned. It begins where a mapping does, so on a page.
func kernelTakesUMEM(size, chunk, page int) error {
	switch {
	case chunk < 2048 || chunk > page || chunk&(chunk-1) != 0:
		return fmt.Errorf("chunks of %d bytes", chunk)
	case size%chunk != 0:
		return fmt.Errorf("%d bytes are not whole chunks of %d", size, chunk)
	}
	return nil
}

// TestPageSizeUMEM maps areas as a kernel with such pages would have them. Where
// this one's are smaller, that is possible here.
func TestPageSizeUMEM(t *testing.T) {
	eachPageSize(t, func(t *testing.T, page int) {
		for _, chunk := range []int{Chunk2K, Chunk4K} {
			for _, n := range []int{1, 3, 31, 32, 33, 1000, 4096} {
				size := n * chunk
				if err := kernelTakesUMEM(size, chunk, page); err != nil {
					t.Errorf("%d chunks: %v", n, err)
				}
				if page < os.Getpagesize() {
					continue
				}
				mem, huge, err := mapFrames(size, page)
				if err != nil {
					t.Fatal(err)
				}
				unit := page
				if huge {
					unit = hugePage
				}
				if len(mem) < size || len(mem)%unit != 0 || len(mem)-size >= unit {
					t.Errorf("%d chunks of %d: %d bytes are mapped", n, chunk, len(mem))
				}
				if err := unix.Munmap(mem); err != nil {
					t.Error(err)
				}
			}
		}
		if hugePage%page != 0 {
			t.Errorf("a huge page of %d bytes is no number of pages", hugePage)
		}
	})
}

// TestPageSizeRings: the offsets at which the kernel wants rings to be mapped are
// those of pages. How long they are it compares in whole pages.
func TestPageSizeRings(t *testing.T) {
	eachPageSize(t, func(t *testing.T, page int) {
		for _, pgoff := range []int64{unix.XDP_PGOFF_RX_RING, unix.XDP_PGOFF_TX_RING, unix.XDP_UMEM_PGOFF_FILL_RING, unix.XDP_UMEM_PGOFF_COMPLETION_RING} {
			if pgoff%int64(page) != 0 {
				t.Errorf("offset %#x lies within a page", pgoff)
			}
		}
	})
}
