package proof

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

func TestNext(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	type proxy = catalog.Proxy
	at := func(age time.Duration) catalog.Meta { return catalog.Meta{Changed: now.Add(-age)} }
	for _, c := range []struct {
		name     string
		p        proxy
		from, to time.Duration // 0, 0: never
	}{
		{"new", proxy{Proof: catalog.Pending, Meta: at(0)}, 10 * time.Second, 10 * time.Second},
		{"a minute old", proxy{Proof: catalog.Pending, Meta: at(time.Minute)}, 10 * time.Second, 10 * time.Second},
		{"an hour old", proxy{Proof: catalog.Pending, Meta: at(time.Hour)}, 450 * time.Second, 450 * time.Second},
		{"half a day old", proxy{Proof: catalog.Pending, Meta: at(12 * time.Hour)}, 10 * time.Minute, 10 * time.Minute},
		{"two days old", proxy{Proof: catalog.Pending, Meta: at(2 * daily)}, 57 * time.Minute, 63 * time.Minute},
		{"given up", proxy{Proof: catalog.Pending, Meta: at(31 * daily)}, 1, daily},
		{"a clock that differs", proxy{Proof: catalog.Pending, Meta: at(-time.Hour)}, 10 * time.Second, 10 * time.Second},
		{"proven", proxy{Proof: catalog.Proven, Meta: at(time.Minute)}, 1, daily},
		{"no answer", proxy{Proof: catalog.Proven, Problem: "x"}, 57 * time.Minute, 63 * time.Minute},
		{"gone", proxy{Proof: catalog.Proven, Problem: "x", Missing: now.Add(-daily)}, 57 * time.Minute, 63 * time.Minute},
		{"lost", proxy{Proof: catalog.Lost, Problem: "x", Missing: now.Add(-8 * daily)}, 57 * time.Minute, 63 * time.Minute},
		{"lost for long", proxy{Proof: catalog.Lost, Problem: "x", Missing: now.Add(-31 * daily)}, 1, daily},
		{"trusted", proxy{Proof: catalog.Trusted}, 0, 0},
	} {
		c.p.Host = "www.shop.example"
		got, ever := next(&c.p, now, soon)
		if ever != (c.to != 0) || ever && (got.Sub(now) < c.from || got.Sub(now) > c.to) {
			t.Errorf("%s: %v, %v", c.name, got.Sub(now), ever)
		}
	}
	// Each name has its time of the day, and they are spread over it.
	hours := map[int]int{}
	for i := range 2400 {
		host := fmt.Sprintf("www%d.shop.example", i)
		first := slot(host, now)
		if second := slot(host, first); second.Sub(first) != daily {
			t.Fatalf("%s: %v and %v", host, first, second)
		}
		hours[first.Hour()]++
	}
	for h := range 24 {
		if hours[h] < 50 || hours[h] > 150 {
			t.Errorf("hour %d has %d of 2400", h, hours[h])
		}
	}
}

// office is a store with a project, and checkers of some nodes.
type office struct {
	t     *testing.T
	n     *internet
	store *bolt.Store
	c     *catalog.Catalog

	mu  sync.Mutex
	log []string
}

func newOffice(t *testing.T, name string) *office {
	o := &office{t: t, n: newInternet(t, name, servers...)}
	o.n.usual("")
	var err error
	o.store, err = bolt.Open(t.Context(), filepath.Join(t.TempDir(), "store"), bolt.Options{})
	must(t, err)
	t.Cleanup(func() { o.store.Close() })
	d := o.n.dns(resolverAddress)
	vms := []netip.Prefix{netip.MustParsePrefix("2001:db8:64::/48")}
	o.c = catalog.New(o.store, catalog.Options{VMs: vms, Look: d.Texts, Grace: time.Millisecond})
	for i, p := range []string{"shop", "blog"} {
		_, err := o.c.PutProject(t.Context(), catalog.Actor{}, catalog.Project{Name: p, Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("2001:db8:64:%d::/64", i))}}, catalog.Match{})
		must(t, err)
	}
	return o
}

func (o *office) checker(node string) *Checker {
	k := NewChecker(CheckerConfig{Catalog: o.c, Store: o.store, DNS: o.n.dns(resolverAddress), Node: node, POPs: []string{"dfw.proxy.dns.example"}, PerSecond: 100,
		Log: func(_ bool, m string) {
			o.mu.Lock()
			o.log = append(o.log, m)
			o.mu.Unlock()
		}})
	k.soon = 50 * time.Millisecond
	return k
}

