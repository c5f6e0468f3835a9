package visits

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// What all nodes together write at most, however many projects are looked at. A
// store keeps what is overwritten until it compacts: of an hour, that is 360 MB, of
// etcd's 2 GB.
const (
	bytesPerSecond = 100_000
	perKey         = 256        // bytes that a write costs besides its value: key, lease, index
	seconds        = 20         // that one report may take of a node's share
	smallest       = 4 << 10    // bytes of a report that fit in any case
	first          = 4 * perKey // bytes of a small report, over whose time first ones are spread
)

// publisher tells others what this node has counted, for the projects they want.
type publisher struct {
	x       *Exchange
	own     map[string]*publication // by project
	changed chan struct{}           // wanted has

	mu     sync.Mutex
	wanted map[string]bool // projects
}

// publication is what is told of a project.
type publication struct {
	said   said
	wanted bool
	due    time.Time
	last   []byte // what the store has; nil: it is not known
}

func newPublisher(x *Exchange) *publisher {
	return &publisher{x: x, own: map[string]*publication{}, changed: make(chan struct{}, 1)}
}

func (p *publisher) run(ctx context.Context) {
	var watch sync.WaitGroup
	watch.Go(func() { p.watch(ctx) })
	p.write(ctx)
	watch.Wait()
}

// watch knows what is wanted. While the store is away, that is what was wanted before.
func (p *publisher) watch(ctx context.Context) {
	p.x.times.again(ctx, func(heard func()) bool {
		_ = p.session(ctx, heard)
		return false
	})
}

func (p *publisher) session(ctx context.Context, heard func()) error {
	keys := map[string]bool{}
	revision, err := p.x.c.Store.List(ctx, catalog.WantedPrefix, func(e store.Entry) error {
		keys[e.Key] = true
		return nil
	})
	if err != nil {
		return err
	}
	p.want(keys)
	return p.x.c.Store.Watch(ctx, catalog.WantedPrefix, revision, func(changes []store.Change, _ store.Revision) error {
		heard()
		for _, c := range changes {
			if keys[c.Key] = true; c.Gone {
				delete(keys, c.Key)
			}
		}
		if len(changes) > 0 {
			p.want(keys)
		}
		return nil
	})
}

func (p *publisher) want(keys map[string]bool) {
	wanted := map[string]bool{}
	for key := range keys {
		wanted[catalog.WantedProject(key)] = true
	}
	p.mu.Lock()
	p.wanted = wanted
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// write writes what is due, one after the other.
func (p *publisher) write(ctx context.Context) {
	const never = time.Hour
	var free time.Time // when this node may write again
	turn := time.NewTimer(never)
	defer turn.Stop()
	for {
		project, at := p.next()
		switch {
		case project == "":
			turn.Reset(never)
		case at.Before(free):
			turn.Reset(time.Until(free))
		default:
			turn.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
			p.take(time.Now())
			continue
		case <-turn.C:
		}
		if project != "" {
			cost := p.do(ctx, project)
			free = time.Now().Add(p.share(cost))
		}
	}
}

// next is the project whose turn it is, and when; "": none.
func (p *publisher) next() (project string, at time.Time) {
	for name, k := range p.own {
		if project == "" || k.due.Before(at) {
			project, at = name, k.due
		}
	}
	return project, at
}

// take begins what is newly wanted and ends what is not wanted any more, not at the
// same time as all other nodes.
func (p *publisher) take(now time.Time) {
	p.mu.Lock()
	wanted := p.wanted
	p.mu.Unlock()
	soon := func() time.Time { return now.Add(rand.N(max(p.share(first), 1))) }
	for name := range wanted {
		k := p.own[name]
		if k == nil {
			k = &publication{said: said{store: p.x.c.Store, key: catalog.VisitsPrefix(name) + p.x.process}}
			p.own[name] = k
		}
		if !k.wanted {
			k.wanted, k.due = true, soon()
		}
	}
	for name, k := range p.own {
		if k.wanted && !wanted[name] {
			k.wanted, k.due = false, soon()
		}
	}
}

// share is how long a node pauses after a write of so many bytes.
func (p *publisher) share(cost int) time.Duration {
	return time.Second * time.Duration(cost*max(p.x.c.Nodes(), 1)) / bytesPerSecond
}

// most is how large a report may be, so that one project does not keep the others
// waiting.
func (p *publisher) most() int {
	return min(max(seconds*bytesPerSecond/max(p.x.c.Nodes(), 1), smallest), store.MaxValue)
}

// do writes or removes what is told of a project, and gives what that cost.
func (p *publisher) do(ctx context.Context, project string) (cost int) {
	k := p.own[project]
	every := p.x.times.every
	k.due = time.Now().Add(every + rand.N(every/4))
	if !k.wanted {
		if k.said.remove(ctx) == nil {
			delete(p.own, project)
		}
		return perKey
	}
	value := p.x.c.Counter.report(p.x.c.Node, p.x.c.Hosts(project)).Encode(p.most())
	if bytes.Equal(value, k.last) {
		return 0
	}
	if k.last = value; k.said.set(ctx, value) != nil {
		k.last = nil
	}
	return len(value) + perKey
}
