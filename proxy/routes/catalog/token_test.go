package catalog

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

func TestToken(t *testing.T) {
	c, k := world(t)
	secret, made, err := c.CreateToken(ctx, admin, Token{Name: "ci", Project: "shop", Verb: Write, Expires: k.now.Add(time.Hour), ID: "mine", Hash: []byte("mine")})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^isth_[a-z2-7]{16}_[a-z2-7]{52}$`).MatchString(secret) || !strings.Contains(secret, made.ID) {
		t.Errorf("secret %q of %s", secret, made.ID)
	}
	got, err := c.Authenticate(ctx, secret)
	if err != nil || got.ID != made.ID || got.Name != "ci" || got.Project != "shop" || got.Verb != Write {
		t.Fatalf("got %+v, %v", got, err)
	}
	last := secret[len(secret)-1:]
	other := strings.TrimSuffix(secret, last) + map[bool]string{true: "b", false: "a"}[last == "a"]
	for _, wrong := range []string{"", "isth_", secret[:len(secret)-1], secret + "a", other, strings.ToUpper(secret), "isth_" + strings.Repeat("a", 16) + secret[21:], " " + secret,
		"isth_../../s/project" + secret[20:]} {
		if _, err := c.Authenticate(ctx, wrong); !errors.Is(err, ErrToken) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	// What is stored, and what the log says, is of no use to a thief.
	_, err = c.store.List(ctx, "", func(e store.Entry) error {
		if strings.Contains(string(e.Value), secret[22:]) || strings.HasPrefix(e.Key, "audit") && strings.Contains(string(e.Value), `"hash":"`) {
			t.Errorf("%s: %s", e.Key, e.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := c.Tokens(ctx, "shop"); err != nil || len(list) != 1 || list[0].Hash != nil {
		t.Errorf("tokens: %+v, %v", list, err)
	}
	k.add(time.Hour - time.Second)
	if _, err := c.Authenticate(ctx, secret); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
	k.add(time.Second)
	if _, err := c.Authenticate(ctx, secret); !errors.Is(err, ErrToken) {
		t.Errorf("at its end: %v", err)
	}
}

func TestMay(t *testing.T) {
	for _, x := range []struct {
		token   Token
		verb    Verb
		project string
		want    bool
	}{
		{Token{Verb: Read, Project: "shop"}, Read, "shop", true},
		{Token{Verb: Read, Project: "shop"}, Write, "shop", false},
		{Token{Verb: Read, Project: "shop"}, Read, "blog", false},
		{Token{Verb: Read, Project: "shop"}, Read, "", false},
		{Token{Verb: Write, Project: "shop"}, Read, "shop", true},
		{Token{Verb: Write, Project: "shop"}, Write, "shop", true},
		{Token{Verb: Write, Project: "shop"}, Write, "blog", false},
		{Token{Verb: Write, Project: "shop"}, Operator, "shop", false},
		{Token{Verb: Operator}, Operator, "", true},
		{Token{Verb: Operator}, Write, "shop", true},
		{Token{Verb: Operator}, Read, "", true},
		// None of these can be made, and none may do anything.
		{Token{}, Read, "", false},
		{Token{}, "", "", false},
		{Token{Verb: Read}, Read, "", false},
		{Token{Verb: Write}, Write, "shop", false},
		{Token{Verb: "root", Project: "shop"}, Read, "shop", false},
	} {
		if got := x.token.May(x.verb, x.project); got != x.want {
			t.Errorf("%s of %q, %s of %q: %v", x.token.Verb, x.token.Project, x.verb, x.project, got)
		}
	}
}

func TestInvalidToken(t *testing.T) {
	c, k := world(t)
	for name, x := range map[string]struct {
		t    Token
		want string
	}{
		"no name":              {Token{Verb: Read, Project: "shop"}, "name: missing; "},
		"no verb":              {Token{Name: "x", Project: "shop"}, `verb: "" is not a choice; `},
		"no project":           {Token{Name: "x", Verb: Read}, `project: "" can be no project's name; `},
		"operator's project":   {Token{Name: "x", Verb: Operator, Project: "shop"}, "project: an operator's token is for all; "},
		"over":                 {Token{Name: "x", Verb: Operator, Expires: k.now}, "expires: is over; "},
		"session without end":  {Token{Name: "x", Verb: Operator, Parent: strings.Repeat("a", 16)}, "expires: missing; "},
		"name that can't show": {Token{Name: "\x07", Verb: Operator}, "name: has characters"},
	} {
		if _, _, err := c.CreateToken(ctx, admin, x.t); len(Problems(err)) != 1 || !strings.HasPrefix(err.Error(), x.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := c.CreateToken(ctx, admin, Token{Name: "x", Verb: Read, Project: "nobody"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such project: %v", err)
	}
}

func TestSession(t *testing.T) {
	c, k := world(t)
	soon := k.now.Add(time.Hour)
	secret, parent, err := c.CreateToken(ctx, admin, Token{Name: "anna", Project: "shop", Verb: Write, Expires: k.now.Add(2 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	session := func(v Verb, project string, expires time.Time, parent string) (string, error) {
		s, _, err := c.CreateToken(ctx, Actor{By: parent}, Token{Name: "browser", Project: project, Verb: v, Expires: expires, Parent: parent})
		return s, err
	}
	one, err := session(Write, "shop", soon, parent.ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Authenticate(ctx, one)
	if err != nil || got.Parent != parent.ID {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := session(Read, "shop", soon, parent.ID); err != nil {
		t.Errorf("with less: %v", err)
	}
	for name, f := range map[string]func() (string, error){
		"another project": func() (string, error) { return session(Write, "blog", soon, parent.ID) },
		"an operator's":   func() (string, error) { return session(Operator, "", soon, parent.ID) },
		"a later end":     func() (string, error) { return session(Write, "shop", soon.Add(2*time.Hour), parent.ID) },
		"of a session":    func() (string, error) { return session(Write, "shop", soon, got.ID) },
		"of nobody":       func() (string, error) { return session(Write, "shop", soon, strings.Repeat("a", 16)) },
		"of a path":       func() (string, error) { return session(Write, "shop", soon, "../"+parent.ID) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	if err := c.RevokeToken(ctx, admin, "blog", parent.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("revoked by another project: %v", err)
	}
	for _, id := range []string{"", "..", strings.Repeat("a", 16), strings.Repeat("a", 5000)} {
		if err := c.RevokeToken(ctx, admin, "", id); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoke %.20q: %v", id, err)
		}
	}
	entry, _, err := c.store.Get(ctx, tokenKey(got.ID))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.RevokeToken(ctx, admin, "shop", parent.ID); err != nil {
		t.Fatal(err)
	}
	if tokens, err := c.Tokens(ctx, ""); err != nil || len(tokens) != 0 {
		t.Errorf("left: %+v, %v", tokens, err)
	}
	for _, s := range []string{secret, one} {
		if _, err := c.Authenticate(ctx, s); !errors.Is(err, ErrToken) {
			t.Errorf("revoked: %v", err)
		}
	}
	checkInvariants(t, c)
	// A session is worth nothing without its token, even if nobody had swept it.
	if _, err := c.store.Commit(ctx, store.Txn{Put: []store.Put{{Key: tokenKey(got.ID), Value: entry[tokenKey(got.ID)].Value}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Authenticate(ctx, one); !errors.Is(err, ErrToken) {
		t.Errorf("session, not swept: %v", err)
	}
}
