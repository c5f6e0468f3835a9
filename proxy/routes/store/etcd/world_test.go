package etcd_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/perf/lab/labetcd/etcdtest"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/etcd"
	"aarch64.com/isthmus/proxy/routes/store/storetest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a cluster and a host that asks it.
type world struct {
	*labetcd.Cluster
	node *lab.Host
}

func newWorld(t *testing.T, c labetcd.Config) *world {
	t.Helper()
	l := labtest.New(t, "test-store-etcd")
	w := &world{Cluster: etcdtest.Start(t, l, c), node: labtest.Host(t, l, "node")}
	must(t, w.Join(w.node))
	return w
}

// config is what a store on the node needs.
func (w *world) config(prefix string) etcd.Config {
	return etcd.Config{
		Endpoints: w.Endpoints(), Prefix: prefix, Dial: w.node.Dial, User: w.User, Password: w.Password,
		CA: w.Files.CA, Cert: w.Files.Cert, Key: w.Files.Key, TTL: 3 * time.Second,
	}
}

func (w *world) open(t *testing.T, c etcd.Config) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(c)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// within is a context for a whole test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name   string
		config func(*testing.T) labetcd.Config
	}{
		{"debian", func(t *testing.T) labetcd.Config { return labetcd.Config{Program: etcdtest.Debian(t)} }},
		{"current", func(t *testing.T) labetcd.Config {
			return labetcd.Config{Program: etcdtest.Current(t), Members: 3, TLS: true, Auth: true}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.config(t))
			var n atomic.Int64
			storetest.Run(t, func(t *testing.T) storetest.Bed {
				prefix := fmt.Sprintf("/bed%d/", n.Add(1))
				return storetest.Bed{
					Open:   func(t *testing.T) store.Store { return w.open(t, w.config(prefix)) },
					Shared: true,
					Forget: func(t *testing.T, _ store.Store) { must(t, w.Compact(within(t))) },
					Kill:   func(_ *testing.T, s store.Store) { s.(*etcd.Store).Abandon() },
				}
			})
		})
	}
}
