package translate

import "testing"

// TestNoAllocations: no packet, plain or odd, takes memory.
func TestNoAllocations(t *testing.T) {
	for _, c := range fuzzConfigs() {
		tr := mustNew(t, c)
		st := NewState(1)
		var pl Plan
		dst := make([]byte, 9000)
		buf := make([]byte, 9000)
		var at [64]uint32
		for i, p := range seeds() {
			if n := testing.AllocsPerRun(20, func() {
				copy(buf[Headroom:], p)
				at[0] = tr.Locate(buf[Headroom : Headroom+len(p)])
				tr.Fetch(at[:])
				v := tr.Decide(&pl, buf[Headroom:Headroom+len(p)], Meta{})
				if v == Forward {
					v = tr.Fit(&pl, 1500, 1500)
				}
				switch v.Action() {
				case Emit, Cut:
					start, n := tr.Rewrite(&pl, st, buf, Headroom)
					for more := v == Split; more; {
						_, more = pl.Split(buf[start:start+n], dst)
					}
				case Answer:
					tr.Error(&pl, buf, Headroom, ownSources)
				}
			}); n != 0 {
				t.Errorf("packet %d: %v allocations", i, n)
			}
		}
	}
}

// TestLocate: what Locate says is a line that Fetch may read, for any bytes.
func TestLocate(t *testing.T) {
	trs := []*Translator{mustNew(t, Config{}), mustNew(t, usual())}
	for _, tr := range trs {
		for _, p := range append(seeds(), nil, []byte{0x45}, []byte{0x60}, make([]byte, 40)) {
			if at := tr.Locate(p); int(at) > len(tr.table.lines) {
				t.Errorf("line %d of %d", at, len(tr.table.lines))
			}
			tr.Fetch([]uint32{tr.Locate(p), 1 << 31})
		}
	}
	if trs[0].Large() || !benchTable()[1_000_000].Large() {
		t.Error("Large")
	}
}
