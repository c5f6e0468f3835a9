package visits

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// All nodes together write a bounded number of bytes a second.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		nodes, most int
		small       time.Duration // between reports on ten hosts or so
	}{
		{0, store.MaxValue, 10 * time.Millisecond},
		{12, store.MaxValue, 120 * time.Millisecond},
		{100, 20_000, time.Second},
		{1000, 4096, 10 * time.Second},
	} {
		p := newPublisher(New(Config{Nodes: func() int { return c.nodes }}))
		if most, small := p.most(), p.share(1000); most != c.most || small != c.small {
			t.Errorf("%d nodes: reports of %d bytes, and a small one each %v; want %d, %v", c.nodes, most, small, c.most, c.small)
		}
	}
}

// However many projects are wanted, a node does not write more than its share, and
// each project has its turn.
func TestWritesAreBounded(t *testing.T) {
	t.Parallel()
	const nodes, projects = 40, 12
	s := openBolt(t)
	w := &wire{Store: s}
	n := start(t, w, "a", true, nodes)
	pause := newPublisher(n.Exchange).share(perKey)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() { // everything changes all the time
		for at := time.Now(); ; at = at.Add(time.Second) {
			for i := range projects {
				n.counter.Add(fmt.Sprintf("a.p%d.example", i), false, at)
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	began := time.Now()
	for i := range projects {
		a, err := s.Announce(t.Context(), catalog.WantedKey(fmt.Sprint("p", i), "test"))
		must(t, err)
		must(t, a.Set(t.Context(), nil))
	}
	eventually(t, "all have had their turn", func() bool { return len(keys(t, s)) == 2*projects })
	time.Sleep(3 * pause)
	took := time.Since(began)
	if said, most := int(w.writes.Load()), 1+int(took/pause); said > most {
		t.Errorf("%d reports in %v, want at most %d", said, took, most)
	}
}

// A project with more hosts than fit has those told that were visited last.
func TestLargeReport(t *testing.T) {
	many := make([]string, 5000)
	a := start(t, nil, "a", true, 1) // which does not run
	for i := range many {
		many[i] = fmt.Sprintf("www%d.shop.example", i)
		a.visit(many[i], 1, time.Unix(1_900_000_000+int64(i), 0))
	}
	p := newPublisher(a.Exchange)
	value := a.counter.report("a", slices.Values(many)).Encode(p.most())
	if n := len(value); n > store.MaxValue || n < store.MaxValue-200 {
		t.Errorf("%d bytes", n)
	}
	v, err := catalog.DecodeVisits(store.Entry{Value: value})
	must(t, err)
	sum := Sum("", nil, v)
	if !sum.Partial || sum.Of(many[4999]).Count != 1 || sum.Of(many[4000]).Count != 1 || sum.Of(many[0]).Count != 0 {
		t.Errorf("partial %v, %d hosts", sum.Partial, len(v.Hosts))
	}
}
