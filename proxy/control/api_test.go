package control

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

func TestProxyFromCradleToGrave(t *testing.T) {
	w := newWorld(t)
	r := w.want(w.ask("PUT", shopProxy, w.shop, toVM), 201)
	p := as[wire.Proxy](t, r)
	if p.Host != "www.shop.example" || p.Project != "shop" || p.HTTP != 80 || p.HTTPS != 443 || p.ProxyProtocol != "off" || p.Proof.State != "pending" {
		t.Errorf("got %+v", p)
	}
	if p.Proof.Record != "_isthmus-challenge.www.shop.example" || p.Proof.Value == "" || strings.Join(p.CNAMEs, " ") != "dfw.proxy.infra.example ams.proxy.infra.example" {
		t.Errorf("what to set in the DNS: %+v", p)
	}
	if r.Header.Get("Location") != shopProxy || r.Header.Get(RevisionHeader) != fmt.Sprint(p.Revision) {
		t.Errorf("headers: %v", r.Header)
	}
	etag := r.Header.Get("ETag")

	// The same once more changes nothing.
	again := w.want(w.ask("PUT", shopProxy, w.shop, toVM), 200)
	if again.Header.Get("ETag") != etag || as[wire.Proxy](t, again).Revision != p.Revision {
		t.Errorf("the same is another: %v", again.Header)
	}
	got := w.want(w.ask("GET", shopProxy, w.reader, ""), 200)
	if got.Header.Get("ETag") != etag || as[wire.Proxy](t, got).Revision != p.Revision {
		t.Errorf("read back: %s", got.text)
	}
	w.want(w.ask("HEAD", shopProxy, w.reader, ""), 200)
	if r := w.want(w.ask("GET", shopProxy, w.reader, "", "If-None-Match: "+etag), 304); len(r.text) != 0 || r.Header.Get("ETag") != etag {
		t.Errorf("304 with %q, %v", r.text, r.Header)
	}

	// Two people edit: the second one has to look again.
	changed := w.want(w.ask("PUT", shopProxy, w.shop, `{"backends": ["2001:db8:64::3"], "http": 0, "proxy_protocol": "v2", "off": true}`, "If-Match: "+etag), 200)
	if p := as[wire.Proxy](t, changed); p.HTTP != 0 || p.HTTPS != 443 || p.ProxyProtocol != "v2" || !p.Off {
		t.Errorf("changed to %+v", p)
	}
	w.want(w.ask("PUT", shopProxy, w.shop, toVM, "If-Match: "+etag), 412)
	w.want(w.ask("DELETE", shopProxy, w.shop, "", "If-Match: "+etag), 412)
	w.want(w.ask("PUT", shopProxy, w.shop, toVM, "If-None-Match: *"), 412)
	w.want(w.ask("PUT", shopProxies+"/new.shop.example", w.shop, toVM, "If-Match: *"), 412)
	w.want(w.ask("PUT", shopProxy, w.shop, toVM, "If-Match: "+changed.Header.Get("ETag")), 200)

	state := as[wire.State](t, w.want(w.ask("GET", shopProxy+"/state", w.reader, ""), 200))
	if state.Served || state.Problem == "" {
		t.Errorf("unproven, and %+v", state)
	}
	w.want(w.ask("PUT", "/api/v1/trusts/shop.example", w.operator, `{"project": "shop"}`), 200)
	w.eventually("trusted and served", func() bool {
		state = as[wire.State](t, w.want(w.ask("GET", shopProxy+"/state", w.reader, ""), 200))
		return state.Served && state.Problem == "" && state.Live.Live == 1 && state.Nodes == 1
	})

	gone := w.want(w.ask("DELETE", shopProxy, w.shop, "", "If-Match: *"), 204)
	if gone.Header.Get(RevisionHeader) == "" {
		t.Error("a deletion without a revision")
	}
	w.want(w.ask("GET", shopProxy, w.reader, ""), 404)
	w.want(w.ask("DELETE", shopProxy, w.shop, ""), 404)

	var actions []string
	for _, a := range as[wire.List[wire.Audit]](t, w.want(w.ask("GET", "/api/v1/projects/shop/audit", w.reader, ""), 200)).Items {
		if a.Target == "www.shop.example" {
			actions = append(actions, a.Action)
		}
		if strings.HasPrefix(a.Action, "proxy.c") && a.From != "127.0.0.1" {
			t.Errorf("from %q", a.From)
		}
	}
	if got := strings.Join(actions, " "); got != "proxy.delete proxy.proof proxy.change proxy.change proxy.create" {
		t.Errorf("the log says %s", got)
	}
}

