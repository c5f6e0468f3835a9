package proof

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

const (
	lockPrefix = catalog.LockPrefix + "proof/"
	pause      = 5 * time.Second  // after an error of the store
	settling   = 10 * time.Minute // between looks for proofs that do not fit what is trusted
	pruning    = time.Hour
)

// Run looks at all names while no other node does so, until ctx ends. Two nodes that
// both do, for a moment, only do the same work twice.
func (k *Checker) Run(ctx context.Context) error {
	said := "" // the last trouble, so that each is told once
	for ctx.Err() == nil {
		err := k.candidate(ctx)
		if err == nil || ctx.Err() != nil {
			said = ""
			continue
		}
		if err.Error() != said {
			said = err.Error()
			k.c.Log(true, fmt.Sprintf("proofs of host names are not looked at: %v", err))
		}
		sleep(ctx, pause)
	}
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// candidate announces this node, waits until it is the first of those announced, and
// leads until it is not.
func (k *Checker) candidate(ctx context.Context) error {
	key := lockPrefix + k.c.Node
	said, err := k.c.Store.Announce(ctx, key)
	if err != nil {
		return err
	}
	defer said.Close()
	if err := said.Set(ctx, []byte(k.c.Node)); err != nil {
		return err
	}
	e := &election{k: k, key: key}
	if err := e.wait(ctx, true); err != nil {
		return err
	}
	leading, stop := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop(nil)
	all.Go(func() {
		stop(e.wait(leading, false))
	})
	all.Go(func() { k.housework(leading) })
	k.set(func(s *Stats) { s.Leads = true })
	defer k.set(func(s *Stats) { s.Leads, s.Names = false, 0 })
	err = k.lead(leading)
	if ctx.Err() == nil && errors.Is(err, context.Canceled) {
		err = context.Cause(leading)
		if errors.Is(err, context.Canceled) {
			err = nil // another one is first now
		}
	}
	return err
}

func (k *Checker) set(f func(*Stats)) {
	k.mu.Lock()
	f(&k.stats)
	k.mu.Unlock()
}

// housework is what one node does for all besides.
func (k *Checker) housework(ctx context.Context) {
	var pruned time.Time
	for ; ctx.Err() == nil; sleep(ctx, settling) {
		if err := k.c.Catalog.Settle(ctx, catalog.Actor{By: k.c.Node}); err != nil && ctx.Err() == nil {
			k.c.Log(true, fmt.Sprintf("make proofs fit what is trusted: %v", err))
		}
		if time.Since(pruned) < pruning {
			continue
		}
		pruned = time.Now()
		if _, err := k.c.Catalog.Prune(ctx); err != nil && ctx.Err() == nil {
			k.c.Log(true, fmt.Sprintf("remove old records: %v", err))
		}
	}
}

// agenda is which names are looked at when.
type agenda struct {
	mu    sync.Mutex
	queue queue
	items map[string]*item
	busy  map[string]int // looks under way, by project
	most  int            // of them, so that slow name servers of one don't stop all
	wake  chan struct{}  // the first has changed
}

// lead looks at names until ctx ends or the store fails.
func (k *Checker) lead(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &agenda{items: map[string]*item{}, busy: map[string]int{}, most: max(1, k.c.Parallel/4), wake: make(chan struct{}, 1)}
	now := time.Now()
	rev, err := k.c.Store.List(ctx, catalog.ProxyPrefix, func(e store.Entry) error {
		k.plan(a, e, now)
		return nil
	})
	if err != nil {
		return err
	}
	watched := make(chan error, 1)
	var looks sync.WaitGroup
	defer looks.Wait()
	looks.Go(func() {
		watched <- k.c.Store.Watch(ctx, catalog.ProxyPrefix, rev, func(changes []store.Change, _ store.Revision) error {
			for _, c := range changes {
				if c.Gone {
					a.remove(strings.TrimPrefix(c.Key, catalog.ProxyPrefix))
				} else {
					k.plan(a, c.Entry, time.Now())
				}
			}
			k.set(func(s *Stats) { s.Names = a.len() })
			return nil
		})
	})
	k.set(func(s *Stats) { s.Names = a.len() })
	pace := time.NewTicker(time.Second / time.Duration(k.c.PerSecond))
	defer pace.Stop()
	for {
		host, project, wait := a.due(time.Now())
		if host != "" {
			select {
			case k.slots <- struct{}{}:
			case err := <-watched:
				return err
			}
			looks.Go(func() {
				k.turn(ctx, a, host, project)
				a.end(project)
				<-k.slots
			})
			select {
			case <-pace.C:
				continue
			case err := <-watched:
				return err
			}
		}
		select {
		case <-time.After(wait):
		case <-a.wake:
		case err := <-watched: // ErrCompacted as well: the list is read again
			return err
		}
	}
}

// plan puts a name in the agenda, as its record says.
func (k *Checker) plan(a *agenda, e store.Entry, now time.Time) {
	p, err := catalog.DecodeProxy(e)
	if err != nil {
		k.c.Log(true, err.Error())
		return
	}
	at, ever := next(&p, now, k.soon)
	if !ever {
		a.remove(p.Host)
		return
	}
	a.put(p.Host, p.Project, at)
}

// turn looks at one name and puts it back.
func (k *Checker) turn(ctx context.Context, a *agenda, host, project string) {
	p, err := k.c.Catalog.Proxy(ctx, host)
	if err == nil && p.Proof != catalog.Trusted {
		p, _, err = k.look(ctx, p)
	}
	switch {
	case errors.Is(err, catalog.ErrNotFound), ctx.Err() != nil:
		return // the watch tells if there is one again
	case err != nil:
		k.c.Log(true, fmt.Sprintf("look at the proof of %s: %v", host, err))
		a.put(host, project, time.Now().Add(jitter(hourly)))
		return
	}
	if at, ever := next(&p, time.Now(), k.soon); ever {
		a.put(host, p.Project, at)
	}
}

func (a *agenda) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.items)
}

func (a *agenda) put(host, project string, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := a.items[host]
	if i == nil {
		i = &item{host: host, pos: -1}
		a.items[host] = i
	}
	if i.project, i.at = project, at; i.pos < 0 {
		heap.Push(&a.queue, i)
	} else {
		heap.Fix(&a.queue, i.pos)
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *agenda) remove(host string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := a.items[host]; i != nil {
		if delete(a.items, host); i.pos >= 0 {
			heap.Remove(&a.queue, i.pos)
		}
	}
}

// due takes the first name out of the queue if it is time, or tells how long to wait.
// Who takes it says so when the look has ended.
func (a *agenda) due(now time.Time) (host, project string, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.queue) > 0 {
		i := a.queue[0]
		if wait = i.at.Sub(now); wait > 0 {
			return "", "", wait
		}
		if a.busy[i.project] < a.most {
			heap.Pop(&a.queue)
			a.busy[i.project]++
			return i.host, i.project, 0
		}
		i.at = now.Add(jitter(pause))
		heap.Fix(&a.queue, 0)
	}
	return "", "", pruning
}

// end notes that a look has ended.
func (a *agenda) end(project string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[project]--; a.busy[project] == 0 {
		delete(a.busy, project)
	}
}
