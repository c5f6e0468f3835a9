package catalog

import (
	"context"
	"slices"

	"aarch64.com/isthmus/proxy/routes/store"
)

// perTxn is how many records one transaction of an import changes: each takes up to
// five of store.MaxTxn, and a few are for all.
const perTxn = 18

// batch is one transaction of an import.
type batch struct {
	p   *plan
	a   Actor
	txn store.Txn
}

// is makes the batch depend on a key being as it was.
func (b *batch) is(key string, revision store.Revision) {
	b.txn.If = append(b.txn.If, store.Condition{Key: key, Modified: revision})
}

func (b *batch) put(key string, v any) {
	b.txn.Put = append(b.txn.Put, store.Put{Key: key, Value: encode(v)})
}

func (b *batch) commit(ctx context.Context) (store.Revision, error) {
	return b.p.c.store.Commit(ctx, b.txn)
}

// inBatches calls f with a new batch for each so many names.
func (p *plan) inBatches(a Actor, names []string, f func(b *batch, names []string) error) error {
	for part := range slices.Chunk(names, perTxn) {
		if err := f(&batch{p: p, a: a}, part); err != nil {
			return err
		}
	}
	return nil
}

// apply carries the plan out; store.ErrConflict if the records are not as it says.
// Names are removed before they are needed, and projects after they are.
func (p *plan) apply(ctx context.Context, a Actor) error {
	d := &p.report
	for _, step := range []struct {
		names []string
		do    func(ctx context.Context, b *batch, names []string) error
	}{
		{slices.Concat(d.Projects.Added, d.Projects.Changed), p.putProjects},
		{slices.Concat(d.Trusts.Added, d.Trusts.Changed), p.putTrusts},
		{d.Trusts.Removed, p.removeTrusts},
	} {
		if err := p.inBatches(a, step.names, func(b *batch, names []string) error { return step.do(ctx, b, names) }); err != nil {
			return err
		}
	}
	if err := p.applyProxies(ctx, a); err != nil {
		return err
	}
	if err := p.inBatches(a, slices.Concat(d.Tokens.Added, d.Tokens.Changed, d.Tokens.Removed), func(b *batch, names []string) error {
		return p.putTokens(ctx, b, names)
	}); err != nil {
		return err
	}
	for _, name := range d.Projects.Removed {
		if _, err := p.c.DeleteProject(ctx, a, name, Match{Revision: p.now.projects[name].Revision}); err != nil {
			return err
		}
	}
	return p.c.Settle(ctx, a)
}

func (p *plan) putProjects(ctx context.Context, b *batch, names []string) error {
	b.is(guardKey, p.guard.Modified)
	b.txn.Put = append(b.txn.Put, store.Put{Key: guardKey, Value: []byte("import")})
	for _, name := range names {
		old, there := p.now.projects[name]
		n := p.to.projects[name]
		n.Meta = p.c.stamp(n.Meta, b.a)
		b.is(projectKey(name), old.Revision)
		b.put(projectKey(name), n)
		if there {
			p.c.audit(&b.txn, b.a, name, "project.change", name, old, n)
		} else {
			p.c.audit(&b.txn, b.a, name, "project.create", name, nil, n)
		}
	}
	rev, err := b.commit(ctx)
	p.guard.Modified = rev
	return err
}

func (p *plan) putTrusts(ctx context.Context, b *batch, names []string) error {
	for _, domain := range names {
		var before any
		old, there := p.now.trusts[domain]
		if there {
			before = old
		}
		n := p.to.trusts[domain]
		n.Meta = p.c.stamp(n.Meta, b.a)
		b.is(trustKey(domain), old.Revision)
		b.put(trustKey(domain), n)
		p.c.audit(&b.txn, b.a, n.Project, "trust.put", domain, before, n)
	}
	_, err := b.commit(ctx)
	return err
}

func (p *plan) removeTrusts(ctx context.Context, b *batch, names []string) error {
	for _, domain := range names {
		old := p.now.trusts[domain]
		b.is(trustKey(domain), old.Revision)
		b.txn.Delete = append(b.txn.Delete, trustKey(domain))
		p.c.audit(&b.txn, b.a, old.Project, "trust.delete", domain, old, nil)
	}
	_, err := b.commit(ctx)
	return err
}

func (p *plan) putTokens(ctx context.Context, b *batch, names []string) error {
	for _, id := range names {
		old, there := p.now.tokens[id]
		n, stays := p.to.tokens[id]
		b.is(tokenKey(id), old.Revision)
		if !stays {
			b.txn.Delete = append(b.txn.Delete, tokenKey(id))
			p.c.audit(&b.txn, b.a, old.Project, old.action("revoke"), id, old.public(), nil)
			continue
		}
		n.Meta = p.c.stamp(n.Meta, b.a)
		b.put(tokenKey(id), n)
		if there {
			p.c.audit(&b.txn, b.a, n.Project, "token.change", id, old.public(), n.public())
		} else {
			p.c.audit(&b.txn, b.a, n.Project, "token.create", id, nil, n.public())
		}
	}
	_, err := b.commit(ctx)
	return err
}

