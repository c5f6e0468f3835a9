package translate_test

import (
	"math/rand/v2"
	"testing"

	"aarch64.com/isthmus/translate"
)

// TestTwin holds translator and twin against each other over packets of every
// kind, and makes sure that the packets reach every verdict.
func TestTwin(t *testing.T) {
	n := 300000
	if testing.Short() {
		n = 30000
	}
	pairs := newPairs(t)
	var seen [translate.NumVerdicts]int
	for seed := range n {
		pr := pairs[seed%len(pairs)]
		r := maker{rand.New(rand.NewPCG(uint64(seed), 7915)), &pr.config}
		p, m := r.any(), r.meta()
		mtuIn, mtuOut := pick(r, twinMTUs...), pick(r, twinMTUs...)
		o, _, err := pr.compare(p, m, mtuIn, mtuOut, twinSources)
		if err != nil {
			t.Fatalf("seed %d: %v\nin   %x\nmeta %+v, MTUs %d, %d, config %+v", seed, err, p, m, mtuIn, mtuOut, pr.config)
		}
		if pr.config.LowestIPv6MTU != 0 || seed%7 == 0 {
			checkOutcome(t, pr, p, m, mtuOut, o)
		}
		seen[o.verdict]++
	}
	for v, k := range seen {
		if translate.Verdict(v) == translate.PoolExhausted6 {
			continue // the router gives this one, to packets that got NoMapping6
		}
		t.Logf("%6d %v", k, translate.Verdict(v))
		if k == 0 && !testing.Short() {
			t.Errorf("no packet got the verdict %v", translate.Verdict(v))
		}
	}
}
