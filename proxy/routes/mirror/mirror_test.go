package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

func value(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func projectPut(name string, prefixes ...string) store.Put {
	p := catalog.Project{Name: name, Title: "The " + strings.ToUpper(name)}
	for _, x := range prefixes {
		p.Prefixes = append(p.Prefixes, netip.MustParsePrefix(x))
	}
	return store.Put{Key: catalog.ProjectPrefix + name, Value: value(p)}
}

func proxyOf(project, host string, port uint16) catalog.Proxy {
	return catalog.Proxy{
		Meta: catalog.Meta{Changed: time.Now()}, Host: host, Project: project, Backends: []netip.Addr{vm(project)}, HTTP: port, Header: "off", Proof: catalog.Proven,
	}
}

func proxyPut(project, host string, port uint16) store.Put {
	return store.Put{Key: catalog.ProxyPrefix + host, Value: value(proxyOf(project, host, port))}
}

func TestFollow(t *testing.T) {
	w := newWorld(t)
	first := w.proxy("shop", "www.shop.example")
	n := w.start("a", nil)
	<-n.Ready()
	n.at(first)
	r := n.table.Load().Lookup("www.shop.example")
	if r == nil || r.Project != "shop" || r.HTTP != 80 || r.Backends[0] != vm("shop") {
		t.Fatalf("route %+v", r)
	}
	n.at(w.put(proxyPut("shop", "*.shop.example", 81), proxyPut("blog", "blog.example", 80)))
	for host, ok := range map[string]bool{"x.shop.example": true, "shop.example": false, "x.y.shop.example": false, "blog.example": true} {
		if n.has(host) != ok {
			t.Errorf("%s: %v", host, !ok)
		}
	}
	if n.table.Load().Lookup("www.shop.example") != r {
		t.Error("a route that has not changed is another one")
	}
	n.at(w.remove(catalog.ProxyPrefix + "www.shop.example"))
	if got := n.table.Load().Lookup("www.shop.example"); got == nil || got.Host != "*.shop.example" {
		t.Errorf("after the exact name has gone: %+v", got)
	}
	s := n.Stats()
	if !s.Up || s.Loaded != FromStore || s.Counts.Proxies[Served] != 2 || s.Counts.Projects != 2 || s.Relists != 0 || s.Applied < first {
		t.Errorf("figures %+v", s)
	}
	if total := sumOf(s.Lag.Counts[:]); total != 2 {
		t.Errorf("%d changes have a lag, want the 2 that came by the watch: %+v", total, s.Lag)
	}
}

func sumOf(list []uint64) (n uint64) {
	for _, x := range list {
		n += x
	}
	return n
}

func TestReasons(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", nil)
	change := func(f func(p *catalog.Proxy)) store.Put {
		p := proxyOf("shop", "www.shop.example", 80)
		f(&p)
		return store.Put{Key: catalog.ProxyPrefix + p.Host, Value: value(p)}
	}
	for _, c := range []struct {
		name string
		put  store.Put
		want Reason
	}{
		{"served", change(func(*catalog.Proxy) {}), Served},
		{"off", change(func(p *catalog.Proxy) { p.Off = true }), Off},
		{"pending", change(func(p *catalog.Proxy) { p.Proof = catalog.Pending }), Unproven},
		{"lost", change(func(p *catalog.Proxy) { p.Proof = catalog.Lost }), Unproven},
		{"trusted", change(func(p *catalog.Proxy) { p.Proof = catalog.Trusted }), Served},
		{"no project", change(func(p *catalog.Proxy) { p.Project = "nobody" }), NoProject},
		{"another project's VM", change(func(p *catalog.Proxy) { p.Backends[0] = vm("blog") }), Unreachable},
		{"not reached", change(func(p *catalog.Proxy) { p.Backends[0] = netip.MustParseAddr("2001:db8:64:ffff::2") }), Unreachable},
		{"not JSON", store.Put{Key: catalog.ProxyPrefix + "www.shop.example", Value: []byte("{")}, Broken},
		{"another host", store.Put{Key: catalog.ProxyPrefix + "www.shop.example", Value: value(proxyOf("shop", "other.example", 80))}, Broken},
		{"served again", change(func(*catalog.Proxy) {}), Served},
	} {
		n.at(w.put(c.put))
		p, ok := n.View().Proxy("www.shop.example")
		if !ok || p.Reason != c.want || (p.Problem == "") != (c.want == Served) || p.Host != "www.shop.example" {
			t.Errorf("%s: %v %q, want %v", c.name, p.Reason, p.Problem, c.want)
		}
		if n.has("www.shop.example") != (c.want == Served) {
			t.Errorf("%s: served: %v", c.name, n.has("www.shop.example"))
		}
		if counts := n.View().Counts(); counts.All() != 1 || counts.Proxies[c.want] != 1 {
			t.Errorf("%s: counts %+v", c.name, counts)
		}
	}
}

// A name under another project's wildcard is only given to who has proven it
// (package catalog), so that it is served whichever of the two is older.
func TestExactBeforeOthersWildcard(t *testing.T) {
	w := newWorld(t)
	n := w.start("a", nil)
	w.proxy("shop", "older.shop.example")
	w.proxy("blog", "*.shop.example")
	n.at(w.proxy("shop", "younger.shop.example"))
	for host, project := range map[string]string{"older.shop.example": "shop", "younger.shop.example": "shop", "any.shop.example": "blog"} {
		if r := n.table.Load().Lookup(host); r == nil || r.Project != project {
			t.Errorf("%s: %+v, want %s", host, r, project)
		}
	}
}

// A project's prefixes decide about all of its proxies, whatever comes first.
func TestPrefixesMove(t *testing.T) {
	w := newWorld(t)
	n := w.start("a", nil)
	w.proxy("blog", "blog.example")
	for i := range 20 {
		w.proxy("shop", fmt.Sprintf("h%d.example", i))
	}
	served := func(want int) {
		t.Helper()
		if c := n.View().ProjectCounts("shop"); c.Proxies[Served] != want || c.All() != 20 || n.table.Load().Len() != want+1 {
			t.Errorf("%+v and %d routes, want %d of shop and 1 of blog", c, n.table.Load().Len(), want)
		}
	}
	n.at(w.project("shop", "2001:db8:64:7::/64"))
	served(0)
	n.at(w.put(projectPut("shop", "2001:db8:64:1::/64"), proxyPut("shop", "h0.example", 8080)))
	served(20)
	before := n.table.Load().Lookup("h1.example")
	n.at(w.remove(catalog.ProjectPrefix + "shop"))
	served(0)
	if _, ok := n.View().Project("shop"); ok {
		t.Error("a project that has gone is still there")
	}
	n.at(w.project("shop", "2001:db8:64:1::/64"))
	served(20)
	n.SetReach(func(a netip.Addr) error {
		if a == vm("shop") {
			return errors.New("no")
		}
		return nil
	})
	served(0)
	n.SetReach(reach)
	served(20)
	if now := n.table.Load().Lookup("h1.example"); !now.Same(before) {
		t.Errorf("%+v became %+v", before, now)
	}
}

// The operator's file is above the store.
func TestBelowTheFile(t *testing.T) {
	w := newWorld(t)
	n := w.start("a", nil)
	n.table.Store((&routes.Snapshot{}).With(1, routes.Change{Host: "www.shop.example", Route: &routes.Route{Host: "www.shop.example", Project: "operator"}}))
	w.proxy("shop", "b.example")
	n.at(w.proxy("shop", "www.shop.example"))
	if r := n.table.Load().Lookup("www.shop.example"); r.Project != "operator" || !n.has("b.example") || n.Stats().Hidden != 1 {
		t.Errorf("%+v, hidden %d", r, n.Stats().Hidden)
	}
}

func TestStoreAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", nil)
	n.at(w.proxy("shop", "a.example"))
	n.wire.set(func(w *wire) { w.cut = true })
	n.wait("a warning", func() bool { return n.log.count("true", "going on with 1 routes") == 1 })
	last := w.proxy("shop", "b.example")
	s := n.Stats()
	if s.Up || s.Problem == "" || !n.has("a.example") || n.has("b.example") {
		t.Errorf("while the store is away: %+v", s)
	}
	n.wire.set(func(w *wire) { w.cut = false })
	n.at(last)
	n.wait("back", func() bool { return n.Stats().Up && n.log.count("false", "answers again") == 1 })
	if s := n.Stats(); n.log.count("true") != 1 || s.Relists != 0 || !s.Since.After(time.Now().Add(-time.Hour)) {
		t.Errorf("%+v\n%v", s, n.log)
	}
}

