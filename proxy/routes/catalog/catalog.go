package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/store"
)

// Options are what a [Catalog] goes by. Zero values mean the defaults.
type Options struct {
	// Reach says where proxies may lead at all; nil: a project's prefixes decide alone.
	Reach routes.Reach
	// VMs are the prefixes that those of projects have to lie in. None: nobody can
	// give a project prefixes.
	VMs []netip.Prefix
	// Look gives what the TXT records at [TXT] of a host name say, according to the
	// name servers of its zone. With it, a project can have a name that another one
	// claims without proof; nil: it can't.
	Look func(ctx context.Context, host string) (texts []string, err error)

	Now   func() time.Time // nil: time.Now
	Hold  time.Duration    // how long a released name is kept from others; 0: 7 days
	Grace time.Duration    // how long a proof may be gone before it is Lost; 0: 7 days
	Audit time.Duration    // how long the log is kept; 0: 90 days
}

const day = 24 * time.Hour

// Catalog reads and changes records, by the rules of this package. Its methods may
// be called from many goroutines and processes.
type Catalog struct {
	store store.Store
	o     Options
	reach atomic.Pointer[reach]
}

type reach struct {
	check routes.Reach
	vms   []netip.Prefix
}

// New makes the catalog of a store.
func New(s store.Store, o Options) *Catalog {
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		of    *time.Duration
		usual time.Duration
	}{{&o.Hold, 7 * day}, {&o.Grace, 7 * day}, {&o.Audit, 90 * day}} {
		if *d.of == 0 {
			*d.of = d.usual
		}
	}
	c := &Catalog{store: s, o: o}
	c.SetReach(o.Reach, o.VMs)
	return c
}

// SetReach replaces Reach and VMs of the [Options]. What is stored stays.
func (c *Catalog) SetReach(check routes.Reach, vms []netip.Prefix) {
	c.reach.Store(&reach{check: check, vms: vms})
}

// Actor is who changes something, for the audit log.
type Actor struct {
	By   string // ID of a token, or what an operator is called
	From string // address of the client; may be empty
}

// Match is what a caller knows of a record that is to be changed. Its zero value
// takes whatever there is.
type Match struct {
	Absent   bool           // there is none (If-None-Match: *)
	Revision store.Revision // people have not changed it since (If-Match)
}

// met tells whether a record fits: store.ErrConflict if it doesn't. Edited is the
// revision since when people have not changed it.
func (m Match) met(there bool, revision, edited store.Revision) error {
	switch {
	case m.Absent && there,
		m.Revision != 0 && !there,
		m.Revision != 0 && m.Revision != revision && (edited == 0 || m.Revision < edited || m.Revision > revision):
		return store.ErrConflict
	}
	return nil
}

// maxTries is how often a change is tried again after somebody else's came between
// reading and committing.
const maxTries = 100

// change commits what f decides, and lets f decide anew if what it went by has
// changed meanwhile. A transaction that puts and deletes nothing is not carried out.
func (c *Catalog) change(ctx context.Context, f func() (store.Txn, error)) (store.Revision, error) {
	for try := range maxTries {
		t, err := f()
		if err != nil || len(t.Put)+len(t.Delete) == 0 {
			return 0, err
		}
		rev, err := c.store.Commit(ctx, t)
		if !errors.Is(err, store.ErrConflict) {
			return rev, err
		}
		// Whoever was faster is through; let others not meet again at once.
		select {
		case <-time.After(rand.N(time.Duration(min(try, 20)+1) * time.Millisecond)):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return 0, fmt.Errorf("%w for this change: too many others at the same time; try again", store.ErrUnavailable)
}

// had is the condition that a key is as it was when it was read.
func had(got map[string]store.Entry, key string) store.Condition {
	return store.Condition{Key: key, Modified: got[key].Modified} // 0 if it was not there
}

// stamp notes who changes a record, and when; m is what it had before.
func (c *Catalog) stamp(m Meta, a Actor) Meta {
	now := c.o.Now().UTC().Truncate(time.Millisecond)
	if m.Created.IsZero() {
		m.Created, m.CreatedBy = now, a.By
	}
	m.Changed, m.ChangedBy = now, a.By
	return m
}

// committed gives a record's revisions after a commit.
func (m *Meta) committed(rev store.Revision) {
	if m.Revision = rev; m.Since == 0 {
		m.Since = rev
	}
}

// each decodes all records below a prefix.
func each[T any](ctx context.Context, s store.Store, prefix string, decode func(store.Entry) (T, error), f func(T) error) error {
	_, err := s.List(ctx, prefix, func(e store.Entry) error {
		v, err := decode(e)
		if err != nil {
			return err
		}
		return f(v)
	})
	return err
}

// list collects those that keep says, or all if it is nil.
func list[T any](ctx context.Context, s store.Store, prefix string, decode func(store.Entry) (T, error), keep func(T) bool) (all []T, err error) {
	err = each(ctx, s, prefix, decode, func(v T) error {
		if keep == nil || keep(v) {
			all = append(all, v)
		}
		return nil
	})
	return all, err
}

// get reads one record.
func get[T any](ctx context.Context, s store.Store, key string, decode func(store.Entry) (T, error)) (v T, err error) {
	got, _, err := s.Get(ctx, key)
	if err != nil {
		return v, err
	}
	e, ok := got[key]
	if !ok {
		return v, notFound(key)
	}
	return decode(e)
}

// notFound names the record of a key as people do: "project shop".
func notFound(key string) error {
	kind, name, _ := strings.Cut(strings.TrimPrefix(key, Serving), "/")
	return fmt.Errorf("%s %.100q: %w", kind, name, ErrNotFound) // quoted: it may be anything
}

// Nodes lists those that are alive.
func (c *Catalog) Nodes(ctx context.Context) (nodes []Node, err error) {
	_, err = c.store.List(ctx, NodePrefix, func(e store.Entry) error {
		if len(e.Value) == 0 {
			return nil // announced, and has not said anything yet
		}
		n, err := DecodeNode(e)
		if err == nil {
			nodes = append(nodes, n)
		}
		return err
	})
	return nodes, err
}
