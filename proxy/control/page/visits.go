package page

import (
	"sync"
	"sync/atomic"
	"time"
)

// Counter counts visits of hosts on this node, for [Config.Visits]. Its methods may
// be called from many goroutines. It takes no lock for a host that it knows.
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

// Of gives the figures of a host.
func (c *Counter) Of(host string) (Visits, bool) {
	v, ok := c.hosts.Load(host)
	if !ok {
		return Visits{Since: c.since}, true
	}
	k := v.(*counts)
	return Visits{Since: c.since, Count: k.visits.Load(), Errors: k.errors.Load(), Last: time.Unix(0, k.last.Load())}, true
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
