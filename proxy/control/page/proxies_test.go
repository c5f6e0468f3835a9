package page

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/store"
)

// What is wrong is said at its field, with what to do, and nothing typed is lost.
func TestWrongFields(t *testing.T) {
	w := newWorld(t)
	w.proxy(shopProxy("have.shop.example"))
	must(t, w.take("blog", "other.example"))
	v := w.as(w.shop)
	many := strings.Repeat("2001:db8:64::9 ", 9)
	for _, c := range []struct {
		name, field, value string
		at                 string // the field that gets the cursor
		says               []string
	}{
		{"no host", "host", "", "host", []string{"Missing."}},
		{"blank host", "host", " . ", "host", []string{"Host name"}},
		{"an address", "host", "192.0.2.1", "host", []string{"Write one such as"}},
		{"a path", "host", "www.shop.example/path", "host", []string{"Write one such as"}},
		{"a public suffix", "host", "co.uk", "host", []string{"public suffix"}},
		{"a wide wildcard", "host", "*.com", "host", []string{"two labels"}},
		{"a long host", "host", strings.Repeat("a.", 200) + "example", "host", []string{"Write one such as"}},
		{"the project's own", "host", "have.shop.example", "host", []string{"This project has have.shop.example already", "Edit that one instead"}},
		{"another project's", "host", "other.example", "host", []string{"Another project has other.example", "_isthmus-challenge.other.example", "If the name is yours"}},
		{"no VM", "backends", "", "backends", []string{"Missing. Give the IPv6 address of a VM."}},
		{"a name for a VM", "backends", "vm.shop.example", "backends", []string{`"vm.shop.example" is no IPv6 address`, "names are never looked up"}},
		{"IPv4", "backends", "192.0.2.1", "backends", []string{"is no IPv6 address"}},
		{"loopback", "backends", "::1", "backends", []string{"outside the prefixes"}},
		{"link-local", "backends", "fe80::1%eth0", "backends", []string{"is no IPv6 address"}},
		{"mapped", "backends", "::ffff:192.0.2.1", "backends", []string{"is no IPv6 address"}},
		{"NAT64", "backends", "64:ff9b::192.0.2.1", "backends", []string{"outside the prefixes"}},
		{"another project's VM", "backends", "2001:db8:65::2", "backends", []string{"outside the prefixes of project shop", "Give the address of a VM of the project"}},
		{"one of two", "backends", "2001:db8:64::2\n2001:db8:66::2", "backends", []string{"2001:db8:66::2 is outside"}},
		{"twice", "backends", "2001:db8:64::2, 2001:db8:64:0::2", "backends", []string{"comes twice"}},
		{"too many VMs", "backends", many, "backends", []string{"at most 8"}},
		{"a word for a port", "http", "web", "http", []string{`"web" is no port`, "1 to 65535"}},
		{"a large port", "https", "65536", "https", []string{`"65536" is no port`}},
		{"a negative port", "https", "-1", "https", []string{`"-1" is no port`}},
		{"an unknown header", "proxy_protocol", "v3", "proxy_protocol", []string{"is not a choice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := v.fill("/projects/shop/add", "host", "www.shop.example", "backends", "2001:db8:64::77", c.field, c.value).status(http.StatusUnprocessableEntity)
			page.t = t
			page.says("Not saved yet.").says(c.says...)
			form := formOf(page, "/projects/shop/add")
			for name, want := range map[string]string{"host": "www.shop.example", "backends": "2001:db8:64::77", "http": "80", "https": "443"} {
				if name == c.field {
					want = c.value
				}
				if got := form.Get(name); got != want {
					t.Errorf("%s is %q now", name, got)
				}
			}
			focus := ""
			for n := range page.parse().Descendants() {
				if has(n, "autofocus") {
					focus = value(n, "name")
				}
			}
			if focus != c.at {
				t.Errorf("the cursor is in %q", focus)
			}
		})
	}
	// All at once, so that nobody has to come three times.
	v.fill("/projects/shop/add", "host", "no host!", "backends", "x", "http", "y").status(http.StatusUnprocessableEntity).
		says("Host name:", "IPv6 addresses of your VMs:", "HTTP port on the VM:")
	v.fill("/projects/shop/add", "host", "a.shop.example", "backends", "2001:db8:64::2", "http", "", "https", "0").status(http.StatusUnprocessableEntity).says("Neither HTTP nor HTTPS is served")
}

