package visits

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"sync"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// Config is what an [Exchange] is told. Node is required.
type Config struct {
	// Store is what nodes share; nil: this process has it alone, and its own figures
	// are all there are.
	Store store.Store
	Node  string
	// Counter is what is told to others; nil: this process serves no visitors.
	Counter *Counter
	// Hosts are those of a project. It is needed with Store and Counter, as is Nodes,
	// which says how many there are.
	Hosts func(project string) iter.Seq[string]
	Nodes func() int
}

// Exchange tells others what this node has counted, if they ask, and asks them. Its
// methods may be called from many goroutines.
type Exchange struct {
	c       Config
	times   times
	process string      // what follows the project in its keys; of no other process
	begin   chan string // projects that somebody began to look at

	mu    sync.Mutex
	looks map[string]*look // by project
}

// times are what tests shorten.
type times struct {
	every  time.Duration // between reports on a project, at least
	linger time.Duration // after the last look: others are not asked any more
	retry  time.Duration // first wait after an error, at most; doubled up to longest
	long   time.Duration
}

var usualTimes = times{every: 10 * time.Second, linger: 30 * time.Second, retry: 200 * time.Millisecond, long: 10 * time.Second}

// again calls f until it is done or ctx ends, after longer and longer pauses, which
// begin anew when f has heard of the store. That the store is away is the mirror's to
// tell.
func (t *times) again(ctx context.Context, f func(heard func()) (done bool)) {
	for wait := t.retry; ; wait = min(2*wait, t.long) {
		heard := false
		if f(func() { heard = true }) {
			return
		}
		if heard {
			wait = t.retry
		}
		if !sleepUpTo(ctx, wait) {
			return
		}
	}
}

// maxLooks is how many projects a process looks at at a time. For others it has its
// own figures only.
const maxLooks = 100

// look is a project that somebody looks at.
type look struct {
	at      time.Time          // the last time
	reports map[string]*report // of other processes, by key
}

// New makes one. Of others, it hears while [Exchange.Run] runs.
func New(c Config) *Exchange {
	return &Exchange{c: c, times: usualTimes, process: c.Node + "/" + rand.Text()[:8], begin: make(chan string, maxLooks), looks: map[string]*look{}}
}

// Run tells and asks others until ctx ends. Keys that are announced then go when the
// store is closed.
func (x *Exchange) Run(ctx context.Context) {
	if x.c.Store == nil {
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	if x.c.Counter != nil {
		all.Go(func() { newPublisher(x).run(ctx) })
	}
	for {
		select {
		case project := <-x.begin:
			all.Go(func() { x.follow(ctx, project) })
		case <-ctx.Done():
			return
		}
	}
}

// Of gives what is known of a project's visits. Who shows it asks again and again:
// what others say comes a little later.
func (x *Exchange) Of(project string) Summary {
	if x.c.Store == nil {
		return sum(x.c.Node, x.c.Counter, nil)
	}
	x.mu.Lock()
	l := x.looks[project]
	if l == nil && len(x.looks) < maxLooks {
		l = &look{}
		x.looks[project] = l
		x.begin <- project // there is a place for each look
	}
	var others []*report
	if l != nil {
		l.at = time.Now()
		for _, r := range l.reports {
			others = append(others, r)
		}
	}
	x.mu.Unlock()
	return sum(x.c.Node, x.c.Counter, others)
}

// unseen tells whether nobody has looked for a while.
func (x *Exchange) unseen(l *look) bool { return time.Since(l.at) > x.times.linger }

// follow asks all nodes for a project's visits for as long as somebody looks.
func (x *Exchange) follow(ctx context.Context, project string) {
	x.mu.Lock()
	l := x.looks[project]
	x.mu.Unlock()
	want := &said{store: x.c.Store, key: catalog.WantedKey(project, x.process)}
	x.times.again(ctx, func(heard func()) bool {
		err := x.listen(ctx, project, l, want, heard)
		// If the key can't be removed, that is tried again: all nodes go on for it.
		return errors.Is(err, errUnseen) && want.remove(ctx) == nil && x.forget(project, l)
	})
}

// forget ends a look, unless somebody has just looked again.
func (x *Exchange) forget(project string, l *look) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.unseen(l) {
		return false
	}
	delete(x.looks, project)
	return true
}

var errUnseen = errors.New("nobody looks any more")

// listen keeps what others say until nobody looks any more, or something is wrong.
func (x *Exchange) listen(ctx context.Context, project string, l *look, want *said, heard func()) error {
	seen := func() error {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.unseen(l) {
			return errUnseen
		}
		return nil
	}
	if err := seen(); err != nil {
		return err
	}
	if err := want.set(ctx, []byte("{}")); err != nil {
		return err
	}
	prefix := catalog.VisitsPrefix(project)
	own := prefix + x.process // is nearer at hand, and newer
	all := map[string]*report{}
	take := func(e store.Entry) error {
		if e.Key == own {
			return nil
		}
		delete(all, e.Key)
		if v, err := catalog.DecodeVisits(e); err == nil { // or it is of a newer version
			all[e.Key] = newReport(v)
		}
		return nil
	}
	revision, err := x.c.Store.List(ctx, prefix, take)
	if err != nil {
		return err
	}
	x.mu.Lock()
	l.reports = all
	x.mu.Unlock()
	return x.c.Store.Watch(ctx, prefix, revision, func(changes []store.Change, _ store.Revision) error {
		heard()
		x.mu.Lock()
		for _, c := range changes {
			if c.Gone {
				delete(all, c.Key)
			} else {
				_ = take(c.Entry)
			}
		}
		x.mu.Unlock()
		return seen()
	})
}
