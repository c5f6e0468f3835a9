package access

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// books are tokens by secret, and how often they were looked up.
type books struct {
	tokens map[string]catalog.Token
	asked  int
	err    error
}

func (b *books) Authenticate(_ context.Context, secret string) (catalog.Token, error) {
	b.asked++
	if b.err != nil {
		return catalog.Token{}, b.err
	}
	t, ok := b.tokens[secret]
	if !ok {
		return t, catalog.ErrToken
	}
	return t, nil
}

// world is a guard at a time that the test decides.
type world struct {
	*Guard
	t     *testing.T
	books *books
	at    time.Time
}

func newWorld(t *testing.T, l Limits) *world {
	w := &world{t: t, at: time.Unix(1_900_000_000, 0), books: &books{tokens: map[string]catalog.Token{
		"good": {ID: "a", Verb: catalog.Write, Project: "shop"},
		"ends": {ID: "b", Verb: catalog.Read, Project: "shop", Expires: time.Unix(1_900_000_000, 0).Add(Fresh / 2)},
		"page": {ID: "c", Verb: catalog.Write, Project: "shop", Parent: "a"},
	}}}
	w.Guard = New(w.books, l)
	w.now = func() time.Time { return w.at }
	return w
}

var here = netip.MustParseAddr("192.0.2.1")

func (w *world) enter(from netip.Addr, secret string) error {
	_, err := w.Enter(w.t.Context(), from, secret)
	return err
}

// wants checks that a secret is let in, or why it is not.
func (w *world) wants(from netip.Addr, secret string, want error) {
	w.t.Helper()
	err := w.enter(from, secret)
	var flood *ErrFlood
	if _, ok := want.(*ErrFlood); ok {
		if !errors.As(err, &flood) || flood.Wait <= 0 {
			w.t.Errorf("%s: got %v, want a flood", secret, err)
		}
		return
	}
	if !errors.Is(err, want) {
		w.t.Errorf("%s: got %v, want %v", secret, err, want)
	}
}

// What the store said holds for Fresh, and no longer.
func TestRevocationIsSeen(t *testing.T) {
	w := newWorld(t, Limits{})
	w.wants(here, "good", nil)
	w.wants(here, "good", nil)
	if w.books.asked != 1 {
		t.Errorf("the store was asked %d times within %v", w.books.asked, Fresh)
	}
	delete(w.books.tokens, "good")
	w.at = w.at.Add(Fresh - 1)
	w.wants(here, "good", nil)
	w.at = w.at.Add(1)
	w.wants(here, "good", ErrUnknown)
}

func TestRevokedHereEndsAtOnce(t *testing.T) {
	w := newWorld(t, Limits{})
	w.wants(here, "good", nil)
	w.wants(here, "page", nil)
	delete(w.books.tokens, "good")
	delete(w.books.tokens, "page") // a session ends with the token that signed in
	w.Revoked("a")
	w.wants(here, "good", ErrUnknown)
	w.wants(here, "page", ErrUnknown)
}

func TestExpiryNeedsNoStore(t *testing.T) {
	w := newWorld(t, Limits{})
	w.wants(here, "ends", nil)
	w.at = w.at.Add(Fresh / 2)
	w.wants(here, "ends", ErrUnknown)
	if w.books.asked != 1 {
		t.Errorf("the store was asked %d times", w.books.asked)
	}
}

// A store that does not answer is no wrong token.
func TestStoreAway(t *testing.T) {
	w := newWorld(t, Limits{Failures: 1})
	w.books.err = store.ErrUnavailable
	w.wants(here, "good", store.ErrUnavailable)
	w.wants(here, "good", store.ErrUnavailable)
}

func TestWrongTokens(t *testing.T) {
	w := newWorld(t, Limits{Failures: 3})
	w.wants(here, "good", nil) // known from before
	for range 3 {
		w.wants(here, "guess", ErrUnknown)
	}
	asked := w.books.asked
	w.wants(here, "guess", &ErrFlood{})
	w.wants(here, "other", &ErrFlood{})
	if w.books.asked != asked {
		t.Error("guesses beyond the limit reach the store")
	}
	w.at = w.at.Add(2 * Fresh)
	w.wants(here, "good", nil)
	w.wants(netip.MustParseAddr("192.0.2.2"), "guess", ErrUnknown)
	w.at = w.at.Add(20 * time.Second) // one third of a minute: one more
	w.wants(here, "guess", ErrUnknown)
	w.wants(here, "guess", &ErrFlood{})

	// An IPv6 host has its /64 to itself.
	for i := range 3 {
		w.wants(netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i)), "guess", ErrUnknown)
	}
	w.wants(netip.MustParseAddr("2001:db8::ffff:1"), "guess", &ErrFlood{})
	w.wants(netip.MustParseAddr("2001:db8:0:1::1"), "guess", ErrUnknown)
}

func TestRequestsOfAToken(t *testing.T) {
	w := newWorld(t, Limits{PerSecond: 10, Burst: 5})
	for range 5 {
		w.wants(here, "good", nil)
	}
	w.wants(here, "good", &ErrFlood{})
	w.wants(here, "page", nil) // another token
	w.at = w.at.Add(100 * time.Millisecond)
	w.wants(here, "good", nil)
	w.wants(here, "good", &ErrFlood{})
	w.Update(Limits{PerSecond: -1, Burst: -1})
	for range 100 {
		w.at = w.at.Add(time.Millisecond)
		w.wants(here, "good", nil)
	}
}

// Memory does not grow with those who knock.
func TestBounds(t *testing.T) {
	w := newWorld(t, Limits{})
	for i := range 3 * maxBuckets {
		w.failures.take(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), w.at)
	}
	if n := len(w.failures.of); n > maxBuckets {
		t.Errorf("%d buckets", n)
	}
	for i := range 3 * maxKnown {
		w.books.tokens[fmt.Sprint(i)] = catalog.Token{ID: fmt.Sprint(i)}
		w.wants(here, fmt.Sprint(i), nil)
	}
	if n := len(w.seen); n > maxKnown {
		t.Errorf("%d tokens", n)
	}
}

func TestPrincipal(t *testing.T) {
	token := func(v catalog.Verb, project string) Principal {
		return Principal{Token: catalog.Token{ID: "a", Verb: v, Project: project}}
	}
	for _, c := range []struct {
		name    string
		who     Principal
		verb    catalog.Verb
		project string
		want    bool
	}{
		{"nobody", Principal{}, catalog.Read, "shop", false},
		{"nobody in no project", Principal{}, catalog.Read, "", false},
		{"reader reads", token(catalog.Read, "shop"), catalog.Read, "shop", true},
		{"reader writes", token(catalog.Read, "shop"), catalog.Write, "shop", false},
		{"reader elsewhere", token(catalog.Read, "shop"), catalog.Read, "blog", false},
		{"writer reads", token(catalog.Write, "shop"), catalog.Read, "shop", true},
		{"writer writes", token(catalog.Write, "shop"), catalog.Write, "shop", true},
		{"writer operates", token(catalog.Write, "shop"), catalog.Operator, "shop", false},
		{"writer elsewhere", token(catalog.Write, "shop"), catalog.Write, "blog", false},
		{"unknown verb", token("admin", "shop"), catalog.Write, "shop", false},
		{"no project", token(catalog.Write, ""), catalog.Write, "", false},
		{"operator", token(catalog.Operator, ""), catalog.Operator, "blog", true},
		{"root", Principal{Local: "root"}, catalog.Operator, "blog", true},
	} {
		if got := c.who.May(c.verb, c.project); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
