package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"aarch64.com/isthmus/proxy/routes/store"
	"golang.org/x/net/publicsuffix"
)

func (t *Trust) check() error {
	var wrong Invalids
	if e := checkName("project", t.Project); e != nil {
		wrong = append(wrong, e)
	}
	if e := checkHost(t.Domain); e != nil || domainOf(t.Domain) != t.Domain {
		wrong.add("domain", fmt.Sprintf("%q is no domain", t.Domain), `write one such as "example.com", which stands for all names in it`)
	} else if suffix, icann := publicsuffix.PublicSuffix(t.Domain); icann && suffix == t.Domain {
		wrong.add("domain", t.Domain+" is a registry's", "trust the domains in it that are the project's")
	}
	return wrong.orNil()
}

// Trusts lists all.
func (c *Catalog) Trusts(ctx context.Context) ([]Trust, error) {
	return list(ctx, c.store, TrustPrefix, DecodeTrust, nil)
}

// PutTrust lets a project have all names in a domain without proof, and makes its
// proxies there Trusted. Where two domains fit a name, the longer one counts.
// Errors: [Invalids], ErrNotFound for the project, store.ErrConflict.
func (c *Catalog) PutTrust(ctx context.Context, a Actor, t Trust, m Match) (Trust, error) {
	if err := t.check(); err != nil {
		return Trust{}, err
	}
	var saved Trust
	rev, err := c.change(ctx, func() (store.Txn, error) {
		key := trustKey(t.Domain)
		got, _, err := c.store.Get(ctx, key, projectKey(t.Project))
		if err != nil {
			return store.Txn{}, err
		}
		p, err := maybe(got, projectKey(t.Project), DecodeProject)
		if err != nil {
			return store.Txn{}, err
		}
		if p == nil {
			return store.Txn{}, notFound(projectKey(t.Project))
		}
		old, err := maybe(got, key, DecodeTrust)
		if err != nil {
			return store.Txn{}, err
		}
		var before any
		if old == nil {
			old = &Trust{}
		} else {
			before = *old
		}
		if err := m.met(before != nil, old.Revision, 0); err != nil {
			return store.Txn{}, err
		}
		saved = Trust{Meta: old.Meta, Domain: t.Domain, Project: t.Project, ProjectID: p.ID}
		if old.ProjectID == p.ID {
			return store.Txn{}, nil
		}
		saved.Meta = c.stamp(old.Meta, a)
		txn := store.Txn{If: []store.Condition{had(got, key), had(got, projectKey(t.Project))}}
		txn.Put = append(txn.Put, store.Put{Key: key, Value: encode(saved)})
		c.audit(&txn, a, t.Project, "trust.put", t.Domain, before, saved)
		return txn, nil
	})
	if err != nil {
		return Trust{}, err
	}
	if rev != 0 {
		saved.committed(rev)
	}
	return saved, c.settle(ctx, a, t.Domain)
}

// DeleteTrust takes the word back. The proxies in the domain are as they would be
// without it. Errors: ErrNotFound, store.ErrConflict.
func (c *Catalog) DeleteTrust(ctx context.Context, a Actor, domain string, m Match) error {
	if checkHost(domain) != nil {
		return notFound(trustKey(domain))
	}
	_, err := c.change(ctx, func() (store.Txn, error) {
		got, _, err := c.store.Get(ctx, trustKey(domain))
		if err != nil {
			return store.Txn{}, err
		}
		t, err := maybe(got, trustKey(domain), DecodeTrust)
		if err != nil {
			return store.Txn{}, err
		}
		if t == nil {
			return store.Txn{}, notFound(trustKey(domain))
		}
		if err := m.met(true, t.Revision, 0); err != nil {
			return store.Txn{}, err
		}
		txn := store.Txn{If: []store.Condition{had(got, trustKey(domain))}, Delete: []string{trustKey(domain)}}
		c.audit(&txn, a, t.Project, "trust.delete", domain, *t, nil)
		return txn, nil
	})
	if err != nil {
		return err
	}
	return c.settle(ctx, a, domain)
}

