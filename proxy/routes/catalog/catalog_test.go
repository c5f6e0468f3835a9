package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

var (
	ctx   = context.Background()
	admin = Actor{By: "root", From: "control socket"}
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func vm(s string) netip.Addr       { return netip.MustParseAddr(s) }

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) add(d time.Duration) { c.now = c.now.Add(d) }

func newStore(t *testing.T) store.Store {
	t.Helper()
	s, err := bolt.Open(ctx, filepath.Join(t.TempDir(), "store"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// world is a catalog with the projects shop, 2001:db8:64:1::/64, and blog,
// 2001:db8:64:2::/64.
func world(t *testing.T) (*Catalog, *clock) {
	t.Helper()
	return worldIn(t, newStore(t))
}

func worldIn(t *testing.T, s store.Store) (*Catalog, *clock) {
	t.Helper()
	k := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	c := New(s, Options{Now: func() time.Time { return k.now }, VMs: []netip.Prefix{prefix("2001:db8:64::/48")}})
	for name, x := range map[string]string{"shop": "2001:db8:64:1::/64", "blog": "2001:db8:64:2::/64"} {
		if _, err := c.PutProject(ctx, admin, Project{Name: name, Prefixes: []netip.Prefix{prefix(x)}}, Match{}); err != nil {
			t.Fatal(err)
		}
	}
	return c, k
}

// line is a proxy of shop, or blog, or another one with 2001:db8:64:3::/64.
func line(project, host string) Proxy {
	b := map[string]string{"shop": "2001:db8:64:1::2", "blog": "2001:db8:64:2::2"}[project]
	if b == "" {
		b = "2001:db8:64:3::2"
	}
	return Proxy{Project: project, Host: host, Backends: []netip.Addr{vm(b)}, HTTP: 80, HTTPS: 443}
}

func TestPutProxy(t *testing.T) {
	c, _ := world(t)
	p, created, err := c.PutProxy(ctx, admin, line("shop", "www.shop.example"), Match{})
	if err != nil || !created || p.Proof != Pending || len(p.Challenge) != 26 || p.Revision == 0 || p.Since != p.Revision {
		t.Fatalf("got %+v, %v, %v", p, created, err)
	}
	again, created, err := c.PutProxy(ctx, admin, line("shop", "www.shop.example"), Match{})
	if err != nil || created || again.Revision != p.Revision {
		t.Fatalf("the same once more: %+v, %v, %v", again, created, err)
	}
	other := line("shop", "www.shop.example")
	other.HTTP = 8080
	if _, _, err := c.PutProxy(ctx, admin, other, Match{Absent: true}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("absent: %v", err)
	}
	if _, _, err := c.PutProxy(ctx, admin, other, Match{Revision: p.Revision - 1}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("older revision: %v", err)
	}
	q, created, err := c.PutProxy(ctx, admin, other, Match{Revision: p.Revision})
	if err != nil || created || q.HTTP != 8080 || q.Revision <= p.Revision || q.Since != p.Since || q.Challenge != p.Challenge {
		t.Errorf("change: %+v, %v, %v", q, created, err)
	}
	if _, _, err := c.PutProxy(ctx, admin, line("blog", "www.shop.example"), Match{}); !errors.Is(err, ErrTaken) {
		t.Errorf("another project: %v", err)
	}
	if _, err := c.DeleteProxy(ctx, admin, "blog", "www.shop.example", Match{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete another's: %v", err)
	}
	if _, err := c.DeleteProxy(ctx, admin, "shop", "www.shop.example", Match{}); err != nil {
		t.Error(err)
	}
	page, _, err := c.AuditLog(ctx, "shop", "", 10)
	if err != nil || len(page) != 4 {
		t.Errorf("audit: %+v, %v", page, err)
	}
}

// What an If-Match takes: what people have not changed since.
func TestMatch(t *testing.T) {
	c, _ := world(t)
	const host = "www.shop.example"
	p, _, err := c.PutProxy(ctx, admin, line("shop", host), Match{})
	if err != nil {
		t.Fatal(err)
	}
	old := p.Revision
	first := line("shop", host)
	first.HTTP = 8079
	if p, _, err = c.PutProxy(ctx, admin, first, Match{}); err != nil {
		t.Fatal(err)
	}
	proven := prove(t, c, host)
	if proven.Revision == p.Revision || proven.Edited != p.Revision {
		t.Fatalf("got %+v", proven)
	}
	edit := line("shop", host)
	if _, _, err := c.PutProxy(ctx, admin, edit, Match{Revision: old}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("with the revision before an edit: %v", err)
	}
	edit.HTTP = 8080
	q, _, err := c.PutProxy(ctx, admin, edit, Match{Revision: p.Revision})
	if err != nil || q.Edited != 0 || q.Proof != Proven {
		t.Fatalf("with the revision before the look at the DNS: %+v, %v", q, err)
	}
	for _, m := range []Match{{Revision: p.Revision}, {Revision: proven.Revision}, {Revision: q.Revision + 1}, {Absent: true}} {
		edit.HTTP++
		if _, _, err := c.PutProxy(ctx, admin, edit, m); !errors.Is(err, store.ErrConflict) {
			t.Errorf("put with %+v: %v", m, err)
		}
		if m.Absent {
			continue
		}
		if _, err := c.DeleteProxy(ctx, admin, "shop", host, m); !errors.Is(err, store.ErrConflict) {
			t.Errorf("delete with %+v: %v", m, err)
		}
	}
	if _, _, err := c.PutProxy(ctx, admin, line("shop", "a.example"), Match{Revision: 1}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := c.DeleteProxy(ctx, admin, "shop", host, Match{Revision: q.Revision}); err != nil {
		t.Error(err)
	}
	project, err := c.Project(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	project.Title = "The shop"
	if _, err := c.PutProject(ctx, admin, project, Match{Revision: project.Revision + 1}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("project: %v", err)
	}
	if _, err := c.PutProject(ctx, admin, project, Match{Absent: true}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("project: %v", err)
	}
	if _, err := c.PutProject(ctx, admin, project, Match{Revision: project.Revision}); err != nil {
		t.Errorf("project: %v", err)
	}
}

func TestLimit(t *testing.T) {
	c, _ := world(t)
	p, err := c.Project(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	p.Proxies = 2
	if _, err := c.PutProject(ctx, admin, p, Match{}); err != nil {
		t.Fatal(err)
	}
	for i, host := range []string{"a.example.com", "b.example.com", "c.example.com", "a.example.com"} {
		_, _, err := c.PutProxy(ctx, admin, line("shop", host), Match{})
		if (i == 2) != errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := c.DeleteProject(ctx, admin, "shop", Match{}); !errors.Is(err, ErrInUse) {
		t.Errorf("delete a project with proxies: %v", err)
	}
	for _, host := range []string{"a.example.com", "b.example.com"} {
		if _, err := c.DeleteProxy(ctx, admin, "", host, Match{}); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := c.PutProxy(ctx, admin, line("shop", "c.example.com"), Match{}); err != nil {
		t.Error(err)
	}
}

// Nothing about a project outlives it.
func TestDeleteProject(t *testing.T) {
	c, _ := world(t)
	secret, _, err := c.CreateToken(ctx, admin, Token{Name: "ci", Project: "shop", Verb: Write})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutTrust(ctx, admin, Trust{Domain: "shop.example", Project: "shop"}, Match{}); err != nil {
		t.Fatal(err)
	}
	old, err := c.Project(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	var left []store.Put
	for _, prefix := range []string{TokenPrefix, TrustPrefix} {
		if _, err := c.store.List(ctx, prefix, func(e store.Entry) error {
			left = append(left, store.Put{Key: e.Key, Value: e.Value})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.DeleteProject(ctx, admin, "shop", Match{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Authenticate(ctx, secret); !errors.Is(err, ErrToken) {
		t.Errorf("token: %v", err)
	}
	if tokens, err := c.Tokens(ctx, ""); err != nil || len(tokens) != 0 {
		t.Errorf("tokens: %v, %v", tokens, err)
	}
	if trusts, err := c.Trusts(ctx); err != nil || len(trusts) != 0 {
		t.Errorf("trusts: %v, %v", trusts, err)
	}
	if _, err := c.DeleteProject(ctx, admin, "shop", Match{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if p, err := c.PutProject(ctx, admin, Project{Name: "shop", Prefixes: old.Prefixes}, Match{}); err != nil || p.ID == old.ID || p.ID == "" {
		t.Errorf("a new one of that name: %+v, %v", p, err)
	}
	checkInvariants(t, c)
	// Even if nobody had come to sweep, nothing of the old one is worth anything.
	if _, err := c.store.Commit(ctx, store.Txn{Put: left}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Authenticate(ctx, secret); !errors.Is(err, ErrToken) {
		t.Errorf("token, not swept: %v", err)
	}
	if p, _, err := c.PutProxy(ctx, admin, line("shop", "www.shop.example"), Match{}); err != nil || p.Proof != Pending {
		t.Errorf("trust, not swept: %+v, %v", p, err)
	}
}

// Whose prefixes move has proxies that lead elsewhere.
func TestRoute(t *testing.T) {
	c, _ := world(t)
	const host = "www.shop.example"
	p := line("shop", host)
	p.Backends = append(p.Backends, vm("2001:db8:64:1::3"))
	p.HTTP, p.Header = 0, "v2"
	if _, _, err := c.PutProxy(ctx, admin, p, Match{}); err != nil {
		t.Fatal(err)
	}
	project, err := c.Project(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	p, err = c.Proxy(ctx, host)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Route(&project, nil); !errors.Is(err, ErrUnproven) {
		t.Errorf("pending: %v", err)
	}
	p = prove(t, c, host)
	want := routes.Route{Host: host, Project: "shop", Backends: p.Backends, HTTPS: 443, Header: routes.HeaderV2}
	if r, err := p.Route(&project, nil); err != nil || fmt.Sprint(r) != fmt.Sprint(want) {
		t.Errorf("got %+v, %v, want %+v", r, err, want)
	}
	refuse := func(a netip.Addr) error {
		if a == p.Backends[0] {
			return errors.New("no address of a VM")
		}
		return nil
	}
	want.Backends = p.Backends[1:]
	if r, err := p.Route(&project, refuse); err != nil || fmt.Sprint(r) != fmt.Sprint(want) {
		t.Errorf("one backend out of reach: %+v, %v", r, err)
	}
	project.Prefixes = []netip.Prefix{prefix("2001:db8:64:9::/64")}
	if project, err = c.PutProject(ctx, admin, project, Match{}); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Route(&project, nil); err == nil || err.Error() != "2001:db8:64:1::3 is outside the prefixes of project shop" {
		t.Errorf("moved: %+v, %v", r, err)
	}
	p.Off = true
	if _, err := p.Route(&project, nil); !errors.Is(err, ErrOff) {
		t.Errorf("off: %v", err)
	}
	p.Off = false
	if _, err := p.Route(nil, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("without a project: %v", err)
	}
}
