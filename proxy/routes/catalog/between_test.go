package catalog

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"aarch64.com/isthmus/proxy/routes/store"
)

// meddled is a store where something happens right before the first commit: after
// the change has read what it goes by.
type meddled struct {
	store.Store
	meddle func()
}

func (m *meddled) Commit(ctx context.Context, t store.Txn) (store.Revision, error) {
	if f := m.meddle; f != nil {
		m.meddle = nil
		f()
	}
	return m.Store.Commit(ctx, t)
}

// What a change goes by changes between reading and committing.
func TestBetween(t *testing.T) {
	const www = "www.shop.example"
	trusted := Trust{Domain: "shop.example", Project: "shop"}
	for _, x := range []struct {
		name   string
		before func(c *Catalog) error
		change func(c *Catalog) error
		meddle func(c *Catalog) error
		want   string // error, or what the proof of www is
	}{
		{"add, and trust goes",
			func(c *Catalog) error { return second(c.PutTrust(ctx, admin, trusted, Match{})) },
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error { return c.DeleteTrust(ctx, admin, "shop.example", Match{}) },
			"pending"},
		{"add, and trust comes", nil,
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error { return second(c.PutTrust(ctx, admin, trusted, Match{})) },
			"trusted"},
		{"add, and the project's prefixes move", nil,
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error {
				return second(c.PutProject(ctx, admin, Project{Name: "shop", Prefixes: []netip.Prefix{prefix("2001:db8:64:9::/64")}}, Match{}))
			},
			"backends[0]: 2001:db8:64:1::2 is outside"},
		{"change, and the project's prefixes move",
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error {
				p := line("shop", www)
				p.HTTP = 8080
				return third(c.PutProxy(ctx, admin, p, Match{}))
			},
			func(c *Catalog) error {
				return second(c.PutProject(ctx, admin, Project{Name: "shop", Prefixes: []netip.Prefix{prefix("2001:db8:64:9::/64")}}, Match{}))
			},
			"backends[0]: 2001:db8:64:1::2 is outside"},
		{"add, and the project goes", nil,
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error { return second(c.DeleteProject(ctx, admin, "shop", Match{})) },
			`project "shop": there is none of that name`},
		{"add, and another project has it", nil,
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("blog", www), Match{})) },
			"www.shop.example: the name is taken"},
		{"add, and another project has the wildcard", nil,
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("blog", "*.shop.example"), Match{})) },
			"www.shop.example: the name is taken"},
		{"add, and it has been another project's", nil,
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error {
				p, _, err := c.PutProxy(ctx, admin, line("blog", www), Match{})
				if err == nil {
					_, err = c.RecordProof(ctx, p, Finding{At: c.o.Now(), Found: true})
				}
				if err == nil {
					_, err = c.DeleteProxy(ctx, admin, "blog", www, Match{})
				}
				return err
			},
			"www.shop.example: the name is taken"},
		{"add, and the limit is reached",
			func(c *Catalog) error {
				return second(c.PutProject(ctx, admin, Project{Name: "shop", Prefixes: []netip.Prefix{prefix("2001:db8:64:1::/64")}, Proxies: 1}, Match{}))
			},
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", "a.example.com"), Match{})) },
			"project shop: 1 proxies: the project has as many"},
		{"change, and somebody else has",
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error {
				old, err := c.Proxy(ctx, www)
				if err != nil {
					return err
				}
				p := line("shop", www)
				p.HTTP = 8080
				return third(c.PutProxy(ctx, admin, p, Match{Revision: old.Revision}))
			},
			func(c *Catalog) error {
				p := line("shop", www)
				p.HTTP = 8081
				return third(c.PutProxy(ctx, admin, p, Match{}))
			},
			store.ErrConflict.Error()},
		{"change, and the proof is seen",
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error {
				old, err := c.Proxy(ctx, www)
				if err != nil {
					return err
				}
				p := line("shop", www)
				p.HTTP = 8080
				return third(c.PutProxy(ctx, admin, p, Match{Revision: old.Revision}))
			},
			func(c *Catalog) error {
				p, err := c.Proxy(ctx, www)
				if err == nil {
					_, err = c.RecordProof(ctx, p, Finding{At: c.o.Now(), Found: true})
				}
				return err
			},
			"proven"},
		{"settle, and trust is as it was",
			func(c *Catalog) error {
				err := errors.Join(third(c.PutProxy(ctx, admin, line("shop", www), Match{})), second(c.PutTrust(ctx, admin, trusted, Match{})))
				// As left by one that died between taking trust back and settling.
				_, commit := c.store.Commit(ctx, store.Txn{Delete: []string{trustKey("shop.example")}})
				return errors.Join(err, commit)
			},
			func(c *Catalog) error { return c.Settle(ctx, admin) },
			func(c *Catalog) error { return second(c.PutTrust(ctx, admin, trusted, Match{})) },
			"trusted"},
		{"delete a project, and it gets a proxy", nil,
			func(c *Catalog) error { return second(c.DeleteProject(ctx, admin, "shop", Match{})) },
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			ErrInUse.Error()},
		{"trust a project, and it goes", nil,
			func(c *Catalog) error { return second(c.PutTrust(ctx, admin, trusted, Match{})) },
			func(c *Catalog) error { return second(c.DeleteProject(ctx, admin, "shop", Match{})) },
			`project "shop": there is none of that name`},
		{"make a token, and the project goes", nil,
			func(c *Catalog) error {
				return third(c.CreateToken(ctx, admin, Token{Name: "x", Project: "shop", Verb: Read}))
			},
			func(c *Catalog) error { return second(c.DeleteProject(ctx, admin, "shop", Match{})) },
			`project "shop": there is none of that name`},
		{"note a proof, and the name is another's",
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("shop", www), Match{})) },
			func(c *Catalog) error {
				p, err := c.Proxy(ctx, www)
				if err == nil {
					_, err = c.RecordProof(ctx, p, Finding{At: c.o.Now(), Found: true})
				}
				return err
			},
			func(c *Catalog) error {
				_, err := c.DeleteProxy(ctx, admin, "shop", www, Match{})
				return errors.Join(err, third(c.PutProxy(ctx, admin, line("blog", www), Match{})))
			},
			`proxy "www.shop.example": there is none of that name`},
		{"import, and the project goes", nil,
			func(c *Catalog) error {
				return second(c.Import(ctx, admin, strings.NewReader("[[route]]\nhost='www.shop.example'\nproject='shop'\nbackends=['2001:db8:64:1::2']\n"), ImportOptions{Format: TOML}))
			},
			func(c *Catalog) error { return second(c.DeleteProject(ctx, admin, "shop", Match{})) },
			`route "www.shop.example".project: there is no "shop"`},
		{"import, and the name is taken meanwhile", nil, // which an operator may
			func(c *Catalog) error {
				return second(c.Import(ctx, admin, strings.NewReader("[[route]]\nhost='www.shop.example'\nproject='shop'\nproof='proven'\nbackends=['2001:db8:64:1::2']\n"), ImportOptions{Format: TOML}))
			},
			func(c *Catalog) error { return third(c.PutProxy(ctx, admin, line("blog", www), Match{})) },
			"proven"},
		{"import prefixes, and another project gets them", nil,
			func(c *Catalog) error {
				return second(c.Import(ctx, admin, strings.NewReader("[[project]]\nname='x'\nprefixes=['2001:db8:64:9::/64']\n"), ImportOptions{Format: TOML}))
			},
			func(c *Catalog) error {
				return second(c.PutProject(ctx, admin, Project{Name: "y", Prefixes: []netip.Prefix{prefix("2001:db8:64::9:0:0:0/80"), prefix("2001:db8:64:9:1::/80")}}, Match{}))
			},
			`project "y".prefixes: 2001:db8:64:9:1::/80 has addresses of project x`},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, _ := world(t)
			if x.before != nil {
				if err := x.before(c); err != nil {
					t.Fatal(err)
				}
			}
			var meddling error
			s := &meddled{Store: c.store}
			s.meddle = func() { meddling = x.meddle(c) }
			err := x.change(New(s, c.options()))
			if meddling != nil || s.meddle != nil {
				t.Fatalf("the meddling: %v", meddling)
			}
			got := ""
			if err != nil {
				got = err.Error()
			} else if p, err := c.Proxy(ctx, www); err == nil {
				got = string(p.Proof)
			}
			if !strings.HasPrefix(got, x.want) {
				t.Errorf("got %q, want %q", got, x.want)
			}
			checkInvariants(t, c)
		})
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

// Somebody who is always faster does not keep a change for ever.
func TestAlwaysSlower(t *testing.T) {
	c, _ := world(t)
	n := 0
	p := line("blog", "x.example.com")
	slow := New(&always{c.store, func() {
		n++
		q := p
		q.HTTP = uint16(1000 + n)
		if _, _, err := c.PutProxy(ctx, admin, q, Match{}); err != nil {
			t.Error(err)
		}
	}}, c.options())
	if _, _, err := slow.PutProxy(ctx, admin, p, Match{}); !errors.Is(err, store.ErrUnavailable) || n != maxTries {
		t.Errorf("after %d tries: %v", n, err)
	}
	checkInvariants(t, c)
}

// always meddles with each commit.
type always struct {
	store.Store
	meddle func()
}

func (a *always) Commit(ctx context.Context, t store.Txn) (store.Revision, error) {
	a.meddle()
	return a.Store.Commit(ctx, t)
}
