package mirror

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
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

// cluster is three members of etcd and nodes that follow it, each on a host of its
// own.
type cluster struct {
	*labetcd.Cluster
	t     *testing.T
	store store.Store // from the middle of the network
	nodes []*node
	hosts []*lab.Host

	mu      sync.Mutex
	written int
	acked   map[string]bool
	unsure  map[string]bool // it is not known whether these were
}

func newCluster(t *testing.T) *cluster {
	l := labtest.New(t, "test-mirror")
	c := &cluster{
		Cluster: etcdtest.Start(t, l, labetcd.Config{Program: etcdtest.Current(t), Members: 3, Quota: 16 << 20}),
		t:       t, acked: map[string]bool{}, unsure: map[string]bool{},
	}
	c.store = c.open(c.Net)
	_, err := c.store.Commit(t.Context(), store.Txn{Put: []store.Put{projectPut("shop", "2001:db8:64:1::/64"), proxyPut("shop", "base.example", 80)}})
	must(t, err)
	for i := range 3 {
		h := labtest.Host(t, l, fmt.Sprint("node", i))
		must(t, c.Join(h))
		disk := filepath.Join(t.TempDir(), "copy")
		n := startNode(t, c.open(h), h.Name(), func(c *Config, _ *times) { c.Disk, c.Reconcile = disk, time.Second })
		n.wait("the first route", func() bool { return n.has("base.example") })
		c.nodes, c.hosts = append(c.nodes, n), append(c.hosts, h)
	}
	return c
}

func (c *cluster) open(h *lab.Host) store.Store {
	s, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), Dial: h.Dial, Timeout: 2 * time.Second, TTL: 3 * time.Second})
	must(c.t, err)
	c.t.Cleanup(func() { s.Close() })
	return s
}

func (c *cluster) within() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	c.t.Cleanup(cancel)
	return ctx
}

// write adds a proxy, or one of another name until that is acknowledged.
func (c *cluster) write() store.Revision {
	for {
		c.mu.Lock()
		c.written++
		host := fmt.Sprintf("h%d.example", c.written)
		c.mu.Unlock()
		r, err := c.store.Commit(c.t.Context(), store.Txn{Put: []store.Put{proxyPut("shop", host, 80)}})
		c.mu.Lock()
		switch {
		case err == nil:
			c.acked[host] = true
		case !errors.Is(err, store.ErrFull):
			c.unsure[host] = true
		}
		c.mu.Unlock()
		if err == nil || c.t.Context().Err() != nil {
			return r
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// during runs f while changes are made and visitors come, and sees to it that each
// node serves all the time, and in the end what has been acknowledged and what is in
// the store.
func (c *cluster) during(what string, f func()) {
	c.t.Helper()
	began := time.Now()
	stop := make(chan struct{})
	var visitors, writer sync.WaitGroup
	var failed atomic.Int64
	for _, n := range c.nodes {
		visitors.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				if !n.has("base.example") {
					failed.Add(1)
				}
			}
		})
	}
	written := make(chan struct{})
	writer.Go(func() {
		for {
			c.write()
			select {
			case <-written:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	f()
	close(written)
	writer.Wait()
	last := c.write()
	for _, n := range c.nodes {
		n.at(last)
	}
	close(stop)
	visitors.Wait()
	if n := failed.Load(); n > 0 {
		c.t.Errorf("%s: %d visitors were not served", what, n)
	}
	for i, n := range c.nodes {
		if err := n.differs(c.store); err != nil {
			c.t.Errorf("%s: node %d: %v", what, i, err)
		}
		for host := range c.acked {
			if !n.has(host) {
				c.t.Errorf("%s: node %d does not serve %s, which was acknowledged", what, i, host)
			}
		}
		if s := n.Stats(); s.Doubt != "" || s.Repaired > 0 {
			c.t.Errorf("%s: node %d: %+v", what, i, s)
		}
	}
	c.t.Logf("%s: %d changes so far, %d unsure; %v", what, len(c.acked), len(c.unsure), time.Since(began).Round(time.Millisecond))
}

// Whatever happens to etcd and to the network, each node serves, no change that was
// acknowledged is lost, and all nodes come to the same.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	ctx := c.within()
	some := func() {
		for range 20 {
			c.write()
		}
	}
	c.during("all is well", some)
	c.during("the leader is killed", func() {
		leader, err := c.Leader(ctx)
		must(t, err)
		leader.Kill()
		some()
		must(t, leader.Start())
	})
	before := [...]uint64{c.nodes[0].Stats().Relists, 0, c.nodes[2].Stats().Relists}
	c.during("two nodes are cut off, one until history is gone", func() {
		for _, i := range []int{0, 2} {
			must(t, c.Isolate(c.hosts[i]))
		}
		for _, i := range []int{0, 2} {
			c.nodes[i].wait("it notices", func() bool { return !c.nodes[i].Stats().Up })
		}
		last := c.write()
		c.nodes[1].at(last)
		if c.nodes[0].View().Revision >= last {
			t.Error("it is not cut off")
		}
		must(t, c.Rejoin(c.hosts[0]))
		c.nodes[0].at(last)
		must(t, c.Compact(ctx))
		must(t, c.Rejoin(c.hosts[2]))
	})
	if a, b := c.nodes[0].Stats().Relists-before[0], c.nodes[2].Stats().Relists-before[2]; a != 0 || b == 0 {
		t.Errorf("everything was read again %d and %d times, want never where history was there, and once where it was not", a, b)
	}
	c.during("all of etcd is killed", func() {
		for _, m := range c.Members {
			m.Kill()
		}
		for _, n := range c.nodes {
			n.wait("all notice", func() bool { return !n.Stats().Up })
		}
		for _, m := range c.Members {
			must(t, m.Launch())
		}
		must(t, c.WaitReady(ctx))
	})
	c.during("etcd is full", func() {
		must(t, c.Fill(ctx))
		if _, err := c.store.Commit(ctx, store.Txn{Put: []store.Put{proxyPut("shop", "full.example", 80)}}); !errors.Is(err, store.ErrFull) {
			t.Errorf("a full etcd says %v", err)
		}
		must(t, c.MakeRoom(ctx))
	})
	for _, n := range c.nodes {
		n.wait("all are announced", func() bool {
			list, err := catalog.New(c.store, catalog.Options{}).Nodes(ctx)
			return err == nil && len(list) == 3 && list[0].Applied >= n.View().last[lastTally].Created
		})
	}
}
