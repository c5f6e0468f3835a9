package page

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// looks are those at the DNS that this node has made for people who look at a
// proxy: by themselves now and then, and when somebody asks.
type looks struct {
	slots chan struct{} // as many as may be on at a time

	mu sync.Mutex
	by map[string]*look // by challenge, which no two proxies share
}

// look is what the last one has found.
type look struct {
	Busy  bool
	At    time.Time // when it ended; zero: there has been none
	CNAME wire.Found
	Err   string // why nothing is known
}

const (
	maxLooks     = 1 << 12 // that are remembered
	looksAtATime = 8
	lookRarely   = 10 * time.Minute // between looks when all is well
)

func (l *looks) init() {
	l.slots = make(chan struct{}, looksAtATime)
	l.by = map[string]*look{}
}

// of gives what is known of a proxy.
func (l *looks) of(p *catalog.Proxy) look {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.by[p.Challenge]; k != nil {
		return *k
	}
	return look{}
}

// begin takes a place, if there is one and nobody else is looking.
func (l *looks) begin(p *catalog.Proxy) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.by[p.Challenge]
	if k != nil && k.Busy {
		return false
	}
	select {
	case l.slots <- struct{}{}:
	default:
		return false
	}
	if k == nil {
		l.makeRoom()
		k = &look{}
		l.by[p.Challenge] = k
	}
	k.Busy = true
	return true
}

func (l *looks) makeRoom() {
	for c, k := range l.by { // in no order
		if len(l.by) < maxLooks {
			return
		}
		if !k.Busy {
			delete(l.by, c)
		}
	}
}

func (l *looks) end(p *catalog.Proxy, found look) {
	l.mu.Lock()
	l.by[p.Challenge] = &found
	l.mu.Unlock()
	<-l.slots
}

// lookNow looks at the DNS for a proxy. If somebody does that already it waits for
// them; if too many do so for others, it tells that there was no look.
func (s *server) lookNow(ctx context.Context, p catalog.Proxy) (looked bool) {
	if s.Check == nil {
		return false
	}
	if s.looks.begin(&p) {
		s.look(ctx, p)
		return true
	}
	if !s.looks.of(&p).Busy {
		return false
	}
	for s.looks.of(&p).Busy {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (s *server) look(ctx context.Context, p catalog.Proxy) {
	found := look{Err: "The look at the DNS failed."} // if Check panics
	defer func() { s.looks.end(&p, found) }()
	ctx, cancel := context.WithTimeout(ctx, perLook)
	defer cancel()
	_, cname, err := s.Check(ctx, p)
	found = look{At: s.now(), CNAME: cname}
	var said *wire.Problem
	switch {
	case err == nil:
	case ctx.Err() != nil:
		found.Err = "The name servers did not answer in time."
	case errors.As(err, &said), errors.Is(err, catalog.ErrNotFound):
		found.Err = upperFirst(err.Error()) + "."
	case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrUnavailable):
		// Customers are shown this, whoever has asked for it.
		found.Err = upperFirst(access.Trouble(access.Principal{}, err)) + "."
	default:
		s.Log(true, fmt.Sprintf("page: look at the DNS for %s: %v", p.Host, err))
		found.Err = "The look at the DNS failed."
	}
}

// keepLooking looks again in the background if the last time is long ago. It does
// so for as long as somebody has the page open, which asks for it every few seconds.
func (s *server) keepLooking(p *catalog.Proxy) look {
	now := s.looks.of(p)
	pause := s.lookAgain
	if p.Proof.Serves() && p.Missing.IsZero() && now.CNAME.OK {
		pause = lookRarely
	}
	if s.Check == nil || now.Busy || s.now().Sub(now.At) < pause || !s.looks.begin(p) {
		return now
	}
	go func() {
		defer func() {
			if err := recover(); err != nil {
				s.Log(true, "page: a look at the DNS for "+p.Host+" failed")
			}
		}()
		s.look(context.Background(), *p)
	}()
	now.Busy = true
	return now
}