// run starts a checker; stop ends it.
func (o *office) run(k *Checker) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		_ = k.Run(ctx)
		close(done)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	o.t.Cleanup(stop)
	return stop
}

func (o *office) put(project, host string) catalog.Proxy {
	o.t.Helper()
	vm := netip.MustParseAddr(map[string]string{"shop": "2001:db8:64::2", "blog": "2001:db8:64:1::2"}[project])
	p, _, err := o.c.PutProxy(o.t.Context(), catalog.Actor{By: "anna"}, catalog.Proxy{Project: project, Host: host, Backends: []netip.Addr{vm}, HTTP: 80}, catalog.Match{})
	must(o.t, err)
	return p
}

func (o *office) wait(what string, ok func() bool) {
	o.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.t.Fatalf("waited in vain: %s; log: %q", what, o.log)
		}
	}
}

func (o *office) proof(host string, want catalog.Proof) {
	o.t.Helper()
	o.wait(fmt.Sprint(host, " ", want), func() bool {
		p, err := o.c.Proxy(o.t.Context(), host)
		return err == nil && p.Proof == want
	})
}

// From a new name to a proven one, and on.
func TestChecker(t *testing.T) {
	o := newOffice(t, "checker")
	early := o.put("shop", "early.shop.example")
	k := o.checker("dfw0")
	o.run(k)
	o.wait("a first look", func() bool { return k.Stats().Gone > 0 })
	late := o.put("shop", "late.shop.example")
	records := fmt.Sprintf("_isthmus-challenge.early TXT %s\n_isthmus-challenge.late TXT %s\n", early.Challenge, late.Challenge)
	o.n.usual(records)
	o.proof("early.shop.example", catalog.Proven)
	o.proof("late.shop.example", catalog.Proven)

	// A name that is released and added again is proven by the record that is there.
	_, err := o.c.DeleteProxy(t.Context(), catalog.Actor{}, "shop", "late.shop.example", catalog.Match{})
	must(t, err)
	o.put("shop", "late.shop.example")
	o.proof("late.shop.example", catalog.Proven)
	if s := k.Stats(); !s.Leads || s.Names != 2 || s.Found < 3 || s.Looks != s.Found+s.Gone+s.Failed {
		t.Errorf("stats %+v", s)
	}

	// Gone, and gone for longer than the time of grace.
	o.n.usual("")
	for range 2 {
		p, err := o.c.Proxy(t.Context(), "early.shop.example")
		must(t, err)
		_, _, err = k.look(t.Context(), p)
		must(t, err)
		time.Sleep(5 * time.Millisecond)
	}
	o.proof("early.shop.example", catalog.Lost)
	o.mu.Lock()
	defer o.mu.Unlock()
	want := `early.shop.example of project shop is lost, it was proven: TXT missing: add _isthmus-challenge.early.shop.example TXT "` + early.Challenge + `"`
	if !slices.Contains(o.log, want) {
		t.Errorf("log %q", o.log)
	}
}

// One node does it, and when it is gone, another one.
func TestLeader(t *testing.T) {
	o := newOffice(t, "leader")
	a, b := o.checker("dfw0"), o.checker("dfw1")
	stop := o.run(a)
	o.wait("a leads", func() bool { return a.Stats().Leads })
	o.run(b)
	o.put("shop", "www.shop.example")
	o.wait("a looks", func() bool { return a.Stats().Looks > 2 })
	if s := b.Stats(); s.Leads || s.Looks > 0 {
		t.Errorf("both do: %+v", s)
	}
	stop()
	o.wait("b leads", func() bool { return b.Stats().Leads && b.Stats().Looks > 0 })
	if a.Stats().Leads {
		t.Error("the one that has ended says that it leads")
	}
}

// A store that goes away ends nothing.
func TestStoreGone(t *testing.T) {
	o := newOffice(t, "storegone")
	k := o.checker("dfw0")
	stop := o.run(k)
	o.wait("leads", func() bool { return k.Stats().Leads })
	must(t, o.store.Close())
	o.wait("a warning", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return slices.ContainsFunc(o.log, func(s string) bool { return strings.HasPrefix(s, "proofs of host names are not looked at: ") })
	})
	if k.Stats().Leads {
		t.Error("leads without a store")
	}
	stop()
}

