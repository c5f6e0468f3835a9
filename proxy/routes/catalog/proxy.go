package catalog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/store"
)

// Proxy reads one; ErrNotFound if there is none.
func (c *Catalog) Proxy(ctx context.Context, host string) (Proxy, error) {
	if checkHost(host) != nil {
		return Proxy{}, notFound(proxyKey(host))
	}
	return get(ctx, c.store, proxyKey(host), DecodeProxy)
}

// PutProxy adds or changes a proxy: Host, Project, Backends, HTTP, HTTPS, Header and
// Off of p count, the rest is the catalog's. Created tells that it is new; if nothing
// differs from what is there, nothing is done.
//
// Errors: [Invalids]; ErrNotFound for the project; ErrTaken, maybe as [*Taken];
// ErrLimit; store.ErrConflict.
func (c *Catalog) PutProxy(ctx context.Context, a Actor, p Proxy, m Match) (saved Proxy, created bool, err error) {
	if p.Header == "" {
		p.Header = headers[routes.NoHeader]
	}
	if err := p.check(); err != nil {
		return Proxy{}, false, err
	}
	look := c.lookOnce(ctx, p.Host)
	rev, err := c.change(ctx, func() (store.Txn, error) {
		s, err := c.survey(ctx, p.Project, p.Host)
		if err != nil {
			return store.Txn{}, err
		}
		if err := p.checkBackends(&s.project, c.reach.Load().check); err != nil {
			return store.Txn{}, err
		}
		old := s.own()
		if old == nil {
			saved, created = p, true
			return c.addProxy(ctx, a, &saved, s, m, look)
		}
		if err := m.met(true, old.Revision, old.Edited); err != nil {
			return store.Txn{}, err
		}
		saved, created = *old, false
		saved.take(&p)
		saved.trust(s.trusted)
		if saved.same(old) {
			return store.Txn{}, nil
		}
		saved.Meta, saved.Edited = c.stamp(old.Meta, a), 0
		t := store.Txn{If: append(s.trustAsIs(), had(s.got, projectKey(p.Project)), had(s.got, proxyKey(p.Host)))}
		t.Put = append(t.Put, store.Put{Key: proxyKey(p.Host), Value: encode(saved)})
		c.audit(&t, a, p.Project, "proxy.change", p.Host, *old, saved)
		return t, nil
	})
	if err != nil {
		return Proxy{}, false, err
	}
	if rev != 0 {
		saved.committed(rev)
	}
	return saved, created, nil
}

// take copies what people set.
func (p *Proxy) take(from *Proxy) {
	p.Backends, p.HTTP, p.HTTPS, p.Header, p.Off = slices.Clone(from.Backends), from.HTTP, from.HTTPS, from.Header, from.Off
}

// same tells whether two of one host differ in nothing that people set.
func (p *Proxy) same(o *Proxy) bool {
	return slices.Equal(p.Backends, o.Backends) && p.HTTP == o.HTTP && p.HTTPS == o.HTTPS && p.Header == o.Header && p.Off == o.Off &&
		p.Proof == o.Proof
}

// trust makes the proof fit whether an operator vouches for the domain.
func (p *Proxy) trust(trusted bool) {
	switch {
	case trusted:
		p.Proof, p.Problem, p.Missing = Trusted, "", time.Time{}
	case p.Proof != Trusted:
	case p.Seen.IsZero():
		p.Proof = Pending
	default:
		p.Proof = Proven // until the next look
	}
}

// addProxy makes the transaction that gives the project a name it does not have.
func (c *Catalog) addProxy(ctx context.Context, a Actor, p *Proxy, s *survey, m Match, look looker) (store.Txn, error) {
	t := store.Txn{}
	if err := m.met(false, 0, 0); err != nil {
		return t, err
	}
	*p = Proxy{Host: p.Host, Project: p.Project, Proof: Pending, Challenge: s.project.Challenge(p.Host), Backends: p.Backends, HTTP: p.HTTP, HTTPS: p.HTTPS, Header: p.Header, Off: p.Off}
	p.take(p)
	p.trust(s.trusted)
	proven, err := s.permit(p, look)
	if err != nil {
		return t, err
	}
	if proven {
		p.Proof, p.Seen = Proven, c.o.Now().UTC()
		p.Checked = p.Seen
	}
	n, err := counted(s.got, p.Project)
	if err != nil {
		return t, err
	}
	if n >= s.project.Limit() {
		return t, fmt.Errorf("project %s: %d proxies: %w", p.Project, n, ErrLimit)
	}
	p.Meta = c.stamp(Meta{}, a)
	t.If = append(s.trustAsIs(), had(s.got, projectKey(p.Project)), had(s.got, proxyKey(p.Host)), had(s.got, holdKey(p.Host)))
	if w := wildcardOver(p.Host); w != "" {
		t.If = append(t.If, had(s.got, proxyKey(w)))
	}
	t.Put = append(t.Put, store.Put{Key: proxyKey(p.Host), Value: encode(p)})
	recount(&t, s.got, p.Project, n+1)
	if s.hold != nil {
		t.Delete = append(t.Delete, holdKey(p.Host))
	}
	c.audit(&t, a, p.Project, "proxy.create", p.Host, nil, *p)
	if loser := s.holder; loser != nil {
		p.Since = loser.Since // the key stays
		return t, c.lose(ctx, &t, loser)
	}
	return t, nil
}

