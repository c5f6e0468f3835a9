package routesync

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/perf/lab/labetcd/etcdtest"
	"aarch64.com/isthmus/perf/lab/labtest"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// storm is a world in which things break, while visitors come to every node.
type storm struct {
	*World
	t   *testing.T
	ctx context.Context

	visits, failures atomic.Uint64
	first            atomic.Pointer[string] // failure

	mu      sync.Mutex
	promise map[string]netip.Addr // what the API has acknowledged
	next    int
}

// quota of etcd, in bytes; a member of its own takes some of that.
const quota = 16 << 20

// TestStorm breaks etcd and the way to it in all the ways of operators' nightmares:
// visitors are served all the time, and what the API acknowledged is served by
// every node in the end.
func TestStorm(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	l := labtest.New(t, "storm")
	w, err := New(ctx, l, Config{
		Binary: labtest.Isthmus(t), Nodes: 3,
		Etcd: labetcd.Config{Program: etcdtest.Current(t), Members: 3, Quota: quota},
	})
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &storm{World: w, t: t, ctx: ctx, promise: map[string]netip.Addr{}}
	s.put(w.Nodes[0])
	s.settled()
	stop := s.visitors()
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"partitioned_node", s.partition},
		{"member_killed", func() { s.loseMember(false) }},
		{"leader_killed", func() { s.loseMember(true) }},
		{"compaction_during_disconnect", s.compact},
		{"full", s.full},
		{"all_restarted", s.restart},
		{"node_starts_without_etcd", s.startAlone},
	} {
		t.Run(step.name, func(t *testing.T) {
			s.t = t
			defer func() { s.t = nil }()
			step.do()
			s.settled()
		})
		if t.Failed() {
			break
		}
	}
	stop()
	if n := s.failures.Load(); n > 0 {
		t.Errorf("%d of %d visitors were not served, the first: %s", n, s.visits.Load(), *s.first.Load())
	}
	t.Logf("%d visitors, %d changes acknowledged", s.visits.Load(), len(s.promise))
}

func (s *storm) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// name is a new site's.
func (s *storm) name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return fmt.Sprintf("s%d.%s", s.next, domain)
}

// try puts a new site by a node's API. What that acknowledges is a promise.
func (s *storm) try(n *Node) error {
	host := s.name()
	_, err := n.Put(s.ctx, host, s.VMs[0])
	if err == nil {
		s.mu.Lock()
		s.promise[host] = s.VMs[0]
		s.mu.Unlock()
	}
	return err
}

func (s *storm) put(n *Node) {
	s.t.Helper()
	s.must(s.try(n))
}

// settled waits until every node serves everything that was promised.
func (s *storm) settled() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	for host, vm := range s.promise {
		for _, n := range s.Nodes {
			s.must(n.Until(ctx, host, vm))
		}
	}
}

// visitors come to every node for the first site, which is there all the time.
func (s *storm) visitors() (stop func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	var wait sync.WaitGroup
	for _, n := range s.Nodes {
		wait.Go(func() {
			for ctx.Err() == nil {
				vm, status, err := n.Ask(ctx, "s1."+domain)
				if ctx.Err() != nil {
					return
				}
				s.visits.Add(1)
				if err != nil || vm != s.VMs[0].String() {
					what := fmt.Sprintf("%s: %q, status %d, %v", n.Name, vm, status, err)
					s.first.CompareAndSwap(nil, &what)
					s.failures.Add(1)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return func() { cancel(); wait.Wait() }
}

// cut parts a node from all members, or undoes that. Visitors still reach it, and it
// the VM.
func (s *storm) cut(n *Node, cut bool) {
	s.t.Helper()
	for _, m := range s.Etcd.Members {
		if cut {
			s.must(s.Etcd.Cut(n.Host, m.Host))
		} else {
			s.must(s.Etcd.Mend(n.Host, m.Host))
		}
	}
}

func (s *storm) partition() {
	away := s.Nodes[2]
	s.cut(away, true)
	s.put(s.Nodes[0])
	s.put(s.Nodes[1])
	if err := s.try(away); err == nil {
		s.t.Error("a node without etcd has acknowledged a change")
	}
	if vm, _, err := away.Ask(s.ctx, "s2."+domain); err != nil || vm != "" {
		s.t.Errorf("the node that is cut off answers %q, %v for a new site: it is not cut off", vm, err)
	}
	s.cut(away, false)
}

// loseMember kills a member while changes are made, and starts it again.
func (s *storm) loseMember(leader bool) {
	first, err := s.Etcd.Leader(s.ctx)
	s.must(err)
	victim := first
	if !leader {
		for _, m := range s.Etcd.Members {
			if m != first {
				victim = m
			}
		}
	}
	ctx, cancel := context.WithCancel(s.ctx)
	var wait sync.WaitGroup
	var refused atomic.Uint64
	for _, n := range s.Nodes {
		wait.Go(func() {
			for ctx.Err() == nil {
				if s.try(n) != nil {
					refused.Add(1)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	victim.Kill()
	before := s.promised()
	deadline := time.Now().Add(patience)
	// Changes go on without it.
	for s.promised() < before+20 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	wait.Wait()
	if n := s.promised() - before; n < 20 {
		s.t.Errorf("%d changes were acknowledged after %s had been killed", n, victim.Name())
	}
	s.t.Logf("%d changes acknowledged, %d refused", s.promised(), refused.Load())
	s.must(victim.Start())
}

func (s *storm) promised() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.promise)
}

func (s *storm) compact() {
	away := s.Nodes[1]
	s.cut(away, true)
	for range 5 {
		s.put(s.Nodes[0])
	}
	s.must(s.Etcd.Compact(s.ctx))
	s.put(s.Nodes[2])
	s.cut(away, false)
}

func (s *storm) full() {
	s.must(s.Etcd.Fill(s.ctx))
	if err := s.try(s.Nodes[0]); err == nil {
		s.t.Error("a full store has taken a change")
	} else {
		s.t.Log(err)
	}
	s.settled()
	s.must(s.Etcd.MakeRoom(s.ctx))
	s.put(s.Nodes[0])
}

func (s *storm) restart() {
	for _, m := range s.Etcd.Members {
		m.Kill()
	}
	if err := s.try(s.Nodes[0]); err == nil {
		s.t.Error("a change was acknowledged without etcd")
	}
	s.settled()
	for _, m := range s.Etcd.Members {
		s.must(m.Launch())
	}
	s.must(s.Etcd.WaitReady(s.ctx))
	deadline := time.Now().Add(patience)
	for s.try(s.Nodes[1]) != nil {
		if time.Now().After(deadline) {
			s.t.Fatal("no change is taken after etcd has come back")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// startAlone starts a node that has its disk copy and no etcd. It is a fourth one,
// so that visitors of the others miss nothing.
func (s *storm) startAlone() {
	s.must(s.addNode(len(s.Nodes)))
	late := s.Nodes[len(s.Nodes)-1]
	s.must(late.Start(s.ctx))
	s.settled()
	s.must(late.process.Stop())
	s.cut(late, true)
	s.must(late.Start(s.ctx))
	s.settled()
	s.cut(late, false)
	s.put(s.Nodes[0])
}