// Somebody sits before the page.
func TestCheck(t *testing.T) {
	o := newOffice(t, "check")
	k := o.checker("dfw0")
	p := o.put("shop", "www.shop.example")
	records := fmt.Sprintf("www CNAME dfw.proxy.dns.example.\n_isthmus-challenge.www TXT %s\n", p.Challenge)
	o.n.usual("")
	r, err := k.Check(t.Context(), p.Host)
	if err != nil || r.Proxy.Proof != catalog.Pending || !r.TXT.Gone || r.Points.Where != Missing {
		t.Fatalf("got %+v, %v", r, err)
	}
	o.n.usual(records)
	before := o.n.asked(resolverAddress)
	if again, err := k.Check(t.Context(), p.Host); err != nil || !again.At.Equal(r.At) || o.n.asked(resolverAddress) != before {
		t.Errorf("within %v: %+v, %v", again, r, err)
	}
	k.mu.Lock()
	k.asked["shop www.shop.example"].result.At = time.Now().Add(-again)
	k.mu.Unlock()
	r, err = k.Check(t.Context(), p.Host)
	if err != nil || r.Proxy.Proof != catalog.Proven || !r.TXT.Found || r.Points.Where != Here || r.Points.Text != "CNAME ok" {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := k.Check(t.Context(), "other.shop.example"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("no such name: %v", err)
	}

	// Many at once are one look, and many names are not for one project to ask for.
	host := o.put("shop", "many.shop.example").Host
	looks := k.Stats().Looks
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := k.Check(t.Context(), host); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := k.Stats().Looks - looks; n != 1 {
		t.Errorf("%d looks", n)
	}
	var hosts []string
	for i := range 3 * perProject {
		hosts = append(hosts, o.put("shop", fmt.Sprintf("www%d.shop.example", i)).Host)
	}
	refused := make(chan string, len(hosts))
	for _, host := range hosts {
		all.Go(func() {
			if _, err := k.Check(t.Context(), host); errors.Is(err, ErrTooOften) {
				refused <- host
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(refused) == 0 {
		t.Error("no limit")
	}
	if _, err := k.Check(t.Context(), o.put("blog", "blog.shop.example").Host); err != nil {
		t.Errorf("another project: %v", err)
	}
}

// A name that another project claims goes to the one that the DNS names.
func TestTakeOver(t *testing.T) {
	o := newOffice(t, "takeover")
	k := o.checker("dfw0")
	squatter := o.put("blog", "www.shop.example")
	_, _, err := o.c.PutProxy(t.Context(), catalog.Actor{}, catalog.Proxy{Project: "shop", Host: "www.shop.example", Backends: []netip.Addr{netip.MustParseAddr("2001:db8:64::2")}, HTTP: 80}, catalog.Match{})
	var taken *catalog.Taken
	if !errors.As(err, &taken) {
		t.Fatal(err)
	}
	o.n.usual("_isthmus-challenge.www TXT " + taken.Challenge)
	if p := o.put("shop", "www.shop.example"); p.Proof != catalog.Proven || p.Project != "shop" {
		t.Errorf("got %+v", p)
	}
	// A look that began for the other one changes nothing.
	if _, _, err := k.look(t.Context(), squatter); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("late look: %v", err)
	}
}

// Slow name servers of one project leave room for others.
func TestFair(t *testing.T) {
	a := &agenda{items: map[string]*item{}, busy: map[string]int{}, most: 2, wake: make(chan struct{}, 1)}
	now := time.Now()
	for i := range 5 {
		a.put(fmt.Sprintf("slow%d", i), "slow", now.Add(-time.Hour))
	}
	a.put("other", "other", now)
	var got []string
	for {
		host, _, _ := a.due(now)
		if host == "" {
			break
		}
		got = append(got, host)
	}
	if len(got) != 3 || got[2] != "other" {
		t.Errorf("got %q", got)
	}
	a.end("slow")
	if host, _, wait := a.due(now); host != "" || wait <= 0 || wait > 2*pause {
		t.Errorf("%q, %v", host, wait)
	}
	if host, _, _ := a.due(now.Add(2 * pause)); !strings.HasPrefix(host, "slow") {
		t.Errorf("later: %q", host)
	}
	a.remove("other")
	if a.len() != 5 {
		t.Errorf("%d left", a.len())
	}
}