// lose takes a name out of the books of the project that only claimed it. Its log
// does not say who has it now.
func (c *Catalog) lose(ctx context.Context, t *store.Txn, p *Proxy) error {
	got, _, err := c.store.Get(ctx, countKey(p.Project))
	if err != nil {
		return err
	}
	n, err := counted(got, p.Project)
	if err != nil {
		return err
	}
	recount(t, got, p.Project, n-1)
	c.audit(t, Actor{By: dnsActor}, p.Project, "proxy.lose", p.Host, *p, nil)
	return nil
}

// Limit is how many proxies the project may have.
func (p *Project) Limit() int {
	if p.Proxies == 0 {
		return DefaultMaxProxies
	}
	return p.Proxies
}

// DeleteProxy releases a host name. If it has been served, others can't have it for
// a while. With a project, the name has to be its. It gives the revision of the
// change. Errors: ErrNotFound, store.ErrConflict.
func (c *Catalog) DeleteProxy(ctx context.Context, a Actor, project, host string, m Match) (store.Revision, error) {
	key := proxyKey(host)
	if checkHost(host) != nil {
		return 0, notFound(key)
	}
	return c.change(ctx, func() (store.Txn, error) {
		got, _, err := c.store.Get(ctx, key)
		if err != nil {
			return store.Txn{}, err
		}
		e, there := got[key]
		if !there {
			return store.Txn{}, notFound(key)
		}
		old, err := DecodeProxy(e)
		if err != nil {
			return store.Txn{}, err
		}
		if project != "" && old.Project != project {
			return store.Txn{}, notFound(key)
		}
		if err := m.met(true, old.Revision, old.Edited); err != nil {
			return store.Txn{}, err
		}
		t := store.Txn{If: []store.Condition{had(got, key)}, Delete: []string{key}}
		counter, _, err := c.store.Get(ctx, countKey(old.Project))
		if err != nil {
			return store.Txn{}, err
		}
		n, err := counted(counter, old.Project)
		if err != nil {
			return store.Txn{}, err
		}
		recount(&t, counter, old.Project, n-1)
		c.release(&t, &old)
		c.audit(&t, a, old.Project, "proxy.delete", host, old, nil)
		return t, nil
	})
}

// release keeps the name of a proxy that is deleted from other projects for a while,
// if it has ever been served: links and DNS records may still lead to it.
func (c *Catalog) release(t *store.Txn, p *Proxy) {
	if p.Proof != Pending {
		hold := Hold{Host: p.Host, Project: p.Project, Until: c.o.Now().UTC().Add(c.o.Hold)}
		t.Put = append(t.Put, store.Put{Key: holdKey(p.Host), Value: encode(hold)})
	}
}

// Route is what the proxies serve, or an error that says why they don't: the
// project's prefixes may have moved since the proxy was stored. Of several backends,
// those that may be reached are left.
func (p *Proxy) Route(of *Project, check routes.Reach) (routes.Route, error) {
	switch {
	case p.Off:
		return routes.Route{}, ErrOff
	case !p.Proof.Serves():
		return routes.Route{}, ErrUnproven
	case of == nil || of.Name != p.Project:
		return routes.Route{}, notFound(projectKey(p.Project))
	}
	r := routes.Route{Host: p.Host, Project: p.Project, HTTP: p.HTTP, HTTPS: p.HTTPS, Header: routes.Header(max(0, slices.Index(headers, p.Header)))}
	var wrong error
	for _, b := range p.Backends {
		if err := of.allows(b, check); err != nil {
			wrong = err
			continue
		}
		r.Backends = append(r.Backends, b)
	}
	if len(r.Backends) == 0 && wrong != nil {
		return routes.Route{}, wrong
	}
	return r, r.Check(nil)
}
