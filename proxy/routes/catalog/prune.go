package catalog

import (
	"context"
	"errors"
	"fmt"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Pruned counts what was removed because its time was over.
type Pruned struct{ Audits, Holds, Tokens int }

// Prune removes records whose time is over: old ones of the audit log, holds, and
// tokens a day after their end. One node does that for all, now and then.
func (c *Catalog) Prune(ctx context.Context) (n Pruned, err error) {
	now := c.o.Now()
	var names []string
	err = c.auditNames(ctx, AuditPrefix, auditStamp(now.Add(-c.o.Audit)), func(name string, e store.Entry) error {
		names = append(names, e.Key)
		r, err := DecodeAudit(e)
		if err != nil {
			return err
		}
		if r.Project != "" {
			names = append(names, auditOfPrefix+r.Project+"/"+name)
		}
		n.Audits++
		return nil
	})
	if err != nil {
		return n, err
	}
	if err := c.remove(ctx, names); err != nil {
		return n, err
	}
	var over []store.Entry
	_, err = c.store.List(ctx, HoldPrefix, func(e store.Entry) error {
		h, err := DecodeHold(e)
		if err == nil && !h.Until.After(now) {
			over, n.Holds = append(over, e), n.Holds+1
		}
		return err
	})
	if err != nil {
		return n, err
	}
	_, err = c.store.List(ctx, TokenPrefix, func(e store.Entry) error {
		t, err := DecodeToken(e)
		if err == nil && t.expired(now.Add(-day)) {
			over, n.Tokens = append(over, e), n.Tokens+1
		}
		return err
	})
	if err != nil {
		return n, err
	}
	return n, c.removeUnchanged(ctx, over)
}

// remove deletes keys that nobody writes twice.
func (c *Catalog) remove(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), store.MaxTxn)
		if _, err := c.store.Commit(ctx, store.Txn{Delete: keys[:n]}); err != nil {
			return fmt.Errorf("prune: %w", err)
		}
		keys = keys[n:]
	}
	return nil
}

// removeUnchanged deletes entries, one by one so that one that has changed spares
// none but itself.
func (c *Catalog) removeUnchanged(ctx context.Context, list []store.Entry) error {
	for _, e := range list {
		_, err := c.store.Commit(ctx, store.Txn{If: []store.Condition{{Key: e.Key, Modified: e.Modified}}, Delete: []string{e.Key}})
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("prune %s: %w", e.Key, err)
		}
	}
	return nil
}

// Holds lists the host names that are kept from other projects, of one or of all.
func (c *Catalog) Holds(ctx context.Context, project string) ([]Hold, error) {
	now := c.o.Now()
	return list(ctx, c.store, HoldPrefix, DecodeHold, func(h Hold) bool {
		return h.Until.After(now) && (project == "" || h.Project == project)
	})
}

// DeleteHold lets all projects have a released name at once. ErrNotFound.
func (c *Catalog) DeleteHold(ctx context.Context, a Actor, host string) error {
	key := holdKey(host)
	if checkHost(host) != nil {
		return notFound(key)
	}
	_, err := c.change(ctx, func() (store.Txn, error) {
		got, _, err := c.store.Get(ctx, key)
		if err != nil {
			return store.Txn{}, err
		}
		h, err := maybe(got, key, DecodeHold)
		if err != nil {
			return store.Txn{}, err
		}
		if h == nil {
			return store.Txn{}, notFound(key)
		}
		t := store.Txn{If: []store.Condition{had(got, key)}, Delete: []string{key}}
		c.audit(&t, a, h.Project, "hold.delete", host, *h, nil)
		return t, nil
	})
	return err
}
