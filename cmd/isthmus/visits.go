package main

import (
	"sync"
	"sync/atomic"
	"time"

	"aarch64.com/isthmus/proxy"
	"aarch64.com/isthmus/proxy/control/page"
	"aarch64.com/isthmus/proxy/routes"
)

// visits counts, for the owners of routes, who has come to them through this
// process. Its zero value is empty.
type visits struct {
	of    sync.Map // host of a route -> *visit
	count atomic.Int64
	since sync.Once
	start atomic.Int64 // ns since 1970
}

type visit struct{ count, errors, last atomic.Int64 }

// spareVisits is for how many routes that have gone visits are kept.
const spareVisits = 1000

// record counts a request or connection.
func (v *visits) record(now *routes.Snapshot, r *proxy.Record) {
	v.begin()
	route := now.Lookup(r.Host)
	if route == nil {
		return
	}
	at, ok := v.of.Load(route.Host)
	if !ok {
		if v.count.Load() > int64(now.Len()+spareVisits) {
			v.forget(now)
		}
		if at, ok = v.of.LoadOrStore(route.Host, &visit{}); !ok {
			v.count.Add(1)
		}
	}
	one := at.(*visit)
	one.count.Add(1)
	one.last.Store(r.Start.Add(r.Took).UnixNano())
	switch r.Result {
	case proxy.Unreachable, proxy.SlowBackend, proxy.BrokenByVM, proxy.Forbidden:
		one.errors.Add(1)
	}
}

func (v *visits) begin() { v.since.Do(func() { v.start.Store(time.Now().UnixNano()) }) }

// forget drops those of routes that have gone.
func (v *visits) forget(now *routes.Snapshot) {
	v.of.Range(func(host, _ any) bool {
		if now.Get(host.(string)) == nil {
			if _, there := v.of.LoadAndDelete(host); there {
				v.count.Add(-1)
			}
		}
		return true
	})
}

// get is what the page shows.
func (v *visits) get(host string) (out page.Visits, ok bool) {
	v.begin()
	out.Since = time.Unix(0, v.start.Load())
	if at, ok := v.of.Load(host); ok {
		one := at.(*visit)
		out.Count, out.Errors = uint64(one.count.Load()), uint64(one.errors.Load())
		out.Last = time.Unix(0, one.last.Load())
	}
	return out, true
}
