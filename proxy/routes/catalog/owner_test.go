package catalog

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// published is what TXT records say, by host name. It stands for the name servers,
// which package proof has tests with.
type published map[string][]string

func (p published) look(_ context.Context, host string) ([]string, error) {
	if texts, ok := p[TXT(host)]; ok {
		return texts, nil
	}
	if _, broken := p["broken"]; broken {
		return nil, errors.New("no name server answers")
	}
	return nil, nil
}

// prove makes a proxy Proven.
func prove(t *testing.T, c *Catalog, host string) Proxy {
	t.Helper()
	p, err := c.Proxy(ctx, host)
	if err == nil {
		p, err = c.RecordProof(ctx, p, Finding{At: c.o.Now(), Found: true})
	}
	if err != nil || p.Proof != Proven {
		t.Fatalf("%s: %s, %v", host, p.Proof, err)
	}
	return p
}

// Who gets a name that blog asks for, by what shop has.
func TestOwner(t *testing.T) {
	const www = "www.shop.example"
	const wild = "*.shop.example"
	type setup struct {
		c    *Catalog
		k    *clock
		dns  published
		mine string // blog's challenge for what it asks for
	}
	add := func(t *testing.T, s *setup, host string) Proxy {
		t.Helper()
		p, _, err := s.c.PutProxy(ctx, admin, line("shop", host), Match{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	trust := func(t *testing.T, s *setup, project, domain string) {
		t.Helper()
		if _, err := s.c.PutTrust(ctx, admin, Trust{Domain: domain, Project: project}, Match{}); err != nil {
			t.Fatal(err)
		}
	}
	release := func(t *testing.T, s *setup, host string) {
		t.Helper()
		if _, err := s.c.DeleteProxy(ctx, admin, "shop", host, Match{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		host string // that blog asks for
		have func(t *testing.T, s *setup)
		want Proof // "": taken
	}{
		{"free", www, func(*testing.T, *setup) {}, Pending},
		{"free and trusted", www, func(t *testing.T, s *setup) { trust(t, s, "blog", "shop.example") }, Trusted},
		{"trusted by the longer domain", www, func(t *testing.T, s *setup) {
			trust(t, s, "blog", "www.shop.example")
			trust(t, s, "shop", "shop.example")
		}, Trusted},
		{"the longer domain is another's", www, func(t *testing.T, s *setup) {
			trust(t, s, "shop", "www.shop.example")
			trust(t, s, "blog", "shop.example")
		}, Pending},

		{"claimed", www, func(t *testing.T, s *setup) { add(t, s, www) }, ""},
		{"claimed, and the asker has a record", www, func(t *testing.T, s *setup) {
			add(t, s, www)
			s.dns[TXT(www)] = []string{"something else", s.mine}
		}, Proven},
		{"claimed, and both have a record", www, func(t *testing.T, s *setup) {
			s.dns[TXT(www)] = []string{add(t, s, www).Challenge, s.mine}
		}, ""},
		{"claimed, and the asker is trusted", www, func(t *testing.T, s *setup) {
			add(t, s, www)
			trust(t, s, "blog", "shop.example")
		}, Trusted},
		{"claimed, and the name servers fail", www, func(t *testing.T, s *setup) {
			add(t, s, www)
			s.dns["broken"] = nil
		}, ""},

		{"proven", www, func(t *testing.T, s *setup) { add(t, s, www); prove(t, s.c, www) }, ""},
		{"proven, and both have a record", www, func(t *testing.T, s *setup) {
			s.dns[TXT(www)] = []string{add(t, s, www).Challenge, s.mine}
			prove(t, s.c, www)
		}, ""},
		{"proven once, and only the asker has a record", www, func(t *testing.T, s *setup) {
			add(t, s, www)
			prove(t, s.c, www)
			s.dns[TXT(www)] = []string{s.mine}
		}, Proven},
		{"proven, and the asker is trusted", www, func(t *testing.T, s *setup) {
			add(t, s, www)
			prove(t, s.c, www)
			trust(t, s, "blog", "shop.example")
		}, ""},
		{"trusted to another", www, func(t *testing.T, s *setup) {
			trust(t, s, "shop", "shop.example")
			add(t, s, www)
			s.dns[TXT(www)] = []string{s.mine}
		}, ""},

		{"released claim", www, func(t *testing.T, s *setup) { add(t, s, www); release(t, s, www) }, Pending},
		{"released", www, func(t *testing.T, s *setup) { add(t, s, www); prove(t, s.c, www); release(t, s, www) }, ""},
		{"released, and the asker has a record", www, func(t *testing.T, s *setup) {
			add(t, s, www)
			prove(t, s.c, www)
			release(t, s, www)
			s.dns[TXT(www)] = []string{s.mine}
		}, Proven},
		{"released, and the asker is trusted", www, func(t *testing.T, s *setup) {
			add(t, s, www)
			prove(t, s.c, www)
			release(t, s, www)
			trust(t, s, "blog", "shop.example")
		}, Trusted},
		{"released almost 7 days ago", www, func(t *testing.T, s *setup) {
			add(t, s, www)
			prove(t, s.c, www)
			release(t, s, www)
			s.k.add(7*day - time.Second)
		}, ""},
		{"released 7 days ago", www, func(t *testing.T, s *setup) {
			add(t, s, www)
			prove(t, s.c, www)
			release(t, s, www)
			s.k.add(7 * day)
		}, Pending},
		{"let go by an operator", www, func(t *testing.T, s *setup) {
			add(t, s, www)
			prove(t, s.c, www)
			release(t, s, www)
			if err := s.c.DeleteHold(ctx, admin, www); err != nil {
				t.Fatal(err)
			}
		}, Pending},

		{"under a wildcard", www, func(t *testing.T, s *setup) { add(t, s, wild) }, ""},
		{"under a proven wildcard", www, func(t *testing.T, s *setup) { add(t, s, wild); prove(t, s.c, wild) }, ""},
		{"under a proven wildcard, and the asker has a record", www, func(t *testing.T, s *setup) {
			s.dns[TXT(wild)] = []string{add(t, s, wild).Challenge}
			prove(t, s.c, wild)
			s.dns[TXT(www)] = []string{s.mine}
		}, Proven},
		{"two labels under a wildcard", "a.www.shop.example", func(t *testing.T, s *setup) { add(t, s, wild) }, Pending},
		{"the parent of a wildcard", "shop.example", func(t *testing.T, s *setup) { add(t, s, wild) }, Pending},
		// It takes the parent's proof, and names that others have proven stay theirs.
		{"a wildcard over a name", wild, func(t *testing.T, s *setup) { add(t, s, www) }, Pending},
	} {
		t.Run(c.name, func(t *testing.T) {
			cat, k := world(t)
			s := &setup{c: cat, k: k, dns: published{}}
			cat.o.Look = s.dns.look
			blog, err := cat.Project(ctx, "blog")
			if err != nil {
				t.Fatal(err)
			}
			s.mine = blog.Challenge(c.host)
			c.have(t, s)
			before, lost := cat.Proxy(ctx, c.host)
			p, created, err := cat.PutProxy(ctx, admin, line("blog", c.host), Match{Absent: true})
			if c.want == "" {
				if !errors.Is(err, ErrTaken) {
					t.Fatalf("got %+v, %v; want that it is taken", p, err)
				}
				if after, again := cat.Proxy(ctx, c.host); after.Revision != before.Revision || (again == nil) != (lost == nil) {
					t.Error("the refusal has changed what is there")
				}
				return
			}
			if err != nil || !created || p.Project != "blog" || p.Proof != c.want || p.Challenge != s.mine {
				t.Fatalf("got %+v, %v, %v; want %s", p, created, err, c.want)
			}
			stored, err := cat.Proxy(ctx, c.host)
			if err != nil || fmt.Sprint(stored) != fmt.Sprint(p) {
				t.Errorf("stored\n%+v, %v\ngiven\n%+v", stored, err, p)
			}
			checkInvariants(t, cat)
		})
	}
}

// A refusal says what the asker can do, and nothing about who has the name.
func TestTaken(t *testing.T) {
	c, _ := world(t)
	if _, _, err := c.PutProxy(ctx, admin, line("shop", "www.shop.example"), Match{}); err != nil {
		t.Fatal(err)
	}
	blog, _ := c.Project(ctx, "blog")
	_, _, err := c.PutProxy(ctx, admin, line("blog", "www.shop.example"), Match{})
	want := `www.shop.example: the name is taken; if it is yours, publish _isthmus-challenge.www.shop.example TXT "` + blog.Challenge("www.shop.example") + `", remove other TXT records there, and try again`
	var taken *Taken
	if !errors.As(err, &taken) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// The project that released a name has it back at once, with the same challenge.
func TestBack(t *testing.T) {
	c, _ := world(t)
	const host = "www.shop.example"
	first, _, err := c.PutProxy(ctx, admin, line("shop", host), Match{})
	if err != nil {
		t.Fatal(err)
	}
	prove(t, c, host)
	if _, err := c.DeleteProxy(ctx, admin, "shop", host, Match{}); err != nil {
		t.Fatal(err)
	}
	if holds, err := c.Holds(ctx, "shop"); err != nil || len(holds) != 1 {
		t.Fatalf("holds: %v, %v", holds, err)
	}
	again, created, err := c.PutProxy(ctx, admin, line("shop", host), Match{})
	if err != nil || !created || again.Proof != Pending || again.Challenge != first.Challenge {
		t.Errorf("got %+v, %v, %v", again, created, err)
	}
	if holds, err := c.Holds(ctx, ""); err != nil || len(holds) != 0 {
		t.Errorf("holds after that: %v, %v", holds, err)
	}
	if _, err := c.DeleteProxy(ctx, admin, "shop", host, Match{}); err != nil {
		t.Fatal(err)
	}
	// A later project of the name has other challenges: what the old one has
	// published is worth nothing to it.
	if _, err := c.DeleteProject(ctx, admin, "shop", Match{}); err != nil {
		t.Fatal(err)
	}
	p := Project{Name: "shop"}
	if p, err = c.PutProject(ctx, admin, p, Match{Absent: true}); err != nil {
		t.Fatal(err)
	}
	if p.Challenge(host) == first.Challenge {
		t.Error("another project of the same name has the same challenge")
	}
}

// What trust makes of names that are there already, and what is left without it.
func TestTrust(t *testing.T) {
	c, _ := world(t)
	proof := func(host string) Proof {
		p, err := c.Proxy(ctx, host)
		if err != nil {
			t.Fatal(err)
		}
		return p.Proof
	}
	hosts := []string{"shop.example", "*.shop.example", "www.shop.example", "a.b.shop.example", "www.other.example", "bookshop.example"}
	for _, host := range hosts {
		if _, _, err := c.PutProxy(ctx, admin, line("shop", host), Match{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.PutProxy(ctx, admin, line("blog", "blog.b.shop.example"), Match{}); err != nil {
		t.Fatal(err)
	}
	prove(t, c, "www.shop.example")
	check := func(when string, want map[string]Proof) {
		t.Helper()
		for host, p := range want {
			if got := proof(host); got != p {
				t.Errorf("%s: %s is %s, want %s", when, host, got, p)
			}
		}
		checkInvariants(t, c)
	}
	if _, err := c.PutTrust(ctx, admin, Trust{Domain: "shop.example", Project: "shop"}, Match{}); err != nil {
		t.Fatal(err)
	}
	check("trusted", map[string]Proof{
		"shop.example": Trusted, "*.shop.example": Trusted, "www.shop.example": Trusted, "a.b.shop.example": Trusted,
		"www.other.example": Pending, "bookshop.example": Pending, "blog.b.shop.example": Pending,
	})
	if _, err := c.PutTrust(ctx, admin, Trust{Domain: "b.shop.example", Project: "blog"}, Match{}); err != nil {
		t.Fatal(err)
	}
	check("a part of it trusted to another", map[string]Proof{
		"shop.example": Trusted, "www.shop.example": Trusted, "a.b.shop.example": Pending, "blog.b.shop.example": Trusted,
	})
	if err := c.DeleteTrust(ctx, admin, "shop.example", Match{}); err != nil {
		t.Fatal(err)
	}
	check("without", map[string]Proof{
		"shop.example": Pending, "*.shop.example": Pending, "www.shop.example": Proven, "blog.b.shop.example": Trusted,
	})

	// A process that dies after PutTrust has committed leaves the rest to Settle.
	p, err := c.Proxy(ctx, "shop.example")
	if err != nil {
		t.Fatal(err)
	}
	c.o.Now = func() time.Time { panic("dead") }
	func() {
		defer func() { _ = recover() }()
		_ = c.settleOne(ctx, admin, "shop.example")
		_, _ = c.PutTrust(ctx, admin, Trust{Domain: "shop.example", Project: "shop"}, Match{})
	}()
	c.o.Now = time.Now
	if q, _ := c.Proxy(ctx, "shop.example"); q.Revision != p.Revision {
		t.Fatal("changed by the dead")
	}
	for _, bad := range []Trust{{Domain: "com", Project: "shop"}, {Domain: "co.uk", Project: "shop"}, {Domain: "*.shop.example", Project: "shop"}, {Domain: "192.0.2.1", Project: "shop"}, {Domain: "shop.example"}} {
		if _, err := c.PutTrust(ctx, admin, bad, Match{}); Problems(err) == nil {
			t.Errorf("trust in %q of %q: %v", bad.Domain, bad.Project, err)
		}
	}
	if _, err := c.PutTrust(ctx, admin, Trust{Domain: "shop.example", Project: "nobody"}, Match{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("trust in nobody: %v", err)
	}
	if err := c.DeleteTrust(ctx, admin, "shop.example", Match{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete trust twice: %v", err)
	}
}

func TestPublicSuffix(t *testing.T) {
	c, _ := world(t)
	for host, ok := range map[string]bool{
		"*.co.uk": false, "co.uk": false, "*.shop.co.uk": true, "shop.co.uk": true, "github.io": false, "*.github.io": false,
		"shop.github.io": true, "localhost": false, "*.shop.example": true, "*.example": false, "example": false,
	} {
		_, _, err := c.PutProxy(ctx, admin, line("shop", host), Match{})
		if (err == nil) != ok || !ok && Problems(err) == nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := c.PutTrust(ctx, admin, Trust{Domain: "github.io", Project: "shop"}, Match{}); err != nil {
		t.Fatal(err)
	}
	if p, _, err := c.PutProxy(ctx, admin, line("shop", "*.github.io"), Match{}); err != nil || p.Proof != Trusted {
		t.Errorf("trusted: %+v, %v", p, err)
	}
}
