package routesync

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/etcd"
)

// Watchers is what simulated nodes cost one member of etcd. Each has a connection
// of its own, watches what nodes watch (routes, and who wants visits), and announces
// itself.
type Watchers struct {
	N       int     `json:"n"`
	Changes int     `json:"changes"`
	Last    float64 `json:"last_seconds"` // median, from a commit's answer to the last watcher that is told
	Worst   float64 `json:"worst_seconds"`
	Idle    float64 `json:"idle_cpu"`     // of a CPU, for each watcher that only lives
	Change  float64 `json:"change_cpu"`   // CPU seconds of the member for each change and watcher
	Memory  float64 `json:"memory_bytes"` // of the member for each watcher
}

const (
	watcherChanges = 50
	idleWindow     = 10 * time.Second
	connecting     = 50 // at once
)

// simulate connects n watchers to one member.
func (w *World) simulate(ctx context.Context, n int) (*Watchers, error) {
	m := w.Etcd.Members[0]
	f := &fleet{told: make(chan store.Revision, n)}
	defer f.close()
	writer, err := etcd.Open(f.config(w, m))
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	before, err := look(m)
	if err != nil {
		return nil, err
	}
	r := &Watchers{N: n, Changes: watcherChanges}
	alone, err := f.changes(ctx, writer, m, 0)
	if err != nil {
		return nil, err
	}
	if err := f.connect(ctx, w, m, n); err != nil {
		return nil, err
	}
	full, err := look(m)
	if err != nil {
		return nil, err
	}
	r.Memory = float64(full.memory-before.memory) / float64(n)
	if err := bench.Pause(ctx, idleWindow); err != nil {
		return nil, err
	}
	idle, err := look(m)
	if err != nil {
		return nil, err
	}
	r.Idle = (idle.cpu - full.cpu).Seconds() / idle.at.Sub(full.at).Seconds() / float64(n)
	crowd, err := f.changes(ctx, writer, m, n)
	if err != nil {
		return nil, err
	}
	r.Change = (crowd.cpu - alone.cpu).Seconds() / watcherChanges / float64(n)
	r.Last, r.Worst = percentile(crowd.last, 50), percentile(crowd.last, 100)
	return r, nil
}

// state is a member at one moment.
type state struct {
	at     time.Time
	cpu    time.Duration
	memory int64
}

func look(m *labetcd.Member) (s state, err error) {
	s.at = time.Now()
	if s.cpu, err = bench.CPUOf(m.PID()); err == nil {
		s.memory, err = bench.MemoryOf(m.PID())
	}
	return s, err
}

// fleet is the simulated nodes.
type fleet struct {
	stores []*etcd.Store
	told   chan store.Revision // one for each watcher and change
	watch  context.Context
	end    context.CancelFunc
	wait   sync.WaitGroup
}

func (f *fleet) config(w *World, m *labetcd.Member) etcd.Config {
	return etcd.Config{Endpoints: []string{m.Endpoint()}, Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
		return w.Etcd.Net.Dial(ctx, "tcp6", address)
	}}
}

// connect starts n of them, and waits until all watch.
func (f *fleet) connect(ctx context.Context, w *World, m *labetcd.Member, n int) error {
	f.watch, f.end = context.WithCancel(ctx)
	turn := make(chan struct{}, connecting)
	errs := make(chan error, n)
	var mu sync.Mutex
	for i := range n {
		turn <- struct{}{}
		go func() {
			defer func() { <-turn }()
			s, err := etcd.Open(f.config(w, m))
			if err != nil {
				errs <- err
				return
			}
			mu.Lock()
			f.stores = append(f.stores, s)
			mu.Unlock()
			errs <- f.start(ctx, s, i)
		}()
	}
	var err error
	for range n {
		err = errors.Join(err, <-errs)
	}
	return err
}

// start has a store watch and announce itself, as packages mirror and visits do.
func (f *fleet) start(ctx context.Context, s *etcd.Store, i int) error {
	a, err := s.Announce(ctx, fmt.Sprintf("%swatcher%d", catalog.NodePrefix, i))
	if err != nil {
		return err
	}
	if err := a.Set(ctx, []byte("{}")); err != nil {
		return err
	}
	_, revision, err := s.Get(ctx, catalog.ProjectPrefix+project)
	if err != nil {
		return err
	}
	f.wait.Go(func() {
		_ = s.Watch(f.watch, catalog.WantedPrefix, revision, func([]store.Change, store.Revision) error { return nil })
	})
	ready := make(chan struct{})
	var once sync.Once
	f.wait.Go(func() {
		_ = s.Watch(f.watch, catalog.Serving, revision, func(changes []store.Change, through store.Revision) error {
			once.Do(func() { close(ready) })
			for _, c := range changes {
				if c.Key == probe {
					f.told <- c.Modified
				}
			}
			return nil
		})
	})
	// The first call says up to where it has been told, within seconds.
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(bench.ReadyTime):
		return fmt.Errorf("watcher %d is told nothing", i)
	}
}

// probe is a key that no node understands, and all are told of.
const probe = catalog.Serving + "probe"

// told is what came of some changes.
type told struct {
	cpu  time.Duration // of the member
	last []float64     // seconds until the last of the watchers was told
}

// changes commits one after the other, each when all n watchers know of the last.
func (f *fleet) changes(ctx context.Context, s *etcd.Store, m *labetcd.Member, n int) (t told, err error) {
	before, err := look(m)
	if err != nil {
		return t, err
	}
	for range watcherChanges {
		if _, err := s.Commit(ctx, store.Txn{Put: []store.Put{{Key: probe, Value: make([]byte, 300)}}}); err != nil {
			return t, err
		}
		begin := time.Now()
		for range n {
			select {
			case <-f.told:
			case <-ctx.Done():
				return t, ctx.Err()
			case <-time.After(patience):
				return t, errors.New("not all watchers were told of a change")
			}
		}
		t.last = append(t.last, time.Since(begin).Seconds())
	}
	after, err := look(m)
	t.cpu = after.cpu - before.cpu
	return t, err
}

func (f *fleet) close() {
	if f.end != nil {
		f.end()
	}
	f.wait.Wait()
	for _, s := range f.stores {
		_ = s.Close()
	}
}
