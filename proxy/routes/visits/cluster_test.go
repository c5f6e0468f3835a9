package visits

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/perf/lab/labetcd/etcdtest"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/etcd"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// TestCluster has three nodes on hosts of their own tell a page on a fourth what they
// have counted, by a cluster of etcd: also when a node is cut off or gone, when all of
// etcd is restarted, and when the page's host is gone.
func TestCluster(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, "test-visits")
	c := etcdtest.Start(t, l, labetcd.Config{Program: etcdtest.Current(t), Members: 3})
	host := func(name string) *lab.Host {
		h := labtest.Host(t, l, name)
		must(t, c.Join(h))
		return h
	}
	open := func(h *lab.Host) *etcd.Store {
		s, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), Dial: h.Dial, Timeout: 2 * time.Second, TTL: 3 * time.Second})
		must(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	var nodes []*process
	var hosts []*lab.Host
	for i := range 3 {
		hosts = append(hosts, host(fmt.Sprint("node", i)))
		nodes = append(nodes, start(t, open(hosts[i]), fmt.Sprint("node", i), true, 3))
		nodes[i].visit("a.shop.example", 10+i, time.Now())
		nodes[i].visit("a.blog.example", 1000, time.Now())
	}
	looker := host("page")
	page := start(t, open(looker), "page", false, 3)
	outside := open(c.Net)

	// Who follows the routes is told of none of this, but that time goes on.
	var told atomic.Int64
	var through atomic.Int64
	_, begin, err := outside.Get(t.Context())
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			_ = outside.Watch(ctx, catalog.Serving, max(begin, store.Revision(through.Load())), func(changes []store.Change, r store.Revision) error {
				told.Add(int64(len(changes)))
				through.Store(int64(r))
				return nil
			})
		}
	}()
	defer func() { cancel(); <-watched }()

	shows := func(what string, of *process, nodes int, count uint64) {
		t.Helper()
		eventually(t, what, func() bool {
			s := of.Of("shop")
			return s.Nodes == nodes && s.Of("a.shop.example").Count == count
		})
	}
	shows("the sum of all", page, 3, 33)
	nodes[1].visit("a.shop.example", 5, time.Now())
	shows("a new sum", page, 3, 38)
	if f := page.Of("shop").Of("a.blog.example"); f.Count != 0 {
		t.Errorf("another project's visits: %+v", f)
	}

	must(t, c.Isolate(hosts[0]))
	shows("one that is cut off is not counted", page, 2, 28)
	nodes[0].visit("a.shop.example", 1, time.Now())
	must(t, c.Rejoin(hosts[0]))
	shows("it is back, with what came meanwhile", page, 3, 39)

	for _, m := range c.Members {
		m.Kill()
	}
	nodes[2].visit("a.shop.example", 2, time.Now())
	if s := page.Of("shop"); s.Of("a.shop.example").Count < 28 {
		t.Errorf("without etcd, what was known is gone: %+v", s.Of("a.shop.example"))
	}
	for _, m := range c.Members {
		must(t, m.Launch())
	}
	must(t, c.WaitReady(t.Context()))
	shows("all of etcd was restarted", page, 3, 41)

	must(t, c.Isolate(hosts[2]))
	nodes[2].end()
	shows("a node is gone for good", page, 2, 27)

	second := start(t, outside, "second", false, 3)
	shows("a second page", second, 2, 27)
	must(t, c.Isolate(looker))
	page.end()
	shows("the other page still has it", second, 2, 27)
	outsider := open(c.Net)
	eventually(t, "nobody looks, and nothing is left", func() bool { return len(keys(t, outsider)) == 0 })

	_, now, err := outsider.Get(t.Context())
	must(t, err)
	eventually(t, "a watch of the routes knows the revision", func() bool { return store.Revision(through.Load()) >= now })
	if n := told.Load(); n != 0 {
		t.Errorf("it was told of %d changes", n)
	}
}
