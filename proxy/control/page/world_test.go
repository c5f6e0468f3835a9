package page

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

// patience is how long anything may take on a busy machine.
const patience = 30 * time.Second

// world is the page over a store with two projects and their tokens, as one node
// has it.
type world struct {
	t       *testing.T
	store   store.Store
	catalog *catalog.Catalog
	mirror  *mirror.Mirror
	dns     *dns
	config  Config
	http    *httptest.Server
	tls     *httptest.Server // for browsers
	away    atomic.Bool      // and nobody there answers

	operator, shop, reader, blog string // tokens: shop and reader are of one project
}

var root = catalog.Actor{By: "test"}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, dns: &dns{texts: map[string]bool{}, cnames: map[string]bool{}}}
	s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "routes.db"), bolt.Options{})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	w.store = s
	w.catalog = catalog.New(s, catalog.Options{VMs: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}})
	w.project("shop", "2001:db8:64::/64", "The Shop")
	w.project("blog", "2001:db8:65::/64", "")
	w.operator = w.token(catalog.Token{Name: "Olga", Verb: catalog.Operator})
	w.shop = w.token(catalog.Token{Name: "Sam", Project: "shop", Verb: catalog.Write})
	w.reader = w.token(catalog.Token{Name: "Rita", Project: "shop", Verb: catalog.Read})
	w.blog = w.token(catalog.Token{Name: "Bert", Project: "blog", Verb: catalog.Write})

	w.mirror = w.node("hv1")

	w.config = Config{
		Catalog: w.catalog, Mirror: w.mirror, Guard: access.New(w.catalog, access.Limits{PerSecond: -1, Burst: -1, Failures: -1}),
		CNAMEs: []string{"dfw.proxy.infra.example", "ams.proxy.infra.example"}, Check: w.check,
		Log: func(_ bool, message string) { t.Error("logged: " + message) },
	}
	for _, f := range change {
		f(&w.config)
	}
	h, err := New(w.config)
	must(t, err)
	w.http = httptest.NewServer(h)
	t.Cleanup(w.http.Close)
	return w
}

// node runs one more hypervisor's copy.
func (w *world) node(name string) *mirror.Mirror {
	m := mirror.New(mirror.Config{
		Open: func(context.Context) (store.Store, error) { return w.store, nil },
		Node: catalog.Node{Name: name, POP: "dfw", Version: "v1.2.3", Started: time.Now().Add(-50 * time.Hour)},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { m.Run(ctx) })
	w.t.Cleanup(func() { cancel(); running.Wait() })
	<-m.Ready()
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) project(name, prefix, title string) {
	w.t.Helper()
	_, err := w.catalog.PutProject(w.t.Context(), root, catalog.Project{Name: name, Title: title, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}, catalog.Match{})
	must(w.t, err)
}

func (w *world) token(t catalog.Token) string {
	w.t.Helper()
	secret, _, err := w.catalog.CreateToken(w.t.Context(), root, t)
	must(w.t, err)
	return secret
}

// proxy adds or changes one, not by the page.
func (w *world) proxy(p catalog.Proxy) catalog.Proxy {
	w.t.Helper()
	if p.HTTPS == 0 {
		p.HTTP, p.HTTPS = 80, 443
	}
	saved, _, err := w.catalog.PutProxy(w.t.Context(), root, p, catalog.Match{})
	must(w.t, err)
	w.applied(saved.Revision)
	return saved
}

func shopProxy(host string) catalog.Proxy {
	return catalog.Proxy{Host: host, Project: "shop", Backends: []netip.Addr{netip.MustParseAddr("2001:db8:64::2")}}
}

func (w *world) applied(r store.Revision) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	must(w.t, w.mirror.WaitFor(ctx, r))
}

// dns is what name servers say: whose challenges are there, and which hosts lead
// here.
type dns struct {
	mu            sync.Mutex
	texts, cnames map[string]bool
	looks         int
}

func (d *dns) set(host string, text, cname bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.texts[host], d.cnames[host] = text, cname
}

// check does what the look at the DNS does, without a network.
func (w *world) check(ctx context.Context, p catalog.Proxy) (catalog.Proxy, wire.Found, error) {
	w.dns.mu.Lock()
	text, cname := w.dns.texts[p.Host], w.dns.cnames[p.Host]
	w.dns.looks++
	w.dns.mu.Unlock()
	f := catalog.Finding{At: time.Now(), Found: text, Gone: !text}
	if !text {
		f.Problem = "the name servers of the zone know no such record"
	}
	saved, err := w.catalog.RecordProof(ctx, p, f)
	found := wire.Found{OK: cname, Found: []string{"dfw.proxy.infra.example"}}
	if !cname {
		found = wire.Found{Found: []string{"parking.example"}, Problem: "the name leads somewhere else"}
	}
	return saved, found, err
}

