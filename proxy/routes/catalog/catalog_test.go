package catalog

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
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
	return &mem{keys: map[string]store.Entry{}}
}

// world is a catalog with the projects shop, 2001:db8:64:1::/64, and blog,
// 2001:db8:64:2::/64.
func world(t *testing.T) (*Catalog, *clock) {
	t.Helper()
	k := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	c := New(newStore(t), Options{Now: func() time.Time { return k.now }, VMs: []netip.Prefix{prefix("2001:db8:64::/48")}})
	for name, x := range map[string]string{"shop": "2001:db8:64:1::/64", "blog": "2001:db8:64:2::/64"} {
		if _, err := c.PutProject(ctx, admin, Project{Name: name, Prefixes: []netip.Prefix{prefix(x)}}, Match{}); err != nil {
			t.Fatal(err)
		}
	}
	return c, k
}

// line is a proxy of shop or blog.
func line(project, host string) Proxy {
	b := "2001:db8:64:1::2"
	if project == "blog" {
		b = "2001:db8:64:2::2"
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

func TestToken(t *testing.T) {
	c, k := world(t)
	secret, tok, err := c.CreateToken(ctx, admin, Token{Name: "ci", Project: "shop", Verb: Write, Expires: k.now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Authenticate(ctx, secret)
	if err != nil || got.ID != tok.ID || !got.May(Write, "shop") || !got.May(Read, "shop") || got.May(Read, "blog") || got.May(Operator, "shop") || got.May(Read, "") {
		t.Fatalf("got %+v, %v", got, err)
	}
	k.add(time.Hour)
	if _, err := c.Authenticate(ctx, secret); !errors.Is(err, ErrToken) {
		t.Errorf("expired: %v", err)
	}
}
