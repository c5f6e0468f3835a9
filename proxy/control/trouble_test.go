package control

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/client"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// failing is a store that fails when it is told to.
type failing struct {
	store.Store
	reads, commits atomic.Pointer[error]
}

func (f *failing) Get(ctx context.Context, keys ...string) (map[string]store.Entry, store.Revision, error) {
	if err := f.reads.Load(); err != nil {
		return nil, 0, *err
	}
	return f.Store.Get(ctx, keys...)
}

func (f *failing) Commit(ctx context.Context, t store.Txn) (store.Revision, error) {
	if err := f.commits.Load(); err != nil {
		return 0, *err
	}
	return f.Store.Commit(ctx, t)
}

// fail has the server's store be one that can fail.
func (w *world) fail() *failing {
	w.t.Helper()
	f := &failing{Store: w.store}
	c := w.config
	c.Catalog = catalog.New(f, catalog.Options{VMs: []netip.Prefix{vms}})
	c.Guard = access.New(c.Catalog, access.Limits{PerSecond: -1, Burst: -1, Failures: -1})
	if err := w.server.Update(c); err != nil {
		w.t.Fatal(err)
	}
	return f
}

const etcdAt = "etcd at https://etcd1.internal:2379"

// detail is what an answer says. Only operators read where the store is.
func (w *world) detail(r *reply, status int, want string, operator bool) {
	w.t.Helper()
	d := w.problemOf(w.want(r, status)).Detail
	if !strings.Contains(d, want) || strings.Contains(d, "etcd") != operator {
		w.t.Errorf("%s: %q", r.Request.URL.Path, d)
	}
}

// Why a store does not answer is said, with addresses to operators only.
func TestWhyTheStoreIsAway(t *testing.T) {
	w := newWorld(t)
	f := w.fail()
	why := fmt.Errorf("%w: commit, %s: connection refused", store.ErrUnavailable, etcdAt)
	f.commits.Store(&why)
	const trust, toShop = "/api/v1/trusts/shop.example", `{"project": "shop"}`
	w.detail(w.ask("PUT", shopProxy, w.shop, toVM), 503, "the store can't be reached", false)
	w.detail(w.ask("PUT", trust, w.operator, toShop), 503, etcdAt+": connection refused", true)

	// Whether a token is good can't be told any more: what it was is enough for this.
	f.reads.Store(&why)
	w.eventually("asked the store again", func() bool {
		return w.ask("GET", "/api/v1/me", w.shop, "").StatusCode == 503 && w.ask("GET", "/api/v1/me", w.operator, "").StatusCode == 503
	})
	w.detail(w.ask("GET", "/api/v1/me", w.shop, ""), 503, "the store can't be reached", false)
	w.detail(w.ask("GET", "/api/v1/me", w.operator, ""), 503, etcdAt+": connection refused", true)
	w.detail(w.ask("GET", "/api/v1/me", w.blog, ""), 503, "the store can't be reached", false) // never seen

	c := w.dial(client.Options{URL: "unix:" + w.socket()})
	if _, _, err := c.PutProxy(t.Context(), "shop", "www.shop.example", wire.PutProxy{Backends: []netip.Addr{netip.MustParseAddr("2001:db8:64::2")}}, client.If{}); err == nil || !strings.Contains(err.Error(), etcdAt+": connection refused") {
		t.Errorf("over the control socket: %v", err)
	}
}

// A store that is full is no secret. Where it is, and what to do there, is.
func TestStoreFull(t *testing.T) {
	w := newWorld(t)
	f := w.fail()
	why := fmt.Errorf("%w: commit, %s: database space exceeded; compact (etcdctl)", store.ErrFull, etcdAt)
	f.commits.Store(&why)
	w.detail(w.ask("PUT", shopProxy, w.shop, toVM), 507, "the store is full; nothing has been changed", false)
	w.detail(w.ask("PUT", shopProxy, w.operator, toVM), 507, etcdAt+": database space exceeded", true)
	c := w.dial(client.Options{URL: "unix:" + w.socket()})
	if _, _, err := c.PutProxy(t.Context(), "shop", "www.shop.example", wire.PutProxy{Backends: []netip.Addr{netip.MustParseAddr("2001:db8:64::2")}}, client.If{}); err == nil || !strings.Contains(err.Error(), etcdAt) {
		t.Errorf("over the control socket: %v", err)
	}
}
