package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"aarch64.com/isthmus/proxy/internal/clientnet"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

// Fresh is how long a good answer of the store about a token holds, and so how much
// later than there a revoked one may end.
const Fresh = time.Second

// known is how long a token that was good counts as one from before: failures of
// others behind the same address don't lock it out.
const known = 10 * time.Minute

// maxKnown bounds the memory for tokens.
const maxKnown = 1 << 12

// ErrUnknown tells that a secret is no token's: wrong, expired or revoked. Which of
// these, nobody is told.
var ErrUnknown = errors.New("the token is not known: it is wrong, expired or revoked")

// ErrFlood tells that somebody asks too often.
type ErrFlood struct {
	What string
	Wait time.Duration
}

func (e *ErrFlood) Error() string {
	return fmt.Sprintf("%s; wait %v", e.What, e.Wait.Round(time.Second))
}

// Limits bound how often somebody may ask. 0 stands for the default, less than 0
// for no bound.
type Limits struct {
	PerSecond int // requests with one token; 50
	Burst     int // of them at once; 200
	Failures  int // wrong tokens in a minute, from an IPv4 address or an IPv6 /64; 20
}

func (l *Limits) setDefaults() {
	set := func(v *int, to int) {
		switch {
		case *v == 0:
			*v = to
		case *v < 0:
			*v = 1 << 30
		}
	}
	set(&l.PerSecond, 50)
	set(&l.Burst, 200)
	set(&l.Failures, 20)
}

// Tokens are where secrets are looked up.
type Tokens interface {
	// Authenticate gives the token of a secret, or an error that wraps
	// catalog.ErrToken.
	Authenticate(ctx context.Context, secret string) (catalog.Token, error)
}

// Guard tells principals from strangers. Its methods may be called from many
// goroutines.
type Guard struct {
	tokens   Tokens
	now      func() time.Time
	failures *buckets[netip.Prefix]
	requests *buckets[string]

	mu   sync.Mutex
	seen map[[sha256.Size]byte]answer
}

// answer is a good one of the store.
type answer struct {
	token catalog.Token
	at    time.Time // when it was asked for
}

// New makes a guard.
func New(tokens Tokens, l Limits) *Guard {
	l.setDefaults()
	return &Guard{
		tokens: tokens, now: time.Now, seen: map[[sha256.Size]byte]answer{},
		failures: newBuckets[netip.Prefix](float64(l.Failures)/60, l.Failures),
		requests: newBuckets[string](float64(l.PerSecond), l.Burst),
	}
}

// Update replaces the limits.
func (g *Guard) Update(l Limits) {
	l.setDefaults()
	g.failures.bound(float64(l.Failures)/60, l.Failures)
	g.requests.bound(float64(l.PerSecond), l.Burst)
}

// Enter tells whose a secret is. The error is [ErrUnknown], an [*ErrFlood], or the
// store's.
func (g *Guard) Enter(ctx context.Context, client netip.Addr, secret string) (Principal, error) {
	hash := sha256.Sum256([]byte(secret))
	now := g.now()
	g.mu.Lock()
	old, ok := g.seen[hash]
	g.mu.Unlock()
	if ok && now.Sub(old.at) < Fresh {
		if expired(old.token, now) {
			return Principal{}, ErrUnknown
		}
		return g.admit(old.token, now)
	}
	if !ok || now.Sub(old.at) > known {
		// Before the store is asked: guesses are no load for it.
		if wait := g.failures.empty(clientnet.Of(client), now); wait > 0 {
			return Principal{}, &ErrFlood{"too many wrong tokens from this address", wait}
		}
	}
	token, err := g.tokens.Authenticate(ctx, secret)
	switch {
	case errors.Is(err, catalog.ErrToken), err == nil && expired(token, now):
		g.forget(hash)
		g.failures.take(clientnet.Of(client), now)
		return Principal{}, ErrUnknown
	case err != nil:
		return Principal{}, &ErrAway{ok && old.token.Verb == catalog.Operator && now.Sub(old.at) <= known && !expired(old.token, now), err}
	}
	g.remember(hash, answer{token, now})
	return g.admit(token, now)
}

// admit counts a request of a token.
func (g *Guard) admit(t catalog.Token, now time.Time) (Principal, error) {
	if wait := g.requests.take(t.ID, now); wait > 0 {
		return Principal{}, &ErrFlood{"too many requests with this token", wait}
	}
	return Principal{Token: t}, nil
}

func expired(t catalog.Token, now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

// Fail counts a wrong way to come in that was no token's, such as a malformed
// header.
func (g *Guard) Fail(client netip.Addr) error {
	now := g.now()
	if wait := g.failures.take(clientnet.Of(client), now); wait > 0 {
		return &ErrFlood{"too many wrong tokens from this address", wait}
	}
	return ErrUnknown
}

// Revoked ends what is remembered of a token and those that came from it, at once
// in this process.
func (g *Guard) Revoked(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for hash, a := range g.seen {
		if a.token.ID == id || a.token.Parent == id {
			delete(g.seen, hash)
		}
	}
}

func (g *Guard) forget(hash [sha256.Size]byte) {
	g.mu.Lock()
	delete(g.seen, hash)
	g.mu.Unlock()
}

func (g *Guard) remember(hash [sha256.Size]byte, a answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.seen[hash]; !ok && len(g.seen) >= maxKnown {
		for k, old := range g.seen {
			if a.at.Sub(old.at) > known {
				delete(g.seen, k)
			}
		}
		for k := range g.seen { // in no order
			if len(g.seen) <= maxKnown*3/4 {
				break
			}
			delete(g.seen, k)
		}
	}
	g.seen[hash] = a
}
