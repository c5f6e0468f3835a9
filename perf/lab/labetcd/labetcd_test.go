package labetcd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/perf/lab/labetcd/etcdtest"
	"aarch64.com/isthmus/perf/lab/labtest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func client(t *testing.T, c *labetcd.Cluster, members ...*labetcd.Member) *clientv3.Client {
	t.Helper()
	client, err := c.Client(members...)
	must(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// other is a member that is not m.
func other(c *labetcd.Cluster, m *labetcd.Member) *labetcd.Member {
	for _, o := range c.Members {
		if o != m {
			return o
		}
	}
	return nil
}

func TestCluster(t *testing.T) {
	c := etcdtest.Start(t, labtest.New(t, "test-labetcd"), labetcd.Config{Program: etcdtest.Current(t), Members: 3})
	ctx := within(t)
	all := client(t, c)
	put := func(key string) {
		t.Helper()
		_, err := all.Put(ctx, key, "value")
		must(t, err)
	}
	put("before")
	leader, err := c.Leader(ctx)
	must(t, err)

	// A killed leader is replaced, and finds its data again.
	leader.Kill()
	if leader.Running() {
		t.Error("a killed member runs")
	}
	next, err := c.Leader(ctx)
	must(t, err)
	if next == leader {
		t.Error("a killed member leads")
	}
	for { // the client has to notice, too
		if _, err := all.Put(ctx, "meanwhile", "value"); err == nil {
			break
		}
	}
	must(t, leader.Start())
	r, err := client(t, c, leader).Get(ctx, "meanwhile")
	must(t, err)
	if len(r.Kvs) != 1 {
		t.Error("the member that came back lacks what was written meanwhile")
	}

	// An isolated one loses its leader, the others go on.
	alone, rest := next, other(c, next)
	must(t, c.Isolate(alone.Host))
	for {
		_, err := client(t, c, alone).Get(clientv3.WithRequireLeader(ctx), "before", clientv3.WithSerializable())
		if errors.Is(err, rpctypes.ErrNoLeader) || err != nil && strings.Contains(err.Error(), rpctypes.ErrNoLeader.Error()) {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("an isolated member still has a leader: %v", err)
		}
	}
	if leader, err := c.Leader(ctx); err != nil || leader == alone {
		t.Errorf("leader of the rest: %v", err)
	}
	_, err = client(t, c, rest).Get(ctx, "before")
	must(t, err)
	must(t, c.Rejoin(alone.Host))
	must(t, c.WaitReady(ctx))

	// A frozen one says nothing.
	must(t, rest.Freeze())
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := rest.Status(short); err == nil {
		t.Error("a frozen member answers")
	}
	must(t, rest.Thaw())
	must(t, c.WaitReady(ctx))

	// All of it, once over.
	for _, m := range c.Members {
		m.Stop()
	}
	for _, m := range c.Members {
		must(t, m.Launch())
	}
	must(t, c.WaitReady(ctx))
	put("after")
	revision, err := c.Revision(ctx)
	must(t, err)
	must(t, c.Compact(ctx))
	if _, err := all.Get(ctx, "before", clientv3.WithRev(revision-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("before the compaction: %v", err)
	}
}

// A full cluster with TLS and passwords takes nothing until there is room.
func TestFull(t *testing.T) {
	for _, of := range []struct {
		name    string
		program func(testing.TB) string
	}{{"debian", etcdtest.Debian}, {"current", etcdtest.Current}} {
		t.Run(of.name, func(t *testing.T) {
			c := etcdtest.Start(t, labtest.New(t, "test-labetcd"), labetcd.Config{
				Program: of.program(t), TLS: true, Auth: true, Quota: 8 << 20,
			})
			ctx := within(t)
			all := client(t, c)
			must(t, c.Fill(ctx))
			if _, err := all.Put(ctx, "key", "value"); !errors.Is(err, rpctypes.ErrNoSpace) {
				t.Errorf("full: %v", err)
			}
			must(t, c.MakeRoom(ctx))
			_, err := all.Put(ctx, "key", "value")
			must(t, err)
			c.User, c.Password = "", ""
			if _, err := client(t, c).Get(ctx, "key"); err == nil {
				t.Error("no password is needed")
			}
		})
	}
}