func TestLists(t *testing.T) {
	w := newWorld(t)
	for i := range 7 {
		w.want(w.ask("PUT", fmt.Sprintf("%s/w%d.shop.example", shopProxies, i), w.shop, toVM), 201)
	}
	w.want(w.ask("PUT", "/api/v1/projects/blog/proxies/w0.blog.example", w.blog, `{"backends": ["2001:db8:65::2"]}`), 201)
	var all []string
	for after, pages := "", 0; pages < 10; pages++ {
		l := as[wire.List[wire.Proxy]](t, w.want(w.ask("GET", shopProxies+"?limit=3&after="+after, w.reader, ""), 200))
		for _, p := range l.Items {
			all = append(all, p.Host)
		}
		if after = l.Next; after == "" {
			break
		}
	}
	if got := strings.Join(all, " "); got != "w0.shop.example w1.shop.example w2.shop.example w3.shop.example w4.shop.example w5.shop.example w6.shop.example" {
		t.Errorf("pages: %s", got)
	}
	if l := as[wire.List[wire.Proxy]](t, w.want(w.ask("GET", shopProxies+"?search=w5", w.reader, ""), 200)); len(l.Items) != 1 {
		t.Errorf("search: %+v", l)
	}
	if l := as[wire.List[wire.Proxy]](t, w.want(w.ask("GET", shopProxies+"?search=blog", w.reader, ""), 200)); len(l.Items) != 0 {
		t.Errorf("search finds another project's: %+v", l)
	}
	if l := as[wire.List[wire.Project]](t, w.want(w.ask("GET", "/api/v1/projects", w.operator, ""), 200)); len(l.Items) != 2 {
		t.Errorf("projects: %+v", l)
	}
	if l := as[wire.List[wire.Project]](t, w.want(w.ask("GET", "/api/v1/projects", w.reader, ""), 200)); len(l.Items) != 1 || l.Items[0].Name != "shop" {
		t.Errorf("a project's projects: %+v", l)
	}
	for path, n := range map[string]int{"/api/v1/tokens": 4, "/api/v1/projects/shop/tokens": 2, "/api/v1/tokens?limit=4": 4} {
		if l := as[wire.List[wire.Token]](t, w.want(w.ask("GET", path, w.operator, ""), 200)); len(l.Items) != n || l.Next != "" {
			t.Errorf("%s: %+v", path, l)
		}
	}
	first := as[wire.List[wire.Audit]](t, w.want(w.ask("GET", "/api/v1/audit?limit=5", w.operator, ""), 200))
	second := as[wire.List[wire.Audit]](t, w.want(w.ask("GET", "/api/v1/audit?limit=5&before="+first.Next, w.operator, ""), 200))
	if len(first.Items) != 5 || len(second.Items) != 5 || !second.Items[0].At.Before(first.Items[4].At) {
		t.Errorf("%+v\n%+v", first, second)
	}
}