// applyProxies removes, moves, adds and changes proxies, those of a project together
// because they share its count.
func (p *plan) applyProxies(ctx context.Context, a Actor) error {
	gone, moved, rest := map[string][]string{}, []string{}, map[string][]string{}
	for _, host := range p.report.Proxies.Removed {
		of := p.now.proxies[host].Project
		gone[of] = append(gone[of], host)
	}
	for _, host := range slices.Concat(p.report.Proxies.Added, p.report.Proxies.Changed) {
		of := p.to.proxies[host].Project
		if old, there := p.now.proxies[host]; there && old.Project != of {
			moved = append(moved, host)
			continue
		}
		rest[of] = append(rest[of], host)
	}
	for project, hosts := range gone {
		if err := p.inBatches(a, hosts, func(b *batch, hosts []string) error { return p.removeProxies(ctx, b, project, hosts) }); err != nil {
			return err
		}
	}
	if err := p.inBatches(a, moved, func(b *batch, hosts []string) error { return p.moveProxies(ctx, b, hosts) }); err != nil {
		return err
	}
	for project, hosts := range rest {
		if err := p.inBatches(a, hosts, func(b *batch, hosts []string) error { return p.putProxies(ctx, b, project, hosts) }); err != nil {
			return err
		}
	}
	return nil
}

// counts reads the counts of projects, and makes the batch depend on those that it
// changes and on the projects that it gives proxies.
func (b *batch) counts(ctx context.Context, changes map[string]int) error {
	var keys []string
	for project := range changes {
		keys = append(keys, projectKey(project), countKey(project))
	}
	got, _, err := b.p.c.store.Get(ctx, keys...)
	if err != nil {
		return err
	}
	for project, change := range changes {
		now, err := maybe(got, projectKey(project), DecodeProject)
		if err != nil {
			return err
		}
		if want, stays := b.p.to.projects[project]; stays && (now == nil || now.ID != want.ID) {
			return store.ErrConflict
		}
		b.txn.If = append(b.txn.If, had(got, projectKey(project)))
		if change == 0 {
			continue
		}
		n, err := counted(got, project)
		if err != nil {
			return err
		}
		recount(&b.txn, got, project, n+change)
	}
	return nil
}

func (p *plan) removeProxies(ctx context.Context, b *batch, project string, hosts []string) error {
	for _, host := range hosts {
		old := p.now.proxies[host]
		b.is(proxyKey(host), old.Revision)
		b.txn.Delete = append(b.txn.Delete, proxyKey(host))
		p.c.release(&b.txn, &old)
		p.c.audit(&b.txn, b.a, project, "proxy.delete", host, old, nil)
	}
	if err := b.counts(ctx, map[string]int{project: -len(hosts)}); err != nil {
		return err
	}
	_, err := b.commit(ctx)
	return err
}

func (p *plan) moveProxies(ctx context.Context, b *batch, hosts []string) error {
	for _, host := range hosts {
		one := &batch{p: p, a: b.a}
		old, n := p.now.proxies[host], p.to.proxies[host]
		one.is(proxyKey(host), old.Revision)
		n.Meta, n.Edited = p.c.stamp(n.Meta, b.a), 0
		one.put(proxyKey(host), n)
		p.c.audit(&one.txn, b.a, old.Project, "proxy.delete", host, old, nil)
		p.c.audit(&one.txn, b.a, n.Project, "proxy.create", host, nil, n)
		if err := one.counts(ctx, map[string]int{old.Project: -1, n.Project: 1}); err != nil {
			return err
		}
		if _, err := one.commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) putProxies(ctx context.Context, b *batch, project string, hosts []string) error {
	added := 0
	for _, host := range hosts {
		old, there := p.now.proxies[host]
		n := p.to.proxies[host]
		n.Meta, n.Edited = p.c.stamp(n.Meta, b.a), 0
		b.is(proxyKey(host), old.Revision)
		b.put(proxyKey(host), n)
		if there {
			p.c.audit(&b.txn, b.a, project, "proxy.change", host, old, n)
			continue
		}
		added++
		b.txn.Delete = append(b.txn.Delete, holdKey(host))
		p.c.audit(&b.txn, b.a, project, "proxy.create", host, nil, n)
	}
	if err := b.counts(ctx, map[string]int{project: added}); err != nil {
		return err
	}
	_, err := b.commit(ctx)
	return err
}
