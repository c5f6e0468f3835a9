package catalog

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// A secret is "isth_", the token's ID, "_" and 256 random bits: programs that look
// for leaked secrets know it by that.
const (
	secretStart = "isth_"
	idBytes     = 10
	idLen       = 16 // in base32
	randomBytes = 32
	randomLen   = 52
)

// May tells whether a token allows something in a project; with "", something that
// is no project's.
func (t *Token) May(v Verb, project string) bool {
	if t.Verb == Operator {
		return true
	}
	return project != "" && t.Project == project && (v == t.Verb || v == Read && t.Verb == Write)
}

// CreateToken makes a token with the Name, Project, Verb, Expires and Parent of t.
// The secret is told this once. Errors: [Invalids], ErrNotFound for the project.
func (c *Catalog) CreateToken(ctx context.Context, a Actor, t Token) (secret string, saved Token, err error) {
	now := c.o.Now()
	if err := t.check(now); err != nil {
		return "", Token{}, err
	}
	t = Token{ID: randomText(idBytes), Name: t.Name, Project: t.Project, Verb: t.Verb, Expires: t.Expires.UTC(), Parent: t.Parent}
	if t.Expires.Year() <= 1 {
		t.Expires = time.Time{}
	}
	secret = secretStart + t.ID + "_" + randomText(randomBytes)
	sum := sha256.Sum256([]byte(secret))
	t.Hash = sum[:]
	rev, err := c.change(ctx, func() (store.Txn, error) {
		txn := store.Txn{If: []store.Condition{{Key: tokenKey(t.ID)}}}
		var keys []string
		if t.Project != "" {
			keys = append(keys, projectKey(t.Project))
		}
		if t.Parent != "" {
			keys = append(keys, tokenKey(t.Parent))
		}
		got, err := map[string]store.Entry(nil), error(nil)
		if len(keys) > 0 {
			if got, _, err = c.store.Get(ctx, keys...); err != nil {
				return txn, err
			}
		}
		for _, k := range keys {
			if _, ok := got[k]; !ok {
				return txn, notFound(k)
			}
			txn.If = append(txn.If, had(got, k))
		}
		if p, err := maybe(got, projectKey(t.Project), DecodeProject); err != nil {
			return txn, err
		} else if p != nil {
			t.ProjectID = p.ID
		}
		if t.Parent != "" {
			parent, err := DecodeToken(got[tokenKey(t.Parent)])
			if err != nil {
				return txn, err
			}
			if err := t.checkParent(&parent, now); err != nil {
				return txn, err
			}
		}
		t.Meta = c.stamp(Meta{}, a)
		txn.Put = append(txn.Put, store.Put{Key: tokenKey(t.ID), Value: encode(t)})
		c.audit(&txn, a, t.Project, t.action("create"), t.ID, nil, t.public())
		return txn, nil
	})
	if err != nil {
		return "", Token{}, err
	}
	t.committed(rev)
	return secret, t, nil
}

func (t *Token) check(now time.Time) error {
	var wrong Invalids
	if e := checkText("name", t.Name, 1); e != nil {
		wrong = append(wrong, e)
	}
	switch t.Verb {
	case Read, Write:
		if e := checkName("project", t.Project); e != nil {
			wrong = append(wrong, e)
		}
	case Operator:
		if t.Project != "" {
			wrong.add("project", "an operator's token is for all", "leave it out")
		}
	default:
		wrong.add("verb", fmt.Sprintf("%q is not a choice", t.Verb), `write "read", "write" or "operator"`)
	}
	if !t.Expires.IsZero() && !t.Expires.After(now) {
		wrong.add("expires", "is over", "give a time to come")
	}
	if t.Parent != "" && t.Expires.IsZero() {
		wrong.add("expires", "missing", "a session has an end")
	}
	return wrong.orNil()
}

// checkParent refuses a session that would have more than the token behind it.
func (t *Token) checkParent(parent *Token, now time.Time) error {
	switch {
	case parent.Parent != "":
		return &Invalid{"parent", "is a session", "sign in with a token"}
	case parent.expired(now):
		return ErrToken
	case parent.ProjectID != t.ProjectID || t.Verb != parent.Verb && !parent.May(t.Verb, t.Project),
		!parent.Expires.IsZero() && t.Expires.After(parent.Expires):
		return &Invalid{"parent", "the session would have more than the token", "give it the same project and verb, and no later end"}
	}
	return nil
}