func TestProjectsAndTrusts(t *testing.T) {
	w := newWorld(t)
	const path = "/api/v1/projects/new"
	r := w.want(w.ask("PUT", path, w.operator, `{"prefixes": ["2001:db8:66::/64"], "title": "New"}`), 201)
	if p := as[wire.Project](t, r); p.Name != "new" || p.Title != "New" || len(p.Prefixes) != 1 || p.MaxProxies != 1000 || p.CreatedBy == "" {
		t.Errorf("got %+v", p)
	}
	etag := r.Header.Get("ETag")
	if r := w.want(w.ask("PUT", path, w.operator, `{"prefixes": ["2001:db8:66::/64"], "title": "New"}`, "If-Match: "+etag), 200); r.Header.Get("ETag") != etag {
		t.Error("the same is another")
	}
	w.want(w.ask("PUT", path, w.operator, `{"prefixes": []}`, "If-None-Match: *"), 412)
	w.want(w.ask("GET", path, w.operator, "", "If-None-Match: "+etag), 304)
	w.want(w.ask("PUT", "/api/v1/trusts/new.example", w.operator, `{"project": "new"}`), 200)
	w.want(w.ask("GET", "/api/v1/trusts/new.example", w.operator, ""), 200)
	w.want(w.ask("GET", "/api/v1/trusts/other.example", w.operator, ""), 404)
	w.want(w.ask("PUT", "/api/v1/trusts/new.example", w.operator, `{"project": "none"}`), 404)
	w.want(w.ask("PUT", "/api/v1/trusts/new.example", w.operator, `{"project": "shop"}`, "If-None-Match: *"), 412)
	if l := as[wire.List[wire.Trust]](t, w.want(w.ask("GET", "/api/v1/trusts", w.operator, ""), 200)); len(l.Items) != 1 {
		t.Errorf("got %+v", l)
	}
	w.want(w.ask("DELETE", "/api/v1/trusts/new.example", w.operator, "", "If-Match: *"), 204)
	w.want(w.ask("DELETE", "/api/v1/trusts/new.example", w.operator, ""), 404)

	w.want(w.ask("PUT", path+"/proxies/www.new.example", w.operator, `{"backends": ["2001:db8:66::2"]}`), 201)
	w.want(w.ask("DELETE", path, w.operator, ""), 409)
	w.want(w.ask("DELETE", path+"/proxies/www.new.example", w.operator, ""), 204)
	w.want(w.ask("DELETE", path, w.operator, "", `If-Match: "1"`), 412)
	w.want(w.ask("DELETE", path, w.operator, ""), 204)
	w.want(w.ask("GET", path, w.operator, ""), 404)
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	made := as[wire.NewToken](t, w.want(w.ask("POST", "/api/v1/tokens", w.operator, `{"name": "deploy", "project": "shop", "verb": "write"}`), 201))
	if made.Secret == "" || made.Project != "shop" || made.Verb != "write" {
		t.Errorf("got %+v", made)
	}
	me := as[wire.Me](t, w.want(w.ask("GET", "/api/v1/me", made.Secret, ""), 200))
	if me.By != made.ID || me.Operator || me.Token.Project != "shop" || len(me.CNAMEs) != 2 {
		t.Errorf("got %+v", me)
	}
	if text := string(w.ask("GET", "/api/v1/tokens", w.operator, "").text); strings.Contains(text, made.Secret) || strings.Contains(text, "hash") {
		t.Errorf("the list says too much: %s", text)
	}
	if text := string(w.ask("GET", "/api/v1/audit", w.operator, "").text); strings.Contains(text, made.Secret) {
		t.Errorf("the log says too much: %s", text)
	}
	// A revoked one ends at once where it was revoked.
	w.want(w.ask("DELETE", "/api/v1/projects/shop/tokens/"+made.ID, w.shop, ""), 204)
	w.want(w.ask("GET", "/api/v1/me", made.Secret, ""), 401)
	w.want(w.ask("DELETE", "/api/v1/projects/shop/tokens/"+made.ID, w.shop, ""), 404)
	op := as[wire.Me](t, w.want(w.ask("GET", "/api/v1/me", w.operator, ""), 200))
	w.want(w.ask("DELETE", "/api/v1/projects/shop/tokens/"+op.By, w.shop, ""), 404)
	w.want(w.ask("DELETE", "/api/v1/tokens/"+op.By, w.operator, ""), 204)
	w.want(w.ask("GET", "/api/v1/me", w.operator, ""), 401)
}

// Without a token there is nothing but the description.
func TestOpenToAll(t *testing.T) {
	w := newWorld(t)
	r := w.want(w.ask("GET", "/api/v1/openapi.json", "", ""), 200)
	if kind := r.Header.Get("Content-Type"); kind != "application/openapi+json" || string(r.text) != string(OpenAPI()) {
		t.Errorf("%s, %d bytes", kind, len(r.text))
	}
	for _, path := range []string{"/", "/index.html", "/api/v2/me"} {
		if r := w.ask("GET", path, "", ""); r.StatusCode != http.StatusNotFound && r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
}

// What the DNS shows just now is stored, and in the answer.
func TestCheck(t *testing.T) {
	w := newWorld(t)
	w.want(w.ask("PUT", shopProxy, w.shop, toVM), 201)
	w.want(w.ask("POST", shopProxy+"/check", w.shop, ""), 404) // nobody looks
	config := w.config
	config.Check = func(ctx context.Context, p catalog.Proxy) (catalog.Proxy, wire.Found, error) {
		now, err := w.catalog.RecordProof(ctx, p, catalog.Finding{At: time.Now(), Found: true})
		return now, wire.Found{OK: false, Found: []string{"192.0.2.1"}, Problem: "leads elsewhere"}, err
	}
	if err := w.server.Update(config); err != nil {
		t.Fatal(err)
	}
	before := w.ask("GET", shopProxy, w.shop, "").Header.Get("ETag")
	r := w.want(w.ask("POST", shopProxy+"/check", w.shop, ""), 200)
	if found := as[wire.Check](t, r); found.Proof.State != "proven" || found.CNAME.OK || found.CNAME.Problem != "leads elsewhere" {
		t.Errorf("got %+v", found)
	}
	got := w.want(w.ask("GET", shopProxy, w.shop, ""), 200)
	if p := as[wire.Proxy](t, got); p.Proof.State != "proven" || got.Header.Get("ETag") != before {
		t.Errorf("a look at the DNS spoils an edit: %s, then %s, %+v", before, got.Header.Get("ETag"), p)
	}
	w.want(w.ask("PUT", shopProxy, w.shop, `{"backends": ["2001:db8:64::3"]}`, "If-Match: "+before), 200)
	w.want(w.ask("POST", shopProxies+"/none.example/check", w.shop, ""), 404)
	if state := as[wire.State](t, w.ask("GET", shopProxy+"/state", w.shop, "")); !state.Served {
		t.Errorf("proven, and %+v", state)
	}
}
