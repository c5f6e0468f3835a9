package catalog

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

func TestAudit(t *testing.T) {
	c, k := world(t)
	k.now = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	p := line("shop", "www.shop.example")
	anna := Actor{By: "anna", From: "192.0.2.1"}
	if _, _, err := c.PutProxy(ctx, anna, p, Match{}); err != nil {
		t.Fatal(err)
	}
	k.add(time.Minute)
	p.HTTP = 8080
	if _, _, err := c.PutProxy(ctx, anna, p, Match{}); err != nil {
		t.Fatal(err)
	}
	k.add(time.Minute)
	if _, err := c.DeleteProxy(ctx, Actor{By: "bert"}, "shop", p.Host, Match{}); err != nil {
		t.Fatal(err)
	}
	page, next, err := c.AuditLog(ctx, "shop", "", 3)
	if err != nil || next == "" {
		t.Fatalf("%v, %q, %v", page, next, err)
	}
	var got []string
	for _, r := range page {
		port := func(v any) any {
			if m, ok := v.(map[string]any); ok {
				return m["http"]
			}
			return "-"
		}
		got = append(got, fmt.Sprint(r.At.Format("15:04 "), r.By, " ", r.From, " ", r.Action, " ", r.Target, " ", port(r.Before), " ", port(r.After)))
	}
	want := []string{
		"12:02 bert  proxy.delete www.shop.example 8080 -",
		"12:01 anna 192.0.2.1 proxy.change www.shop.example 80 8080",
		"12:00 anna 192.0.2.1 proxy.create www.shop.example - 80",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	rest, next, err := c.AuditLog(ctx, "shop", next, 3)
	if err != nil || next != "" || len(rest) != 1 || rest[0].Action != "project.create" {
		t.Errorf("the rest: %+v, %q, %v", rest, next, err)
	}
	for _, bad := range []string{"x", "zzzzzzzzzzzzzzzz-a", "../../../../../../.."} {
		if _, _, err := c.AuditLog(ctx, "shop", bad, 3); Problems(err) == nil {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
	if _, _, err := c.AuditLog(ctx, "a/b", "", 3); !errors.Is(err, ErrNotFound) {
		t.Errorf("project a/b: %v", err)
	}
}

// Records years apart: pages come in the order of time, and old ones go.
func TestAuditPages(t *testing.T) {
	c, k := world(t)
	var want []string
	for i, after := range []time.Duration{0, 1, time.Second, time.Minute, 0, time.Hour, day, 4 * day, 10 * day, 80 * day, 100 * day, 400 * day, 2000 * day, 4000 * day} {
		k.add(after)
		title := fmt.Sprint("title ", i)
		if after != 0 {
			want = append([]string{title}, want...)
		}
		if i == 0 || after == 0 {
			continue // two at one time may come in any order
		}
		if _, err := c.PutProject(ctx, admin, Project{Name: "x", Title: title}, Match{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, project := range []string{"x", ""} {
		for size := 1; size < len(want)+2; size++ {
			var got []string
			for next := ""; ; {
				page, more, err := c.AuditLog(ctx, project, next, size)
				if err != nil || len(page) > size {
					t.Fatal(len(page), err)
				}
				for _, r := range page {
					if r.Project == "x" {
						got = append(got, r.After.(map[string]any)["title"].(string))
					}
				}
				if next = more; next == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%q in pages of %d: got %q, want %q", project, size, got, want)
			}
		}
	}
	// The newest is 4000 days after the one before.
	n, err := c.Prune(ctx)
	if err != nil || n.Audits != len(want)-1+2 {
		t.Errorf("pruned %+v, %v", n, err)
	}
	page, next, err := c.AuditLog(ctx, "x", "", 100)
	if err != nil || len(page) != 1 || next != "" {
		t.Errorf("left: %+v, %v", page, err)
	}
	left := 0
	for _, prefix := range []string{AuditPrefix, auditOfPrefix} {
		if _, err := c.store.List(ctx, prefix, func(store.Entry) error { left++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if left != 2 {
		t.Errorf("%d keys left", left)
	}
}

func TestPrune(t *testing.T) {
	c, k := world(t)
	for _, host := range []string{"a.example.com", "b.example.com"} {
		if _, _, err := c.PutProxy(ctx, admin, line("shop", host), Match{}); err != nil {
			t.Fatal(err)
		}
		prove(t, c, host)
		if _, err := c.DeleteProxy(ctx, admin, "shop", host, Match{}); err != nil {
			t.Fatal(err)
		}
		k.add(3 * day)
	}
	for i, end := range []time.Duration{time.Hour, 3 * day, 0} {
		token := Token{Name: fmt.Sprint(i), Verb: Operator}
		if end != 0 {
			token.Expires = k.now.Add(end)
		}
		if _, _, err := c.CreateToken(ctx, admin, token); err != nil {
			t.Fatal(err)
		}
	}
	k.add(2 * day) // 8 and 5 days after the releases
	n, err := c.Prune(ctx)
	if err != nil || n != (Pruned{Holds: 1, Tokens: 1}) {
		t.Errorf("pruned %+v, %v", n, err)
	}
	if holds, err := c.Holds(ctx, ""); err != nil || len(holds) != 1 || holds[0].Host != "b.example.com" {
		t.Errorf("holds left: %+v, %v", holds, err)
	}
	if tokens, err := c.Tokens(ctx, ""); err != nil || len(tokens) != 2 {
		t.Errorf("tokens left: %+v, %v", tokens, err)
	}
	k.add(90 * day)
	if n, err := c.Prune(ctx); err != nil || n.Audits == 0 || n.Holds != 1 || n.Tokens != 1 {
		t.Errorf("later: %+v, %v", n, err)
	}
}
