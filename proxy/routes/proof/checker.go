package proof

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// CheckerConfig is what a [Checker] needs.
type CheckerConfig struct {
	Catalog *catalog.Catalog
	Store   store.Store
	DNS     *DNS
	Node    string   // name of this one, which no other has
	POPs    []string // names of the proxies that host names are to lead to

	Parallel  int // looks at the same time, a quarter of them for one project; 0: 32
	PerSecond int // looks that begin in a second; 0: 50
	Log       func(warn bool, message string)
}

// Checker looks at the DNS for all names that need a proof, if no other node does,
// and for single ones when somebody asks.
type Checker struct {
	c      CheckerConfig
	slots  chan struct{} // one for each look at the same time
	urgent chan struct{} // of those that somebody has asked for
	soon   time.Duration // between looks at a new name

	mu      sync.Mutex
	pops    []string
	asked   map[string]*asked
	budgets map[string]*budget
	stats   Stats
}

// Stats is what a checker has done.
type Stats struct {
	Leads  bool // this node looks for all
	Names  int  // that it looks at
	Looks  uint64
	Found  uint64
	Gone   uint64
	Failed uint64 // neither
}

// NewChecker makes one. It does nothing until Run, but for Check.
func NewChecker(c CheckerConfig) *Checker {
	if c.Parallel == 0 {
		c.Parallel = 32
	}
	if c.PerSecond == 0 {
		c.PerSecond = 50
	}
	if c.Log == nil {
		c.Log = func(bool, string) {}
	}
	return &Checker{c: c, pops: c.POPs, soon: soon, slots: make(chan struct{}, c.Parallel), urgent: make(chan struct{}, c.Parallel), asked: map[string]*asked{}, budgets: map[string]*budget{}}
}

// SetPOPs replaces the names of the proxies.
func (k *Checker) SetPOPs(names []string) {
	k.mu.Lock()
	k.pops = names
	k.mu.Unlock()
}

// Stats counts since the start.
func (k *Checker) Stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stats
}

// look looks at one name and notes what it has shown. Gives what is stored now.
func (k *Checker) look(ctx context.Context, p catalog.Proxy) (catalog.Proxy, catalog.Finding, error) {
	f := k.c.DNS.Look(ctx, p.Host, p.Challenge)
	if ctx.Err() != nil {
		return p, f, ctx.Err() // what was not found then, may be there
	}
	k.mu.Lock()
	switch k.stats.Looks++; {
	case f.Found:
		k.stats.Found++
	case f.Gone:
		k.stats.Gone++
	default:
		k.stats.Failed++
	}
	k.mu.Unlock()
	q, err := k.c.Catalog.RecordProof(ctx, p, f)
	if err == nil && q.Proof != p.Proof {
		k.c.Log(q.Proof == catalog.Lost, fmt.Sprintf("%s of project %s is %s, it was %s: %s", p.Host, p.Project, q.Proof, p.Proof, q.Problem))
	}
	return q, f, err
}

// Result is what a look has shown.
type Result struct {
	Proxy  catalog.Proxy // as it is after the look
	TXT    catalog.Finding
	Points Pointing
	At     time.Time
}

// ErrTooOften tells that a project asks for too many looks.
var ErrTooOften = errors.New("too many looks at the DNS; wait a little")

const (
	again      = 5 * time.Second // before that, the last answer is given again
	perProject = 10              // looks at once, and one more in each second
)

// asked is a look that somebody has asked for.
type asked struct {
	done   chan struct{}
	result Result
	err    error
}

// budget is how many looks a project may ask for.
type budget struct {
	left float64
	at   time.Time
}

// Check looks at a name at once, for whoever sits before the page. It may be used on
// any node. Errors: catalog.ErrNotFound, ErrTooOften, those of the store.
func (k *Checker) Check(ctx context.Context, host string) (Result, error) {
	p, err := k.c.Catalog.Proxy(ctx, host)
	if err != nil {
		return Result{}, err
	}
	key := p.Project + " " + host
	k.mu.Lock()
	a := k.asked[key]
	if a != nil && a.ended() && (a.err != nil || time.Since(a.result.At) > again || a.result.Proxy.Revision != p.Revision) {
		a = nil
	}
	if a == nil {
		if !k.spend(p.Project) {
			k.mu.Unlock()
			return Result{}, ErrTooOften
		}
		k.forget()
		a = &asked{done: make(chan struct{})}
		k.asked[key] = a
		go func() {
			// For all who wait for it, so not with the context of one.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.c.DNS.c.Total+5*time.Second)
			defer cancel()
			a.result, a.err = k.check(ctx, p)
			close(a.done)
		}()
	}
	k.mu.Unlock()
	select {
	case <-a.done:
		return a.result, a.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

func (a *asked) ended() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

func (k *Checker) check(ctx context.Context, p catalog.Proxy) (r Result, err error) {
	select {
	case k.urgent <- struct{}{}:
		defer func() { <-k.urgent }()
	case <-ctx.Done():
		return r, ErrTooOften
	}
	k.mu.Lock()
	pops := k.pops
	k.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { r.Points = k.c.DNS.Points(ctx, p.Host, pops) })
	if r.Proxy = p; p.Proof != catalog.Trusted {
		r.Proxy, r.TXT, err = k.look(ctx, p)
	}
	both.Wait()
	r.At = time.Now()
	return r, err
}

// spend takes one look from a project's budget.
func (k *Checker) spend(project string) bool {
	now := time.Now()
	b := k.budgets[project]
	if b == nil {
		b = &budget{perProject, now}
		k.budgets[project] = b
	}
	b.left = min(perProject, b.left+now.Sub(b.at).Seconds())
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// forget drops old answers and full budgets, now and then.
func (k *Checker) forget() {
	const many = 1000
	if len(k.asked) >= many {
		for key, a := range k.asked {
			if a.ended() && time.Since(a.result.At) > again {
				delete(k.asked, key)
			}
		}
	}
	if len(k.budgets) >= many {
		for project, b := range k.budgets {
			if time.Since(b.at) > perProject*time.Second {
				delete(k.budgets, project)
			}
		}
	}
}
