package page

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
)

func TestOperator(t *testing.T) {
	w := newWorld(t)
	o := w.as(w.operator)
	o.fill("/add-project", "name", "wiki", "title", "Wiki", "prefixes", "2001:db8:66::/64\n2001:db8:67::/64").leadsTo("/projects/wiki/tokens?done=project-added")
	page := o.fill("/projects/wiki/tokens", "name", "Wilma", "life", "30").status(http.StatusOK).says("The token “Wilma” is made", "shown this once")
	secret := ""
	for word := range strings.FieldsSeq(page.words()) {
		if strings.HasPrefix(word, "isth_") {
			secret = strings.TrimSuffix(word, "Give")
		}
	}
	wilma := w.as(secret)
	wilma.get("/").leadsTo("/projects/wiki")
	wilma.get("/projects/wiki").says("No proxies yet", "Wiki")
	wilma.get("/projects/wiki/tokens").says("Wilma", "you signed in with it", "New tokens are made by the operator").hides(secret, "Make token")
	o.get("/projects/wiki/tokens").says("Wilma", "Read and change").hides(secret)
	all := must2(w.catalog.Tokens(t.Context(), "wiki"))
	if len(all) != 2 || time.Until(all[0].Expires) > 31*24*time.Hour {
		t.Errorf("%+v", all)
	}
	o.get("/projects/wiki/audit").says("Made token “Wilma”", "Added project wiki", "by “Olga”", "VM prefixes: 2001:db8:66::/64, 2001:db8:67::/64", "Ends: "+all[slices.IndexFunc(all, func(t catalog.Token) bool { return t.Parent == "" })].Expires.UTC().Format("2 Jan 2006, 15:04 UTC"))

	wilma.fill("/projects/wiki/add", "host", "wiki.example", "backends", "2001:db8:67::2").status(http.StatusSeeOther)
	wilma.get("/projects/wiki/proxies/wiki.example").says("can't have a CNAME", "AAAA", "2001:db8:67::2")
	o.fill("/trusted", "domain", "wiki.example", "project", "wiki").leadsTo("/trusted?done=trusted")
	wilma.eventually("/projects/wiki/proxies/wiki.example", "No TXT record needed", "Live on 1 of 1 hypervisor")
	o.get("/trusted").says("wiki.example", "by “Olga”")
	o.fill("/trusted", "domain", "wiki.example", "project", "blog").status(http.StatusUnprocessableEntity).says("A project is trusted with wiki.example already")
	o.fill("/trusted", "domain", "other.example", "project", "none").status(http.StatusUnprocessableEntity).says("There is no project of that name")
	o.fill("/trusted", "domain", "com", "project", "wiki").status(http.StatusUnprocessableEntity).says("is a registry's")

	// The VM's prefix moves: its proxies stop, and it is said why.
	o.fill("/projects/wiki/settings", "prefixes", "2001:db8:66::/64", "max_proxies", "1").leadsTo("/projects/wiki/settings?done=saved")
	wilma.eventually("/projects/wiki/proxies/wiki.example", "Not served: no VM to lead to", "2001:db8:67::2 is outside the prefixes of project wiki")
	wilma.get("/projects/wiki").says("1 not served")
	wilma.fill("/projects/wiki/add", "host", "b.wiki.example", "backends", "2001:db8:66::2").status(http.StatusUnprocessableEntity).says("as many proxies as it may have")

	o.fill("/trusted/wiki.example/delete").leadsTo("/trusted?done=untrusted")
	o.fill("/projects/wiki/delete").status(http.StatusConflict).says("still has proxies")
	wilma.fill("/projects/wiki/proxies/wiki.example/delete").leadsTo("/projects/wiki?done=deleted")
	o.fill("/projects/wiki/delete").leadsTo("/projects?done=project-deleted")
	wilma.eventuallyStatus("/projects/wiki", http.StatusSeeOther).leadsTo("/sign-in?next=%2Fprojects%2Fwiki")
	o.get("/projects/wiki").status(http.StatusNotFound)

	o.fill("/tokens", "name", "Otto", "life", "0").status(http.StatusOK).says("The token “Otto” is made", "Everything")
	o.get("/hypervisors").says("hv1", "dfw", "v1.2.3", "Up to date", "1 alive")
	o.get("/audit").says("Deleted project wiki", "Trusted domain wiki.example", "Made token “Otto”")
}