// visitor is a browser with its cookies, but without a will of its own: it follows
// redirects only when told to.
type visitor struct {
	w    *world
	http *http.Client
}

func (w *world) visitor() *visitor {
	jar, _ := cookiejar.New(nil)
	return &visitor{w, &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// as is a visitor who has signed in.
func (w *world) as(token string) *visitor {
	w.t.Helper()
	v := w.visitor()
	v.post("/sign-in", url.Values{"token": {token}}).status(http.StatusSeeOther)
	return v
}

// reply is an answer that has been read.
type reply struct {
	*http.Response
	t    *testing.T
	text string
}

func (v *visitor) do(method, path string, body string, headers ...string) *reply {
	v.w.t.Helper()
	r, err := http.NewRequestWithContext(v.w.t.Context(), method, v.w.http.URL+path, strings.NewReader(body))
	must(v.w.t, err)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	a, err := v.http.Do(r)
	must(v.w.t, err)
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	must(v.w.t, err)
	out := &reply{a, v.w.t, string(text)}
	out.checkHeaders()
	if method != http.MethodHead && a.StatusCode/100 != 3 && strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") && !strings.Contains(path, "live=") {
		out.checkHTML()
	}
	return out
}

func (v *visitor) get(path string) *reply { v.w.t.Helper(); return v.do(http.MethodGet, path, "") }

// post sends a form, without what makes it this session's.
func (v *visitor) post(path string, form url.Values) *reply {
	v.w.t.Helper()
	return v.do(http.MethodPost, path, form.Encode())
}

// fill opens a page with a form, changes fields and sends it.
func (v *visitor) fill(path string, fields ...string) *reply {
	v.w.t.Helper()
	return v.send(v.get(path).status(http.StatusOK), path, fields...)
}

// send sends the form of a page with fields changed.
func (v *visitor) send(page *reply, path string, fields ...string) *reply {
	v.w.t.Helper()
	form := formOf(page, path)
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
		if fields[i+1] == "" {
			form.Del(fields[i])
		}
	}
	return v.post(path, form)
}

func (r *reply) status(want int) *reply {
	r.t.Helper()
	if r.StatusCode != want {
		r.t.Fatalf("%s %s: %s, want %d\n%s", r.Request.Method, r.Request.URL, r.Status, want, r.text)
	}
	return r
}

// leadsTo checks where a redirect goes.
func (r *reply) leadsTo(want string) *reply {
	r.t.Helper()
	if got := r.status(http.StatusSeeOther).Header.Get("Location"); got != want {
		r.t.Errorf("%s %s leads to %q, want %q", r.Request.Method, r.Request.URL, got, want)
	}
	return r
}

var spaces = regexp.MustCompile(`\s+`)

// words is what a page says, without its marks.
func (r *reply) words() string {
	return strings.TrimSpace(spaces.ReplaceAllString(textOf(r.parse()), " "))
}

// says checks that a page says something.
func (r *reply) says(texts ...string) *reply {
	r.t.Helper()
	words := r.words()
	for _, want := range texts {
		if !strings.Contains(words, want) {
			r.t.Errorf("%s %s does not say %q, but:\n%s", r.Request.Method, r.Request.URL, want, words)
		}
	}
	return r
}

// hides checks that a page has a text nowhere, not even in its source.
func (r *reply) hides(texts ...string) *reply {
	r.t.Helper()
	for _, bad := range texts {
		if strings.Contains(r.text, bad) || strings.Contains(r.words(), bad) {
			r.t.Errorf("%s %s has %q in it", r.Request.Method, r.Request.URL, bad)
		}
	}
	return r
}

// eventually waits until a page says everything.
func (v *visitor) eventually(path string, texts ...string) {
	v.w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		words := v.get(path).status(http.StatusOK).words()
		missing := slices.IndexFunc(texts, func(s string) bool { return !strings.Contains(words, s) })
		if missing < 0 {
			return
		}
		if time.Now().After(end) {
			v.w.t.Fatalf("%s does not say %q, but:\n%s", path, texts[missing], words)
		}
	}
}

func (r *reply) checkHeaders() {
	r.t.Helper()
	for name, want := range map[string]string{
		"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cross-Origin-Opener-Policy": "same-origin",
	} {
		if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
			r.t.Errorf("%s %s: %s is %q", r.Request.Method, r.Request.URL, name, got)
		}
	}
}
