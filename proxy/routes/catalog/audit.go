package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// What follows AuditPrefix is 16 hexadecimal digits of the time, counted backwards
// so that the newest comes first, "-" and the ID. A second key below the project's
// name points to it.

// audit adds a record to the transaction that it is about.
func (c *Catalog) audit(t *store.Txn, a Actor, project, action, target string, before, after any) {
	r := Audit{At: c.o.Now().UTC(), ID: randomText(10), By: a.By, From: a.From, Project: project, Action: action, Target: target, Before: before, After: after}
	name := auditName(r.At, r.ID)
	t.Put = append(t.Put, store.Put{Key: AuditPrefix + name, Value: encode(r)})
	if project != "" {
		t.Put = append(t.Put, store.Put{Key: auditOfPrefix + project + "/" + name, Value: []byte{}})
	}
}

const stampDigits = 16

func auditStamp(at time.Time) string {
	return fmt.Sprintf("%0*x", stampDigits, uint64(math.MaxInt64-at.UnixNano()))
}

func auditName(at time.Time, id string) string { return auditStamp(at) + "-" + id }

// randomText has n random bytes, as lower-case letters and digits (base32).
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base32Text(b)
}

var errEnough = errors.New("enough")

// auditNames calls f with what follows a prefix of audit keys, from a place on, the
// newest first. The store lists whole prefixes only, so the range is taken apart:
// all that begins as from does, then with the next greater digit, and so on.
func (c *Catalog) auditNames(ctx context.Context, prefix, from string, f func(name string, e store.Entry) error) error {
	const deep = 4 // digits: 2^48 ns, three days
	list := func(start string) error {
		_, err := c.store.List(ctx, prefix+start, func(e store.Entry) error {
			if name := strings.TrimPrefix(e.Key, prefix); name >= from {
				return f(name, e)
			}
			return nil
		})
		return err
	}
	if err := list(from[:deep]); err != nil {
		return err
	}
	const digits = "0123456789abcdef"
	for i := deep - 1; i >= 0; i-- {
		for _, d := range digits[strings.IndexByte(digits, from[i])+1:] {
			if i == 0 && d > '7' {
				break // times have 63 bits
			}
			if err := list(from[:i] + string(d)); err != nil {
				return err
			}
		}
	}
	return nil
}

// AuditLog gives up to n records, the newest first, of one project or, if that is
// empty, of all. Before is where the last call ended, or empty; next is empty at
// the end.
func (c *Catalog) AuditLog(ctx context.Context, project, before string, n int) (page []Audit, next string, err error) {
	if project != "" && checkName("project", project) != nil {
		return nil, "", notFound(projectKey(project))
	}
	// Nothing is from the future, but for clocks that differ.
	from := auditStamp(c.o.Now().Add(day))
	if before != "" {
		if from, err = auditCursor(before); err != nil {
			return nil, "", err
		}
	}
	prefix := AuditPrefix
	if project != "" {
		prefix = auditOfPrefix + project + "/"
	}
	var names []string
	err = c.auditNames(ctx, prefix, from, func(name string, e store.Entry) error {
		if name == before {
			return nil
		}
		if len(names) == n {
			next = names[n-1]
			return errEnough
		}
		names = append(names, name)
		if project == "" {
			r, err := DecodeAudit(e)
			page = append(page, r)
			return err
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, "", err
	}
	if project != "" {
		page, err = c.audits(ctx, names)
		return page, next, err
	}
	return page, next, nil
}

// audits reads records by name. Those that have been pruned meanwhile are left out.
func (c *Catalog) audits(ctx context.Context, names []string) (page []Audit, err error) {
	for len(names) > 0 {
		n := min(len(names), store.MaxTxn)
		keys := make([]string, n)
		for i := range keys {
			keys[i] = AuditPrefix + names[i]
		}
		got, _, err := c.store.Get(ctx, keys...)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			e, ok := got[k]
			if !ok {
				continue
			}
			r, err := DecodeAudit(e)
			if err != nil {
				return nil, err
			}
			page = append(page, r)
		}
		names = names[n:]
	}
	return page, nil
}

func auditCursor(s string) (string, error) {
	if len(s) <= stampDigits || s[stampDigits] != '-' || strings.Trim(s[:stampDigits], "0123456789abcdef") != "" {
		return "", &Invalid{Field: "before", Problem: "not a place in the log", Remedy: "give what the page before said, or nothing"}
	}
	return s, nil
}
