package catalog

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// The life of a proof, look by look.
func TestRecordProof(t *testing.T) {
	const (
		found = iota
		gone
		silent
	)
	type look struct {
		after   time.Duration
		what    int
		want    Proof
		missing bool
		problem string
	}
	const hour = time.Hour
	const deadline = "not there; without it the site stops on "
	for name, looks := range map[string][]look{
		"found at once":          {{0, found, Proven, false, ""}},
		"found later":            {{0, gone, Pending, false, "not there"}, {hour, silent, Pending, false, "no answer"}, {hour, found, Proven, false, ""}},
		"never":                  {{0, gone, Pending, false, "not there"}, {30 * day, gone, Pending, false, "not there"}},
		"gone for a while":       {{0, found, Proven, false, ""}, {day, gone, Proven, true, deadline + "9 March 2026, 12:00 UTC"}, {day, found, Proven, false, ""}},
		"gone for good":          {{0, found, Proven, false, ""}, {day, gone, Proven, true, deadline + "9 March 2026, 12:00 UTC"}, {7*day - 1, gone, Proven, true, deadline + "9 March 2026, 12:00 UTC"}, {1, gone, Lost, true, "not there"}},
		"back after it was lost": {{0, found, Proven, false, ""}, {day, gone, Proven, true, deadline + "9 March 2026, 12:00 UTC"}, {7 * day, gone, Lost, true, "not there"}, {day, found, Proven, false, ""}},
		// A month of silence says nothing, and the first "gone" starts the time of grace.
		"silence": {{0, found, Proven, false, ""}, {day, silent, Proven, false, "no answer"}, {30 * day, silent, Proven, false, "no answer"}, {day, gone, Proven, true, deadline + "9 April 2026, 12:00 UTC"}},
		"gone, and silent when the time is over": {{0, found, Proven, false, ""}, {day, gone, Proven, true, deadline + "9 March 2026, 12:00 UTC"},
			{8 * day, silent, Proven, true, "no answer; without it the site stops on 9 March 2026, 12:00 UTC"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, k := world(t)
			p, _, err := c.PutProxy(ctx, admin, line("shop", "www.shop.example"), Match{})
			if err != nil {
				t.Fatal(err)
			}
			for i, l := range looks {
				k.add(l.after)
				f := Finding{At: k.now, Found: l.what == found, Gone: l.what == gone, Problem: []string{"", "not there", "no answer"}[l.what]}
				got, err := c.RecordProof(ctx, p, f)
				if err != nil || got.Proof != l.want || got.Missing.IsZero() == l.missing || got.Problem != l.problem {
					t.Fatalf("look %d: got %s, missing since %v, %q, %v", i, got.Proof, got.Missing, got.Problem, err)
				}
				stored, err := c.Proxy(ctx, p.Host)
				if !got.Checked.Equal(k.now.Truncate(time.Millisecond)) {
					t.Errorf("look %d: checked %v", i, got.Checked)
				}
				stored.Checked, stored.Seen = got.Checked, got.Seen
				if err != nil || fmt.Sprint(stored) != fmt.Sprint(got) {
					t.Fatalf("look %d: stored\n%+v, %v\ngiven\n%+v", i, stored, err, got)
				}
			}
			checkInvariants(t, c)
		})
	}
}

// Looks that show nothing new are not stored each time: all nodes would be told.
func TestRecordSeldom(t *testing.T) {
	c, k := world(t)
	if _, _, err := c.PutProxy(ctx, admin, line("shop", "www.shop.example"), Match{}); err != nil {
		t.Fatal(err)
	}
	p := prove(t, c, "www.shop.example")
	writes := 0
	for range 30 {
		k.add(day)
		q, err := c.RecordProof(ctx, p, Finding{At: k.now, Found: true})
		if err != nil {
			t.Fatal(err)
		}
		if q.Revision != p.Revision {
			writes++
		}
		if p, err = c.Proxy(ctx, p.Host); err != nil || k.now.Sub(p.Seen) >= refresh {
			t.Errorf("seen %v ago, %v", k.now.Sub(p.Seen), err)
		}
	}
	if writes != 10 {
		t.Errorf("%d writes in 30 days", writes)
	}
}

// What was looked for is not always what is there when the answer comes.
func TestRecordLate(t *testing.T) {
	c, k := world(t)
	const host = "www.shop.example"
	p, _, err := c.PutProxy(ctx, admin, line("shop", host), Match{})
	if err != nil {
		t.Fatal(err)
	}
	seen := Finding{At: k.now, Found: true}
	if _, err := c.DeleteProxy(ctx, admin, "shop", host, Match{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RecordProof(ctx, p, seen); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	if _, _, err := c.PutProxy(ctx, admin, line("blog", host), Match{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RecordProof(ctx, p, seen); !errors.Is(err, ErrNotFound) {
		t.Errorf("another's: %v", err)
	}
	// Another's, and the key was there all the time.
	mine, err := c.Proxy(ctx, host)
	if err != nil {
		t.Fatal(err)
	}
	c.o.Look = published{TXT(host): {p.Challenge}}.look
	back, _, err := c.PutProxy(ctx, admin, line("shop", host), Match{})
	if err != nil || back.Since != mine.Since {
		t.Fatalf("%+v, %v", back, err)
	}
	if _, err := c.RecordProof(ctx, mine, Finding{At: k.now, Gone: true}); !errors.Is(err, ErrNotFound) {
		t.Errorf("taken over: %v", err)
	}
	if _, err := c.DeleteProxy(ctx, admin, "shop", host, Match{}); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteHold(ctx, admin, host); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.PutProxy(ctx, admin, line("blog", host), Match{}); err != nil {
		t.Fatal(err)
	}
	if q, err := c.Proxy(ctx, host); err != nil || q.Proof != Pending {
		t.Errorf("got %+v, %v", q, err)
	}
	if _, err := c.PutTrust(ctx, admin, Trust{Domain: host, Project: "blog"}, Match{}); err != nil {
		t.Fatal(err)
	}
	q, err := c.Proxy(ctx, host)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.RecordProof(ctx, q, Finding{At: k.now, Gone: true, Problem: "not there"}); err != nil || r.Proof != Trusted || r.Problem != "" || r.Revision != q.Revision {
		t.Errorf("trusted: %+v, %v", r, err)
	}
}
