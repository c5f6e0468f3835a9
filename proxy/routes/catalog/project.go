package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Project reads one; ErrNotFound if there is none.
func (c *Catalog) Project(ctx context.Context, name string) (Project, error) {
	if checkName("name", name) != nil {
		return Project{}, notFound(projectKey(name))
	}
	return get(ctx, c.store, projectKey(name), DecodeProject)
}

// Projects reads all, in the order of their names.
func (c *Catalog) Projects(ctx context.Context) ([]Project, error) {
	return list(ctx, c.store, ProjectPrefix, DecodeProject, nil)
}

// PutProject adds or changes a project. Its prefixes must be nobody else's. If they
// move, proxies that lead elsewhere stop being served (see [Proxy.Route]).
// Errors: [Invalids], store.ErrConflict.
func (c *Catalog) PutProject(ctx context.Context, a Actor, p Project, m Match) (Project, error) {
	if err := p.check(c.reach.Load().vms); err != nil {
		return Project{}, err
	}
	var saved Project
	rev, err := c.change(ctx, func() (store.Txn, error) {
		key := projectKey(p.Name)
		got, _, err := c.store.Get(ctx, key, guardKey)
		if err != nil {
			return store.Txn{}, err
		}
		old := Project{ID: randomText(16)}
		e, there := got[key]
		if there {
			if old, err = DecodeProject(e); err != nil {
				return store.Txn{}, err
			}
		}
		if err := m.met(there, old.Revision, 0); err != nil {
			return store.Txn{}, err
		}
		saved = p
		saved.ID, saved.Meta = old.ID, old.Meta
		saved.Prefixes = append([]netip.Prefix{}, p.Prefixes...) // a list in JSON, even if there are none
		if there && saved.same(&old) {
			return store.Txn{}, nil
		}
		t := store.Txn{If: []store.Condition{had(got, key)}}
		if !slices.Equal(saved.Prefixes, old.Prefixes) {
			// Everybody who changes prefixes changes the guard, so that two who do so
			// at the same time can't miss each other.
			if err := c.prefixesFree(ctx, &saved); err != nil {
				return store.Txn{}, err
			}
			t.If = append(t.If, had(got, guardKey))
			t.Put = append(t.Put, store.Put{Key: guardKey, Value: []byte(p.Name)})
		}
		saved.Meta = c.stamp(old.Meta, a)
		t.Put = append(t.Put, store.Put{Key: key, Value: encode(saved)})
		if there {
			c.audit(&t, a, p.Name, "project.change", p.Name, old, saved)
		} else {
			c.audit(&t, a, p.Name, "project.create", p.Name, nil, saved)
		}
		return t, nil
	})
	if err != nil {
		return Project{}, err
	}
	if rev != 0 {
		saved.committed(rev)
	}
	return saved, nil
}

// same tells whether two differ in nothing that people set.
func (p *Project) same(o *Project) bool {
	return p.Title == o.Title && p.Proxies == o.Proxies && slices.Equal(p.Prefixes, o.Prefixes)
}

func (c *Catalog) prefixesFree(ctx context.Context, p *Project) error {
	var wrong Invalids
	err := each(ctx, c.store, ProjectPrefix, DecodeProject, func(o Project) error {
		if o.Name == p.Name {
			return nil
		}
		for i, x := range p.Prefixes {
			if slices.ContainsFunc(o.Prefixes, x.Overlaps) {
				wrong.add(fmt.Sprintf("prefixes[%d]", i), fmt.Sprintf("%v has addresses of project %s", x, o.Name), "give each project prefixes of its own")
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return wrong.orNil()
}

// DeleteProject removes a project without proxies, with its tokens and what is
// trusted to it, and gives the revision of the change. Errors: ErrNotFound, ErrInUse,
// store.ErrConflict.
func (c *Catalog) DeleteProject(ctx context.Context, a Actor, name string, m Match) (store.Revision, error) {
	key, counter := projectKey(name), countKey(name)
	if checkName("name", name) != nil {
		return 0, notFound(key)
	}
	rev, err := c.change(ctx, func() (store.Txn, error) {
		got, _, err := c.store.Get(ctx, key, counter)
		if err != nil {
			return store.Txn{}, err
		}
		e, there := got[key]
		if !there {
			return store.Txn{}, notFound(key)
		}
		old, err := DecodeProject(e)
		if err != nil {
			return store.Txn{}, err
		}
		if err := m.met(true, old.Revision, 0); err != nil {
			return store.Txn{}, err
		}
		n, err := counted(got, name)
		if err != nil {
			return store.Txn{}, err
		}
		if n > 0 {
			return store.Txn{}, ErrInUse
		}
		t := store.Txn{If: []store.Condition{had(got, key), had(got, counter)}, Delete: []string{key, counter}}
		c.audit(&t, a, name, "project.delete", name, old, nil)
		return t, nil
	})
	if err != nil {
		return 0, err
	}
	// Both are bound to the project's ID and worth nothing by now.
	return rev, c.sweepProject(ctx, a, name)
}

// counted reads how many proxies a project has.
func counted(got map[string]store.Entry, project string) (int, error) {
	e, ok := got[countKey(project)]
	if !ok {
		return 0, nil
	}
	var n count
	if err := json.Unmarshal(e.Value, &n); err != nil {
		return 0, fmt.Errorf("record %s: %w", e.Key, err)
	}
	return n.Proxies, nil
}

// recount changes how many proxies a project has, as part of a transaction.
func recount(t *store.Txn, got map[string]store.Entry, project string, n int) {
	key := countKey(project)
	t.If = append(t.If, had(got, key))
	t.Put = append(t.Put, store.Put{Key: key, Value: encode(count{n})})
}
