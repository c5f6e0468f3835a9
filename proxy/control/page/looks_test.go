package page

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// Many who have a page open are one look at the DNS, now and then.
func TestLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		var result error
		s := &server{Config: Config{now: time.Now, lookAgain: 10 * time.Second, Log: func(bool, string) {}}}
		s.looks.init()
		s.Check = func(ctx context.Context, p catalog.Proxy) (catalog.Proxy, wire.Found, error) {
			looks.Add(1)
			time.Sleep(time.Second)
			if p.Host == "panics.example" {
				panic("name servers")
			}
			return p, wire.Found{OK: p.Proof.Serves()}, result
		}
		p := catalog.Proxy{Host: "www.shop.example", Challenge: "one"}
		if l := s.keepLooking(&p); !l.Busy || !l.At.IsZero() {
			t.Errorf("%+v", l)
		}
		s.keepLooking(&p)
		if !s.lookNow(t.Context(), p) || looks.Load() != 1 {
			t.Errorf("%d looks at a time", looks.Load())
		}
		s.keepLooking(&p)
		if l := s.looks.of(&p); l.Busy || l.At.IsZero() || looks.Load() != 1 {
			t.Errorf("%+v after %d looks", l, looks.Load())
		}
		time.Sleep(10 * time.Second)
		result = wire.Refuse(http.StatusTooManyRequests, "too many looks")
		s.keepLooking(&p)
		time.Sleep(2 * time.Second)
		if l := s.looks.of(&p); l.Err != "Too many looks." || looks.Load() != 2 {
			t.Errorf("%+v after %d looks", l, looks.Load())
		}
		// All is well: seldom.
		p.Proof, result = catalog.Proven, nil
		s.lookNow(t.Context(), p)
		time.Sleep(time.Minute)
		s.keepLooking(&p)
		if looks.Load() != 3 {
			t.Errorf("%d looks", looks.Load())
		}
		// It panics, and others go on.
		bad := catalog.Proxy{Host: "panics.example", Challenge: "bad"}
		s.keepLooking(&bad)
		time.Sleep(2 * time.Second)
		if l := s.looks.of(&bad); l.Busy || l.Err == "" {
			t.Errorf("%+v", l)
		}
		// No more than some at a time.
		for i := range 2 * looksAtATime {
			s.keepLooking(&catalog.Proxy{Challenge: fmt.Sprint(i)})
		}
		synctest.Wait()
		if looks.Load() != 4+looksAtATime {
			t.Errorf("%d looks", looks.Load())
		}
		if s.lookNow(t.Context(), catalog.Proxy{Challenge: "another"}) {
			t.Error("more than there are places for")
		}
		time.Sleep(2 * time.Second)
		for i := range 2 * maxLooks {
			s.lookNow(t.Context(), catalog.Proxy{Challenge: fmt.Sprint("many", i)})
		}
		if n := len(s.looks.by); n > maxLooks {
			t.Errorf("%d looks are remembered", n)
		}
	})
}

func TestCheckNowWithoutChecks(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Check = nil })
	w.proxy(shopProxy("www.shop.example"))
	v := w.as(w.shop)
	v.get("/projects/shop/proxies/www.shop.example").status(http.StatusOK).says("Not checked here").hides("Check now")
}

func TestBeyond(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "TXT missing: add a TXT \"b\"": "", "TXT missing: add a TXT \"b\"; there is \"c\"": "There is \"c\"", "name servers do not answer": "Name servers do not answer",
	} {
		if got := beyond(in, "TXT missing"); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// What a look says is shown to customers, so that nothing of the store's addresses is
// in it.
func TestLooksThatFail(t *testing.T) {
	const at = "etcd at https://etcd1.internal:2379"
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: commit, %s: database space exceeded", store.ErrFull, at), "The store is full."},
		{fmt.Errorf("%w: commit, %s: connection refused", store.ErrUnavailable, at), "The store can't be reached."},
		{fmt.Errorf("commit, %s: what is this", at), "The look at the DNS failed."},
		{wire.Refuse(http.StatusTooManyRequests, "too many looks"), "Too many looks."},
	} {
		logged := ""
		s := &server{Config: Config{
			Check: func(_ context.Context, p catalog.Proxy) (catalog.Proxy, wire.Found, error) {
				return p, wire.Found{}, c.err
			},
			Log: func(_ bool, message string) { logged = message }, now: time.Now,
		}}
		s.looks.init()
		p := shopProxy("www.shop.example")
		if !s.lookNow(t.Context(), p) || s.looks.of(&p).Err != c.want || logged != "" && !strings.Contains(logged, at) {
			t.Errorf("%v: %q, logged %q", c.err, s.looks.of(&p).Err, logged)
		}
	}
}
