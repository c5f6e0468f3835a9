package mirror

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// Config is what a [Mirror] is told. Open is required; the zero value of all else
// is its default.
type Config struct {
	// Open opens the store, or gives one that is open. It is called until it
	// succeeds, and may take long: routes from the disk are served meanwhile. The
	// mirror does not close the store.
	Open func(context.Context) (store.Store, error)
	// Disk is the file of the last copy, in a directory that only this node writes
	// to; "": none is kept, and a start without the store is one without routes.
	Disk string
	// Table gets the routes, in the layer [routes.Shared]; nil: nobody does.
	Table *routes.Table
	// Reach is held against backends; nil: projects' prefixes decide alone.
	Reach routes.Reach
	// Node is announced, with what has been applied. Without a name it is not.
	Node catalog.Node
	// Reconcile is how often the copy is compared with the store; 1 minute.
	Reconcile time.Duration
	// Log gets what an operator should know.
	Log func(warn bool, message string)
}

// Mirror is a copy of what the store has for serving.
type Mirror struct {
	config Config
	times  times
	view   atomic.Pointer[View]
	ready  chan struct{} // closed when something has been read

	mu      sync.Mutex
	reach   routes.Reach
	routes  *routes.Snapshot
	points  points
	lag     Lag
	stats   Stats
	nodes   int
	changed chan struct{}           // closed with the next view
	need    need                    // why the next session begins with a list
	stop    context.CancelCauseFunc // ends the watch that is on; nil: none
	trouble trouble
	muted   time.Time // until then a difference is no reason to list

	tallied  chan store.Entry // the newest tally
	announce chan struct{}    // there is something to announce
	disk     disk
}

// times are what tests shorten.
type times struct {
	silence   time.Duration // without a word from the watch: it is taken for dead
	retry     time.Duration // first wait, at most; doubled up to longest
	longest   time.Duration
	doubt     time.Duration // between looks for an operator's word
	diskEvery time.Duration // between writes of the disk copy, at least
	catchUp   time.Duration // for a watch to tell what has been committed
	mute      time.Duration // after a difference that turned out to be none
}

var usualTimes = times{
	silence: 15 * time.Second, retry: 200 * time.Millisecond, longest: 10 * time.Second, doubt: 10 * time.Second,
	diskEvery: 5 * time.Second, catchUp: 10 * time.Second, mute: 10 * time.Minute,
}

// New makes a mirror of what is on the disk; [Mirror.Run] brings it up to date. The
// routes are in the table when it returns.
func New(c Config) *Mirror {
	if c.Table == nil {
		c.Table = &routes.Table{}
	}
	if c.Reconcile == 0 {
		c.Reconcile = time.Minute
	}
	if c.Log == nil {
		c.Log = func(bool, string) {}
	}
	m := &Mirror{
		config: c, times: usualTimes, reach: c.Reach, routes: &routes.Snapshot{}, ready: make(chan struct{}), changed: make(chan struct{}),
		need: needFirst, tallied: make(chan store.Entry, 1), announce: make(chan struct{}, 1), stats: Stats{Since: time.Now()},
		disk: disk{path: c.Disk, log: c.Log, wake: make(chan struct{}, 1)},
	}
	m.view.Store(nothing)
	if copied, ok := m.disk.load(); ok {
		m.apply(copied.changes(), copied.revision, true)
		m.loaded(FromDisk)
		counts := m.View().Counts()
		c.Log(false, fmt.Sprintf("routes: %d of the store from %s (revision %d of %s)",
			counts.Proxies[Served], c.Disk, copied.revision, copied.written.Format(time.DateTime)))
	}
	return m
}

// Run follows the store until ctx ends. It returns when the disk has what is in
// force.
func (m *Mirror) Run(ctx context.Context) {
	var wait sync.WaitGroup
	wait.Go(func() { m.disk.run(ctx, m.times.diskEvery, m.View) })
	if s := m.open(ctx); s != nil {
		wait.Go(func() { m.announcer(ctx, s) })
		wait.Go(func() { m.tallies(ctx, s) })
		m.follow(ctx, s)
	}
	wait.Wait()
	m.disk.flush(m.View())
}

// View is what has been applied. It never changes.
func (m *Mirror) View() *View { return m.view.Load() }

// Ready is closed when there is something to serve by, from the disk or the store.
func (m *Mirror) Ready() <-chan struct{} { return m.ready }

// WaitFor returns when the changes of a revision are in force, or with the error of
// ctx. Those of keys that are not below [catalog.Serving] are noticed some seconds
// later. While there is doubt about the store, nothing of it is in force.
func (m *Mirror) WaitFor(ctx context.Context, r store.Revision) error {
	for {
		m.mu.Lock()
		changed, v, believed := m.changed, m.View(), m.stats.Doubt == ""
		m.mu.Unlock()
		if believed && v.Revision >= r {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// SetReach replaces the rule for backends, and holds all proxies against it.
func (m *Mirror) SetReach(reach routes.Reach) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reach = reach
	e := newEdit(m.View(), reach)
	e.rejudge()
	m.use(e, m.View().Revision)
	wake(m.announce)
}

// apply makes changes hold, all up to a revision. Those of a list are told to be so,
// for they are not in the order of revisions.
func (m *Mirror) apply(changes []store.Change, through store.Revision, listed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.View()
	if len(changes) == 0 && !listed {
		m.publish(was.at(through))
		return
	}
	e := newEdit(was, m.reach)
	for _, c := range changes {
		e.take(c)
	}
	v := m.use(e, through)
	if listed {
		m.points.reset(point{through, v.sum})
	} else {
		m.points.add(e.points)
		m.lag.observe(e.lags, time.Now())
	}
	if now := v.last[lastTally]; now.Modified != was.last[lastTally].Modified && now.Value != nil {
		select { // only the newest counts
		case <-m.tallied:
		default:
		}
		m.tallied <- now
		if len(changes) == 1 {
			return
		}
	}
	wake(m.announce)
	wake(m.disk.wake)
}

// use makes what an edit gives hold: in the table first, so that whoever waits for
// a revision finds it served.
func (m *Mirror) use(e *edit, through store.Revision) *View {
	v := e.finish(through)
	if len(e.routes) > 0 {
		m.routes = m.routes.With(uint64(through), e.routes...)
		m.config.Table.Put(routes.Shared, m.routes)
	}
	m.publish(v)
	return v
}

func (m *Mirror) publish(v *View) {
	m.view.Store(v)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Mirror) loaded(from Origin) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stats.Loaded == Nowhere {
		close(m.ready)
	}
	m.stats.Loaded = from
}

// wake tells a goroutine that there is something to do, which it may know already.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