func (w *world) take(project, host string) error {
	p := catalog.Proxy{Host: host, Project: project, Backends: []netip.Addr{netip.MustParseAddr("2001:db8:65::2")}, HTTP: 80}
	_, _, err := w.catalog.PutProxy(w.t.Context(), root, p, catalog.Match{})
	return err
}

func TestHostOf(t *testing.T) {
	for in, want := range map[string]string{
		" WWW.Shop.Example. ": "www.shop.example", "https://shop.example/": "shop.example", "http://shop.example": "shop.example",
		"bücher.example": "xn--bcher-kva.example", "*.BÜCHER.example": "*.xn--bcher-kva.example", "a..b": "a..b", "": "", "www.shop.example/path": "www.shop.example/path",
	} {
		if got := hostOf(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Text of others is text, wherever it stands.
func TestMarks(t *testing.T) {
	const bad = `"'><script>alert(1)</script>{{.}}&lt;`
	w := newWorld(t, func(c *Config) {
		c.CNAMEs = []string{bad}
		c.Check = nil
	})
	o := w.as(w.operator)
	seen := func(a *reply) {
		t.Helper()
		if strings.Contains(a.text, "<script>alert") || strings.Contains(a.text, `="'>`) {
			t.Errorf("%s %s has marks of others in it:\n%s", a.Request.Method, a.Request.URL, a.text)
		}
	}

	p := must2(w.catalog.Project(t.Context(), "shop"))
	p.Title = bad
	saved := must2(w.catalog.PutProject(t.Context(), catalog.Actor{By: bad, From: bad}, p, catalog.Match{}))
	w.applied(saved.Revision)
	_, _, err := w.catalog.CreateToken(t.Context(), root, catalog.Token{Name: bad, Project: "shop", Verb: catalog.Read})
	must(t, err)
	proxy := w.proxy(shopProxy("www.shop.example"))
	_, err = w.catalog.RecordProof(t.Context(), proxy, catalog.Finding{At: time.Now(), Problem: bad})
	must(t, err)
	a, err := w.store.Announce(t.Context(), catalog.NodePrefix+"hv2")
	must(t, err)
	must(t, a.Set(t.Context(), catalog.Node{Name: "hv2", POP: bad, Version: bad}.Encode()))

	for _, path := range []string{
		"/projects", "/projects/shop", "/projects/shop?q=" + url.QueryEscape(bad), "/projects?q=" + url.QueryEscape(bad), "/projects/shop/proxies/www.shop.example",
		"/projects/shop/tokens", "/projects/shop/audit", "/projects/shop/settings", "/audit", "/hypervisors", "/projects/shop?live=" + url.QueryEscape(bad),
		"/projects/shop/proxies/" + url.PathEscape(bad), "/" + url.PathEscape(bad), "/sign-in?next=" + url.QueryEscape("/"+bad), "/projects/shop?done=" + url.QueryEscape(bad),
	} {
		seen(o.get(path))
		seen(w.visitor().get(path))
	}
	all := func(names ...string) (fields []string) {
		for _, n := range names {
			fields = append(fields, n, bad)
		}
		return fields
	}
	seen(o.fill("/projects/shop/add", all("host", "backends", "http", "https", "proxy_protocol", "off")...).status(http.StatusUnprocessableEntity))
	for _, field := range []string{"host", "backends", "http", "https", "proxy_protocol"} {
		seen(o.fill("/projects/shop/add", "host", "a.shop.example", "backends", "2001:db8:64::2", field, bad).status(http.StatusUnprocessableEntity))
	}
	page := o.get("/projects/shop/proxies/www.shop.example/edit")
	other := shopProxy("www.shop.example")
	other.HTTPS = 444
	w.proxy(other)
	seen(o.send(page, "/projects/shop/proxies/www.shop.example/edit", "backends", "2001:db8:64::3", "base_backends", bad, "base_http", bad, "base_proxy_protocol", bad).status(http.StatusConflict))
	seen(o.fill("/add-project", all("name", "title", "prefixes", "max_proxies")...).status(http.StatusUnprocessableEntity))
	seen(o.fill("/trusted", all("domain", "project")...).status(http.StatusUnprocessableEntity))
	seen(o.fill("/projects/shop/tokens", "name", bad+"\x00").status(http.StatusUnprocessableEntity))
	o.fill("/projects/shop/tokens", "verb", bad).status(http.StatusUnprocessableEntity)
	o.fill("/projects/shop/tokens", "life", bad).status(http.StatusBadRequest)
	o.fill("/projects/shop/tokens", "verb", "operator", "name", "x").status(http.StatusBadRequest)
	seen(o.send(o.get("/projects/shop"), "/sign-out"))
}

func TestEditConflict(t *testing.T) {
	const path = "/projects/shop/proxies/www.shop.example/edit"
	w := newWorld(t)
	first := w.proxy(shopProxy("www.shop.example"))
	v, rival := w.as(w.shop), w.as(w.operator)

	page := v.get(path)
	rival.fill(path, "https", "8443", "backends", "2001:db8:64::3").status(http.StatusSeeOther)
	page = v.send(page, path, "backends", "2001:db8:64::4", "proxy_protocol", "v1").status(http.StatusConflict).
		says("Somebody else has changed this proxy", "Changed meanwhile to: 2001:db8:64::3", "Changed meanwhile, and taken over: 8443", "What you typed is still there")
	form := formOf(page, path)
	for name, want := range map[string]string{"backends": "2001:db8:64::4", "https": "8443", "proxy_protocol": "v1", "http": "80"} {
		if got := form.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if p := must2(w.catalog.Proxy(t.Context(), first.Host)); p.HTTPS != 8443 || p.Header != "off" {
		t.Errorf("it was saved: %+v", p)
	}
	v.send(page, path).leadsTo("/projects/shop/proxies/www.shop.example?done=saved")
	if p := must2(w.catalog.Proxy(t.Context(), first.Host)); p.HTTPS != 8443 || p.Header != "v1" || joinAddrs(p.Backends, " ") != "2001:db8:64::4" {
		t.Errorf("%+v", p)
	}

	// The same change by two is none that needs a word.
	page = v.get(path)
	rival.fill(path, "http", "8080").status(http.StatusSeeOther)
	v.send(page, path, "http", "8080").status(http.StatusConflict).says("taken over: 8080")
	v.fill(path).leadsTo("/projects/shop/proxies/www.shop.example?done=same")

	// A look at the DNS is no change by people.
	page = v.get(path)
	_, err := w.catalog.RecordProof(t.Context(), must2(w.catalog.Proxy(t.Context(), first.Host)), catalog.Finding{At: time.Now(), Found: true})
	must(t, err)
	v.send(page, path, "http", "80").leadsTo("/projects/shop/proxies/www.shop.example?done=saved")

	// What somebody wants to delete is what they have seen.
	confirm := v.get("/projects/shop/proxies/www.shop.example/delete").says("For some days nobody but this project can have the name")
	rival.fill(path, "http", "81").status(http.StatusSeeOther)
	v.send(confirm, "/projects/shop/proxies/www.shop.example/delete").status(http.StatusConflict).says("Nothing was deleted")

	page = v.get(path)
	rival.fill("/projects/shop/proxies/www.shop.example/delete").status(http.StatusSeeOther)
	page = v.send(page, path, "https", "9443").status(http.StatusConflict).says("Somebody else has deleted this proxy")
	v.send(page, "/projects/shop/add").leadsTo("/projects/shop/proxies/www.shop.example?done=added")
	if p := must2(w.catalog.Proxy(t.Context(), first.Host)); p.HTTPS != 9443 {
		t.Errorf("%+v", p)
	}

	for _, r := range []string{"", "0", "-1", "x", "99999999999999999999"} {
		v.fill(path, "revision", r).status(http.StatusBadRequest)
		v.fill("/projects/shop/proxies/www.shop.example/delete", "revision", r).status(http.StatusBadRequest)
	}
	v.fill(path, "revision", "999999").status(http.StatusConflict)
}

func TestSearchAndPages(t *testing.T) {
	w := newWorld(t)
	for i := range perPage + 5 {
		w.proxy(shopProxy(fmt.Sprintf("site-%03d.shop.example", i)))
	}
	must(t, w.take("blog", "site-999.blog.example"))
	v := w.as(w.shop)
	first := v.get("/projects/shop").says("55 in all", "site-000.shop.example", "site-049.shop.example", "Next page").hides("site-050", "blog.example", "First page")
	next := ""
	for n := range first.parse().Descendants() {
		if value(n, "rel") == "next" {
			next = value(n, "href")
		}
	}
	v.get(next).status(http.StatusOK).says("site-050.shop.example", "site-054.shop.example", "First page").hides("site-049.shop.example</", "Next page")
	v.get("/projects/shop?q=E-00").says("site-009.shop.example", "Show all").hides("site-010")
	v.get("/projects/shop?q=e-0&after=site-030.shop.example").says("site-031.shop.example").hides("site-030.shop.example</")
	v.get("/projects/shop?q=nothing").says("No host name has “nothing” in it")
	o := w.as(w.operator)
	o.get("/projects?q=shop").says("The Shop", "55 of 1000").hides("blog")
	o.get("/projects?q=none").says("No project has “none”")
	o.get("/projects/shop/audit").says("Next page", "site-054")
	o.get("/audit?before=x").status(http.StatusNotFound)
}

// The parts that live are those of the page.
func TestLiveParts(t *testing.T) {
	w := newWorld(t)
	w.proxy(shopProxy("www.shop.example"))
	v, o := w.as(w.shop), w.as(w.operator)
	for _, c := range []struct {
		v    *visitor
		path string
		says string
	}{{v, "/projects/shop?q=www", "1 in all"}, {o, "/projects/blog", "No proxies yet"}, {v, "/projects/shop/proxies/www.shop.example", "Waiting for TXT record"}, {v, "/projects/shop/proxies/www.shop.example", "2001:db8:64::2"}, {o, "/projects", "The Shop"}, {o, "/hypervisors", "hv1"}} {
		page := c.v.get(c.path).status(http.StatusOK)
		live := ""
		for n := range page.parse().Descendants() {
			if u, ok := attr(n, "data-live"); ok {
				live = u
			}
		}
		parts := c.v.get(live).status(http.StatusOK).says(c.says).hides("<main", "csrf")
		known := map[string]bool{}
		for n := range page.parse().Descendants() {
			if name, ok := attr(n, "data-part"); ok {
				if known[name] {
					t.Errorf("%s has two parts %q", c.path, name)
				}
				known[name] = true
			}
		}
		fresh := 0
		for n := range parts.parse().Descendants() {
			if name, ok := attr(n, "data-part"); ok {
				if fresh++; !known[name] {
					t.Errorf("%s has no part %q", c.path, name)
				}
			}
		}
		if fresh == 0 || fresh != len(known) {
			t.Errorf("%s: %d parts, %d of them live", c.path, len(known), fresh)
		}
	}
	w.visitor().get("/projects/shop?live=1").status(http.StatusUnauthorized)
	v.get("/projects/shop/proxies/none.example?live=1").status(http.StatusNotFound)
	// Of a page that has been open while others have deleted what was on it.
	v.get("/projects/shop?live=1&after=www.shop.example").says("There is none on this page any more")
	w.applied(must2(w.catalog.DeleteProxy(t.Context(), root, "shop", "www.shop.example", catalog.Match{})))
	v.get("/projects/shop?live=1").says("No proxies yet").hides("No host name has")
}

func TestStates(t *testing.T) {
	nodes := func(applied ...store.Revision) (list []catalog.Node) {
		for _, a := range applied {
			list = append(list, catalog.Node{Applied: a})
		}
		return list
	}
	at := func(r mirror.Reason, p catalog.Proof) mirror.Proxy {
		return mirror.Proxy{Proxy: catalog.Proxy{Meta: catalog.Meta{Revision: 5}, Proof: p}, Reason: r, Problem: "2001:db8::1 is outside"}
	}
	gone := at(mirror.Served, catalog.Proven)
	gone.Missing = time.Now()
	for _, c := range []struct {
		name  string
		p     mirror.Proxy
		nodes []catalog.Node
		kind  string
		text  string
	}{
		{"all", at(mirror.Served, catalog.Proven), nodes(5, 6), "ok", "Live on 2 of 2 hypervisors"},
		{"one", at(mirror.Served, catalog.Trusted), nodes(5), "ok", "Live on 1 of 1 hypervisor"},
		{"some", at(mirror.Served, catalog.Proven), nodes(5, 4, 4), "wait", "Going live: 1 of 3 hypervisors"},
		{"nobody", at(mirror.Served, catalog.Proven), nil, "wait", "Going live"},
		{"TXT gone, still served", gone, nodes(5), "wait", "Live, but the TXT record is gone"},
		{"pending", at(mirror.Unproven, catalog.Pending), nodes(5), "wait", "Waiting for TXT record"},
		{"lost", at(mirror.Unproven, catalog.Lost), nodes(5), "bad", "Not served: the TXT record is gone"},
		{"off", at(mirror.Off, catalog.Proven), nodes(5), "off", "Switched off"},
		{"moved", at(mirror.Unreachable, catalog.Proven), nodes(5), "bad", "Not served: no VM to lead to"},
		{"no project", at(mirror.NoProject, catalog.Proven), nodes(5), "bad", "Not served: the project is gone"},
		{"broken", at(mirror.Broken, catalog.Proven), nodes(5), "bad", "Not served"},
	} {
		if got := stateOf(&c.p, c.nodes); got.Kind != c.kind || got.Text != c.text {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "just now", -59 * time.Second: "just now", -time.Minute: "1 minute ago", -59 * time.Minute: "59 minutes ago", -5 * time.Hour: "5 hours ago",
		-24 * time.Hour: "22 Nov 2026, 08:00 UTC", 30 * time.Second: "in less than a minute", 12 * time.Hour: "in 12 hours", 48 * time.Hour: "25 Nov 2026, 08:00 UTC",
	} {
		m := momentOf(now.Add(d), now)
		if m.Text != want || m.Exact == "" {
			t.Errorf("%v: %+v, want %q", d, m, want)
		}
		if back, err := time.Parse(time.RFC3339, m.ISO); err != nil || !back.Equal(now.Add(d)) {
			t.Errorf("%v: %s", d, m.ISO)
		}
	}
}

func TestSiteOf(t *testing.T) {
	w := newWorld(t)
	_, err := w.catalog.PutTrust(t.Context(), root, catalog.Trust{Domain: "shop.example", Project: "shop"}, catalog.Match{})
	must(t, err)
	v := w.as(w.shop)
	for host, want := range map[string]string{"www.shop.example": `href="https://www.shop.example/"`, "plain.shop.example": `href="http://plain.shop.example/"`, "*.shop.example": ""} {
		w.dns.set(host, false, true)
		p := shopProxy(host)
		if host == "plain.shop.example" {
			p.HTTP = 80
			_, _, err := w.catalog.PutProxy(t.Context(), root, p, catalog.Match{})
			must(t, err)
		} else {
			w.proxy(p)
		}
		path := "/projects/shop/proxies/" + url.PathEscape(host)
		v.eventually(path, "All is done", "No TXT record needed")
		if page := v.get(path); !strings.Contains(page.text, want) || want == "" && strings.Contains(page.text, "visit the site") {
			t.Errorf("%s: %s", host, page.text)
		}
	}
}