// A watch that says nothing at all is ended, and what was missed is caught up with.
func TestSilentWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", func(_ *Config, m *times) { m.silence = 3 * time.Second }) // bolt speaks every 2 s
	n.at(w.proxy("shop", "a.example"))
	n.wire.set(func(w *wire) { w.silent = true })
	last := w.proxy("shop", "b.example")
	n.wait("silence is noticed", func() bool { s := n.Stats(); return !s.Up && strings.Contains(s.Problem, "silent") })
	n.wire.set(func(w *wire) { w.silent = false })
	n.at(last)
	if s := n.Stats(); !n.has("b.example") || s.Relists != 0 {
		t.Errorf("%+v", s)
	}
}

func TestWaitFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.start("a", nil)
	now := w.proxy("shop", "a.example")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := n.WaitFor(ctx, now+100); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("for a revision that does not come: %v", err)
	}
	// Other keys' revisions come with the watch's idle calls.
	n.at(w.put(store.Put{Key: catalog.TokenPrefix + "x", Value: []byte("{}")}))
}

func TestNothingIsLeft(t *testing.T) {
	w := newWorld(t)
	w.proxy("shop", "a.example")
	before := runtime.NumGoroutine()
	for range 5 {
		n := w.start("a", func(c *Config, _ *times) { c.Disk = w.dir + "/disk"; c.Reconcile = time.Millisecond })
		<-n.Ready()
		n.wait("counted", func() bool { return n.Stats().Tallies > 0 })
		n.end()
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
		}
	}
}
