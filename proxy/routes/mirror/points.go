package mirror

import (
	"sort"

	"aarch64.com/isthmus/proxy/routes/store"
)

// keptPoints is for how many commits the sum is known: minutes of an import.
const keptPoints = 4096

// point is the sum of all fingerprints after a commit.
type point struct {
	revision store.Revision
	sum      uint64
}

// points are those of the last commits, so that what somebody else has counted at
// an earlier revision can be compared.
type points []point

func (p *points) reset(first point) { *p = append((*p)[:0], first) }

func (p *points) add(list []point) {
	*p = append(*p, list...)
	if n := len(*p); n > 2*keptPoints {
		*p = append((*p)[:0], (*p)[n-keptPoints:]...)
	}
}

// at gives the sum at a revision up to which everything has been applied.
func (p points) at(r store.Revision) (sum uint64, ok bool) {
	i := sort.Search(len(p), func(i int) bool { return p[i].revision > r })
	if i == 0 {
		return 0, false
	}
	return p[i-1].sum, true
}
