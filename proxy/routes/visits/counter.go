package visits

import (
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
)

// Counter counts visits of hosts on this node. Its methods may be called from many
// goroutines. It takes no lock for a host that it knows.
type Counter struct {
	since time.Time
	hosts sync.Map // string to *counts
	n     atomic.Int64
	most  int64 // hosts
}

type counts struct {
	visits, errors atomic.Uint64
	last           atomic.Int64 // ns since 1970
}

// maxCounted bounds the memory for hosts: more than there are routes.
const maxCounted = 1 << 18

// NewCounter counts from now on.
func NewCounter() *Counter { return &Counter{since: time.Now(), most: maxCounted} }

// Add counts a visit of a route's host, "*." included. Failed: its VMs are to blame
// that it came to nothing.
func (c *Counter) Add(host string, failed bool, at time.Time) {
	v, ok := c.hosts.Load(host)
	if !ok {
		if c.n.Load() >= c.most {
			return
		}
		var had bool
		if v, had = c.hosts.LoadOrStore(host, &counts{}); !had {
			c.n.Add(1)
		}
	}
	k := v.(*counts)
	k.visits.Add(1)
	if failed {
		k.errors.Add(1)
	}
	for now := at.UnixNano(); ; {
		last := k.last.Load()
		if last >= now || k.last.CompareAndSwap(last, now) {
			return
		}
	}
}

// of gives the figures of a host.
func (c *Counter) of(host string) Figures {
	v, ok := c.hosts.Load(host)
	if !ok {
		return Figures{Since: c.since}
	}
	k := v.(*counts)
	return Figures{Since: c.since, Count: k.visits.Load(), Errors: k.errors.Load(), Last: time.Unix(0, k.last.Load())}
}

// report is what a node tells of some hosts.
func (c *Counter) report(node string, hosts iter.Seq[string]) catalog.Visits {
	v := catalog.Visits{Node: node, Since: c.since.UTC()}
	for h := range hosts {
		if f := c.of(h); f.Count > 0 {
			v.Hosts = append(v.Hosts, catalog.HostVisits{Host: h, Count: f.Count, Errors: f.Errors, Last: f.Last.Unix()})
		}
	}
	return v
}

// Keep forgets hosts that have no route any more.
func (c *Counter) Keep(has func(host string) bool) {
	c.hosts.Range(func(host, _ any) bool {
		if !has(host.(string)) {
			c.hosts.Delete(host)
			c.n.Add(-1)
		}
		return true
	})
}