func TestWrongProject(t *testing.T) {
	w := newWorld(t)
	o := w.as(w.operator)
	for _, c := range [][3]string{
		{"name", "", "can be no project's name"}, {"name", "a b", "can be no project's name"}, {"name", "shop", "there is a project shop already"},
		{"prefixes", "2001:db8::", "is no IPv6 prefix"}, {"prefixes", "192.0.2.0/24", "is no IPv6 prefix"}, {"prefixes", "2001:db8:64::1/64", "bits set"},
		{"prefixes", "2001:db8:64::/72", "has addresses of project shop"}, {"prefixes", "2001:db9::/64", "outside of where VMs are"},
		{"max_proxies", "x", "is no number"}, {"max_proxies", "-1", "no limit"}, {"title", strings.Repeat("t", 200), "Too long"},
	} {
		page := o.fill("/add-project", "name", "wiki", "prefixes", "2001:db8:66::/64", c[0], c[1]).status(http.StatusUnprocessableEntity)
		if !strings.Contains(strings.ToLower(page.words()), strings.ToLower(c[2])) {
			t.Errorf("%s=%s: %s", c[0], c[1], page.words())
		}
	}
	if n := len(must2(w.catalog.Projects(t.Context()))); n != 2 {
		t.Errorf("%d projects", n)
	}
	first := o.get("/projects/shop/settings")
	w.project("shop", "2001:db8:68::/64", "Shop of others")
	page := o.send(first, "/projects/shop/settings", "title", "My shop").status(http.StatusConflict).says("has changed this project", "Shop of others", "2001:db8:68::/64")
	if got := formOf(page, "/projects/shop/settings"); got.Get("title") != "My shop" {
		t.Error(got)
	}
	o.send(page, "/projects/shop/settings").status(http.StatusSeeOther)
	confirm := o.get("/projects/blog/delete")
	w.project("blog", "2001:db8:69::/64", "")
	o.send(confirm, "/projects/blog/delete").status(http.StatusConflict).says("Nothing was deleted")
	if p := must2(w.catalog.Project(t.Context(), "shop")); p.Title != "My shop" {
		t.Errorf("%+v", p)
	}
}

// A node that is behind is seen, with for how long.
func TestNodeBehind(t *testing.T) {
	w := newWorld(t)
	a, err := w.store.Announce(t.Context(), catalog.NodePrefix+"slow")
	must(t, err)
	must(t, a.Set(t.Context(), catalog.Node{Name: "slow", Applied: 1, At: time.Now().Add(-time.Hour)}.Encode()))
	p := shopProxy("www.shop.example")
	w.proxy(p)
	_, err = w.catalog.PutTrust(t.Context(), root, catalog.Trust{Domain: "shop.example", Project: "shop"}, catalog.Match{})
	must(t, err)
	o := w.as(w.operator)
	o.eventually("/hypervisors", "2 alive", "1 behind", "Up to date", "Behind for")
	o.eventually("/projects/shop/proxies/www.shop.example", "Going live: 1 of 2 hypervisors")
	must(t, a.Close())
	o.eventually("/projects/shop/proxies/www.shop.example", "Live on 1 of 1 hypervisor")
}

// Without the store nobody is told that something was saved.
func TestStoreAway(t *testing.T) {
	w := newWorld(t)
	v := w.as(w.shop)
	page := v.get("/projects/shop/add")
	o := w.as(w.operator)
	o.get("/projects").status(http.StatusOK)
	must(t, w.store.Close())
	v.eventuallyStatus("/projects/shop", http.StatusServiceUnavailable).says("can't be reached", "Sites go on being served").hides("The cause")
	o.eventuallyStatus("/projects", http.StatusServiceUnavailable).says("The cause: the store can't be reached: it has been closed.")
	v.send(page, "/projects/shop/add", "host", "www.shop.example", "backends", "2001:db8:64::2").status(http.StatusServiceUnavailable).says("Whether your last change was saved is not certain")
	v.get("/projects/shop?live=1").status(http.StatusServiceUnavailable)
	w.visitor().post("/sign-in", map[string][]string{"token": {w.shop}}).status(http.StatusServiceUnavailable)
}

func (v *visitor) eventuallyStatus(path string, want int) *reply {
	v.w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if a := v.get(path); a.StatusCode == want || time.Now().After(end) {
			return a.status(want)
		}
	}
}

// doubting is a node that does not believe its store.
type doubting struct{ *mirror.Mirror }

func (d doubting) Stats() mirror.Stats {
	s := d.Mirror.Stats()
	s.Doubt = "it has lost 7 records"
	return s
}

// Who changes something that won't arrive is told so; operators are told why, too.
func TestDoubt(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Mirror = doubting{c.Mirror.(*mirror.Mirror)} })
	w.as(w.shop).get("/projects/shop").says("Changes don't arrive on this hypervisor right now", "The operator has to look at it").hides("7 records")
	o := w.as(w.operator)
	o.get("/hypervisors").says("it has lost 7 records", "What to do")
	o.fill("/accept").leadsTo("/hypervisors?done=accepted")
	o.get("/audit").says("Took the store as it is")
}

// Who waits for a store that does not answer waits for as long as they may, not for
// others before them, too.
func TestSlowStore(t *testing.T) {
	w := newWorld(t)
	s := &server{Config: w.config}
	s.nodes.asking = make(chan struct{}, 1)
	s.nodes.asking <- struct{}{} // somebody is waiting for it
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.aliveNodes(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	<-s.nodes.asking
	if all, err := s.aliveNodes(t.Context()); err != nil || len(all) > 1 {
		t.Errorf("%+v, %v", all, err)
	}
}