func (t *Token) expired(now time.Time) bool { return !t.Expires.IsZero() && !t.Expires.After(now) }

// public is the token as it may be shown.
func (t Token) public() Token {
	t.Hash = nil
	return t
}

// Authenticate finds the token with a secret. ErrToken if there is none that counts.
func (c *Catalog) Authenticate(ctx context.Context, secret string) (Token, error) {
	id, ok := secretID(secret)
	if !ok {
		return Token{}, ErrToken
	}
	got, _, err := c.store.Get(ctx, tokenKey(id))
	if err != nil {
		return Token{}, err
	}
	t, err := maybe(got, tokenKey(id), DecodeToken)
	if err != nil {
		return Token{}, err
	}
	sum := sha256.Sum256([]byte(secret))
	if t == nil || subtle.ConstantTimeCompare(sum[:], t.Hash) != 1 || t.expired(c.o.Now()) {
		return Token{}, ErrToken
	}
	return *t, c.stillCounts(ctx, t)
}

// stillCounts looks at what a token depends on: its project, and the token behind
// a session.
func (c *Catalog) stillCounts(ctx context.Context, t *Token) error {
	var keys []string
	if t.Project != "" {
		keys = append(keys, projectKey(t.Project))
	}
	if t.Parent != "" {
		keys = append(keys, tokenKey(t.Parent))
	}
	if len(keys) == 0 {
		return nil
	}
	got, _, err := c.store.Get(ctx, keys...)
	if err != nil {
		return err
	}
	if t.Project != "" {
		p, err := maybe(got, projectKey(t.Project), DecodeProject)
		if err != nil {
			return err
		}
		if p == nil || p.ID != t.ProjectID {
			return ErrToken
		}
	}
	if t.Parent != "" {
		parent, err := maybe(got, tokenKey(t.Parent), DecodeToken)
		if err != nil {
			return err
		}
		if parent == nil || parent.expired(c.o.Now()) {
			return ErrToken
		}
	}
	return nil
}

// secretID takes the ID out of a secret that has the right form.
func secretID(secret string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(secret, secretStart)
	if !ok || len(rest) != idLen+1+randomLen || rest[idLen] != '_' {
		return "", false
	}
	id = rest[:idLen]
	return id, isID(id)
}

func isID(s string) bool {
	return len(s) == idLen && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// Tokens lists those of a project, or all, sessions included.
func (c *Catalog) Tokens(ctx context.Context, project string) ([]Token, error) {
	all, err := list(ctx, c.store, TokenPrefix, DecodeToken, func(t Token) bool { return project == "" || t.Project == project })
	for i := range all {
		all[i] = all[i].public()
	}
	return all, err
}

// RevokeToken ends a token, and with it the sessions that it signed in. With a
// project, it has to be its. ErrNotFound if there is none.
func (c *Catalog) RevokeToken(ctx context.Context, a Actor, project, id string) error {
	key := tokenKey(id)
	if !isID(id) {
		return notFound(key)
	}
	session := false
	_, err := c.change(ctx, func() (store.Txn, error) {
		got, _, err := c.store.Get(ctx, key)
		if err != nil {
			return store.Txn{}, err
		}
		t, err := maybe(got, key, DecodeToken)
		if err != nil {
			return store.Txn{}, err
		}
		if t == nil || project != "" && t.Project != project {
			return store.Txn{}, notFound(key)
		}
		session = t.Parent != ""
		txn := store.Txn{If: []store.Condition{had(got, key)}, Delete: []string{key}}
		c.audit(&txn, a, t.Project, t.action("revoke"), id, t.public(), nil)
		return txn, nil
	})
	if err != nil || session {
		return err
	}
	// They are worth nothing by now.
	sessions, err := list(ctx, c.store, TokenPrefix, DecodeToken, func(t Token) bool { return t.Parent == id })
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if err := c.RevokeToken(ctx, a, project, s.ID); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

func (t *Token) action(what string) string {
	if t.Parent != "" {
		return "session." + what
	}
	return "token." + what
}