// Settle makes all proofs fit what is trusted. PutTrust and DeleteTrust do so for
// their domain; this is for those that were interrupted.
func (c *Catalog) Settle(ctx context.Context, a Actor) error { return c.settle(ctx, a, "") }

func (c *Catalog) settle(ctx context.Context, a Actor, domain string) error {
	trusts, err := c.trusted(ctx)
	if err != nil {
		return err
	}
	var wrong []string
	err = each(ctx, c.store, ProxyPrefix, DecodeProxy, func(p Proxy) error {
		if (domain == "" || within(domainOf(p.Host), domain)) && (p.Proof == Trusted) != (trusts.of(p.Host) == p.Project) {
			wrong = append(wrong, p.Host)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Several at a time: whoever asked for it waits, and engines commit them together.
	const parallel = 16
	errs := make([]error, parallel)
	var all sync.WaitGroup
	for i := range parallel {
		all.Go(func() {
			for n := i; n < len(wrong) && errs[i] == nil; n += parallel {
				if err := c.settleOne(ctx, a, wrong[n]); !errors.Is(err, ErrNotFound) {
					errs[i] = err
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// settleOne looks again at one, together with all that decides.
func (c *Catalog) settleOne(ctx context.Context, a Actor, host string) error {
	_, err := c.change(ctx, func() (store.Txn, error) {
		p, err := c.Proxy(ctx, host)
		if err != nil {
			return store.Txn{}, err
		}
		s, err := c.survey(ctx, p.Project, host)
		if err != nil {
			return store.Txn{}, err
		}
		old := s.own()
		if old == nil {
			return store.Txn{}, nil // gone meanwhile
		}
		after := *old
		after.trust(s.trusted)
		if after.Proof == old.Proof {
			return store.Txn{}, nil
		}
		t := store.Txn{If: append(s.trustAsIs(), had(s.got, projectKey(p.Project)), had(s.got, proxyKey(host)))}
		after.edited(old)
		t.Put = append(t.Put, store.Put{Key: proxyKey(host), Value: encode(after)})
		c.audit(&t, a, p.Project, "proxy.proof", host, *old, after)
		return t, nil
	})
	return err
}

// edited notes that a change is not one by people.
func (p *Proxy) edited(before *Proxy) {
	if p.Edited = before.Edited; p.Edited == 0 {
		p.Edited = before.Revision
	}
}

// trustMap is which project is trusted with a domain.
type trustMap map[string]string

// trusted reads all that counts: trust in a project that is gone does not.
func (c *Catalog) trusted(ctx context.Context) (trustMap, error) {
	ids := map[string]string{}
	err := each(ctx, c.store, ProjectPrefix, DecodeProject, func(p Project) error {
		ids[p.Name] = p.ID
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := trustMap{}
	err = each(ctx, c.store, TrustPrefix, DecodeTrust, func(t Trust) error {
		all[t.Domain] = ""
		if id, ok := ids[t.Project]; ok && id == t.ProjectID {
			all[t.Domain] = t.Project
		}
		return nil
	})
	return all, err
}

// of is the project that is trusted with a host name, or "".
func (m trustMap) of(host string) string {
	for _, d := range domainsOver(domainOf(host)) {
		if project, ok := m[d]; ok {
			return project
		}
	}
	return ""
}

// sweepProject removes what is left of a project that is gone.
func (c *Catalog) sweepProject(ctx context.Context, a Actor, project string) error {
	tokens, err := c.Tokens(ctx, project)
	if err != nil {
		return err
	}
	now, err := c.Project(ctx, project)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	for _, t := range tokens {
		if t.ProjectID == now.ID {
			continue // somebody has made the project anew
		}
		if err := c.RevokeToken(ctx, a, project, t.ID); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	trusts, err := c.Trusts(ctx)
	if err != nil {
		return err
	}
	for _, t := range trusts {
		if t.Project != project || t.ProjectID == now.ID {
			continue
		}
		err := c.DeleteTrust(ctx, a, t.Domain, Match{Revision: t.Revision})
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return nil
}
