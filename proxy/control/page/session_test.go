package page

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

func TestSignIn(t *testing.T) {
	w := newWorld(t)
	w.visitor().get("/").leadsTo("/sign-in")
	w.visitor().get("/projects/shop?q=a").leadsTo("/sign-in?next=%2Fprojects%2Fshop%3Fq%3Da")
	w.visitor().get("/sign-in").status(http.StatusOK).says("Sign in", "Token")

	v := w.visitor()
	for name, token := range map[string]string{
		"nothing": "", "a word": "secret", "one of the right form": "isth_aaaaaaaaaaaaaaaa_" + strings.Repeat("a", 52), "a long one": strings.Repeat("x", 10000), "marks": "\x00<script>",
	} {
		t.Run(name, func(t *testing.T) {
			v.post("/sign-in", url.Values{"token": {token}}).status(http.StatusUnauthorized).says("This token is not known").hides("<script>")
		})
	}
	v.get("/projects/shop").leadsTo("/sign-in?next=%2Fprojects%2Fshop")
	v.post("/sign-in", url.Values{"token": {" " + w.shop + "\n"}}).leadsTo("/")
	v.get("/").leadsTo("/projects/shop")
	v.get("/sign-in").leadsTo("/")
	w.as(w.operator).get("/").leadsTo("/projects")

	// A session can't make another one, and a token is no session.
	v.post("/sign-in", url.Values{"token": {v.cookie().Value}}).status(http.StatusUnauthorized)
	v = w.visitor()
	v.setCookie(w.shop)
	v.get("/projects/shop").leadsTo("/sign-in?next=%2Fprojects%2Fshop")
}

func TestAfterSigningIn(t *testing.T) {
	w := newWorld(t)
	for next, want := range map[string]string{
		"/projects/shop/audit?before=x": "/projects/shop/audit?before=x",
		"":                              "/",
		"//evil.example/":               "/",
		`/\evil.example`:                "/",
		"https://evil.example/":         "/",
		"javascript:alert(1)":           "/",
		"/\tevil":                       "/",
		"evil.example":                  "/",
		"/%zz":                          "/",
	} {
		w.visitor().post("/sign-in", url.Values{"token": {w.shop}, "next": {next}}).leadsTo(want)
	}
	// What leads there has been through the page with the form.
	page := w.visitor().get("/sign-in?next=" + url.QueryEscape("//evil.example/"))
	if got := formOf(page, "/sign-in").Get("next"); got != "/" {
		t.Error(got)
	}
}

func (v *visitor) cookie() *http.Cookie {
	u, _ := url.Parse(v.w.http.URL)
	for _, c := range v.http.Jar.Cookies(u) {
		return c
	}
	return &http.Cookie{}
}

func (v *visitor) setCookie(secret string) {
	u, _ := url.Parse(v.w.http.URL)
	v.http.Jar.SetCookies(u, []*http.Cookie{{Name: plainCookieName, Value: secret, Path: "/"}})
}

func TestCookie(t *testing.T) {
	w := newWorld(t)
	short := w.token(catalog.Token{Name: "an hour", Project: "shop", Verb: catalog.Read, Expires: time.Now().Add(time.Hour)})
	for _, c := range []struct {
		name, token, proto string
		want               http.Cookie
	}{
		{"plain", w.shop, "", http.Cookie{Name: "isthmus", MaxAge: 12 * 3600}},
		{"TLS", w.shop, "https", http.Cookie{Name: "__Host-isthmus", MaxAge: 12 * 3600, Secure: true}},
		{"no longer than the token", short, "https", http.Cookie{Name: "__Host-isthmus", MaxAge: 3600, Secure: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.visitor().do(http.MethodPost, "/sign-in", url.Values{"token": {c.token}}.Encode(), "X-Forwarded-Proto", c.proto).status(http.StatusSeeOther)
			if got := a.Header.Get("Strict-Transport-Security") != ""; got != c.want.Secure {
				t.Errorf("HSTS: %v", got)
			}
			all := a.Cookies()
			if len(all) != 1 {
				t.Fatal(all)
			}
			got := all[0]
			if got.Name != c.want.Name || got.Secure != c.want.Secure || !got.HttpOnly || got.SameSite != http.SameSiteStrictMode || got.Path != "/" || got.Domain != "" {
				t.Error(got)
			}
			if got.MaxAge < c.want.MaxAge-60 || got.MaxAge > c.want.MaxAge {
				t.Errorf("lives for %d s, want %d", got.MaxAge, c.want.MaxAge)
			}
		})
	}
	for _, x := range must2(w.catalog.Tokens(t.Context(), "shop")) {
		if x.Parent != "" && (x.Expires.IsZero() || time.Until(x.Expires) > sessionLife) {
			t.Errorf("%+v", x)
		}
	}
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestSessionEnds(t *testing.T) {
	sessions := func(w *world) (n int) {
		for _, x := range must2(w.catalog.Tokens(t.Context(), "shop")) {
			if x.Parent != "" {
				n++
			}
		}
		return n
	}
	t.Run("signed out", func(t *testing.T) {
		w := newWorld(t)
		v := w.as(w.shop)
		secret := v.cookie().Value
		if sessions(w) != 1 {
			t.Error("no session is stored")
		}
		v.send(v.get("/projects/shop"), "/sign-out").leadsTo("/sign-in?done=signed-out")
		if v.cookie().Value != "" || sessions(w) != 0 {
			t.Error("something is left")
		}
		v.setCookie(secret) // somebody has kept it
		v.get("/projects/shop").leadsTo("/sign-in?next=%2Fprojects%2Fshop")
		v.get("/sign-in?done=signed-out").says("You have signed out.")
	})
	t.Run("token revoked", func(t *testing.T) {
		w := newWorld(t)
		v, o := w.as(w.shop), w.as(w.operator)
		v.get("/projects/shop").status(http.StatusOK)
		id := strings.Split(w.shop, "_")[1]
		o.fill("/projects/shop/tokens/" + id + "/revoke").leadsTo("/projects/shop/tokens?done=revoked")
		v.get("/projects/shop").leadsTo("/sign-in?next=%2Fprojects%2Fshop")
		if v.cookie().Value != "" {
			t.Error("the browser goes on sending what is worth nothing")
		}
	})
	t.Run("too many", func(t *testing.T) {
		w := newWorld(t)
		first := w.as(w.shop)
		time.Sleep(2 * time.Millisecond) // times are stored in milliseconds
		for range maxSessions {
			w.as(w.shop)
		}
		if n := sessions(w); n != maxSessions {
			t.Errorf("%d sessions", n)
		}
		first.get("/projects/shop").leadsTo("/sign-in?next=%2Fprojects%2Fshop")
	})
	t.Run("while typing", func(t *testing.T) {
		w := newWorld(t)
		v := w.as(w.shop)
		page := v.get("/projects/shop/add")
		v.setCookie("isth_over")
		v.send(page, "/projects/shop/add", "host", "www.shop.example").status(http.StatusUnauthorized).says("Your session has ended", "go back to what you typed")
		v.get("/projects/shop?live=1").status(http.StatusUnauthorized)
	})
}

func TestTooManyTokens(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Guard = access.New(c.Catalog, access.Limits{Failures: 2}) })
	for range 2 {
		w.visitor().post("/sign-in", url.Values{"token": {"guess"}}).status(http.StatusUnauthorized)
	}
	a := w.visitor().post("/sign-in", url.Values{"token": {"guess"}}).status(http.StatusTooManyRequests).says("Too many requests")
	if a.Header.Get("Retry-After") == "" {
		t.Error("it does not say for how long")
	}
}

// Who may not see a project gets the same answer as for one that is not there.
func TestWhoMay(t *testing.T) {
	w := newWorld(t)
	w.proxy(shopProxy("www.shop.example"))
	id := strings.Split(w.shop, "_")[1]
	fill := strings.NewReplacer("{project}", "shop", "{host}", "www.shop.example", "{id}", id, "{domain}", "shop.example", "{$}", "")
	stranger, blog, reader := w.visitor(), w.as(w.blog), w.as(w.reader)
	csrf := func(v *visitor, project string) string {
		return formOf(v.get("/projects/"+project), "/sign-out").Get("csrf")
	}
	blogForm, readerForm := url.Values{"csrf": {csrf(blog, "blog")}}.Encode(), url.Values{"csrf": {csrf(reader, "shop")}}.Encode()
	nothing := blog.get("/projects/none").status(http.StatusNotFound).words()
	for _, e := range endpoints {
		method, path, _ := strings.Cut(fill.Replace(e.pattern), " ")
		if e.verb == open || e.verb == "" {
			continue
		}
		t.Run(e.pattern, func(t *testing.T) {
			a := stranger.do(method, path, "")
			if to := a.Header.Get("Location"); a.StatusCode != http.StatusUnauthorized && !strings.HasPrefix(to, "/sign-in?next=") {
				t.Errorf("a stranger gets %s %s", a.Status, to)
			}
			if a := blog.do(method, path, blogForm).status(http.StatusNotFound); a.words() != nothing {
				t.Errorf("another project's gets %s", a.words())
			}
			want := http.StatusOK
			switch {
			case e.verb == catalog.Operator && !strings.Contains(e.pattern, "{project}"):
				want = http.StatusNotFound
			case e.verb != catalog.Read:
				want = http.StatusForbidden
			}
			reader.do(method, path, readerForm).status(want)
		})
	}
	if all := must2(w.catalog.Tokens(t.Context(), "shop")); len(all) < 2 {
		t.Errorf("%+v", all)
	}
	if _, err := w.catalog.Proxy(t.Context(), "www.shop.example"); err != nil {
		t.Error(err)
	}
	// The path has a project that one may read, the proxy is another one's.
	blog.get("/projects/blog/proxies/www.shop.example").status(http.StatusNotFound)
	blog.get("/projects/blog/proxies/www.shop.example/edit").status(http.StatusNotFound)
	blog.get("/projects/blog/tokens/" + id + "/revoke").status(http.StatusNotFound)
	form := url.Values{"csrf": {csrf(blog, "blog")}, "revision": {"1"}, "backends": {"2001:db8:65::2"}, "http": {"80"}, "proxy_protocol": {"off"}}
	blog.post("/projects/blog/proxies/www.shop.example/delete", form).status(http.StatusNotFound)
	blog.post("/projects/blog/tokens/"+id+"/revoke", form).status(http.StatusNotFound)
	reader.get("/projects/shop").hides("Add proxy").says("www.shop.example")
	reader.get("/projects/shop/proxies/www.shop.example").hides("Check now", "/delete")
}

func TestForgedRequests(t *testing.T) {
	w := newWorld(t)
	w.proxy(shopProxy("www.shop.example"))
	v, other := w.as(w.shop), w.as(w.shop)
	const path = "/projects/shop/proxies/www.shop.example/delete"
	good := formOf(v.get(path), path)
	with := func(csrf string) url.Values {
		f := url.Values{"revision": good["revision"]}
		if csrf != "" {
			f.Set("csrf", csrf)
		}
		return f
	}
	for name, try := range map[string]func() *reply{
		"no word":              func() *reply { return v.post(path, with("")) },
		"a wrong word":         func() *reply { return v.post(path, with("x")) },
		"another session's":    func() *reply { return v.post(path, with(formOf(other.get(path), path).Get("csrf"))) },
		"the word in the URL":  func() *reply { return v.post(path+"?csrf="+url.QueryEscape(good.Get("csrf")), with("")) },
		"from another site":    func() *reply { return v.do(http.MethodPost, path, good.Encode(), "Sec-Fetch-Site", "cross-site") },
		"from a sister":        func() *reply { return v.do(http.MethodPost, path, good.Encode(), "Sec-Fetch-Site", "same-site") },
		"an old browser":       func() *reply { return v.do(http.MethodPost, path, good.Encode(), "Origin", "https://evil.example") },
		"signing out, no word": func() *reply { return v.post("/sign-out", url.Values{}) },
		"signing in from afar": func() *reply {
			return w.visitor().do(http.MethodPost, "/sign-in", "token="+w.shop, "Sec-Fetch-Site", "cross-site")
		},
	} {
		t.Run(name, func(t *testing.T) {
			if a := try().status(http.StatusForbidden).says("Nothing was changed"); len(a.Cookies()) > 0 {
				t.Error(a.Cookies())
			}
		})
	}
	if _, err := w.catalog.Proxy(t.Context(), "www.shop.example"); err != nil {
		t.Error(err)
	}
	v.post(path, good).leadsTo("/projects/shop?done=deleted")
}

func TestOversize(t *testing.T) {
	w := newWorld(t)
	v := w.as(w.shop)
	page := v.get("/projects/shop/add")
	v.send(page, "/projects/shop/add", "host", "www.shop.example", "backends", strings.Repeat("x", maxForm)).status(http.StatusRequestEntityTooLarge).says("Nothing was changed")
	v.send(page, "/projects/shop/add", "host", strings.Repeat("x", maxForm/2), "backends", strings.Repeat(":", maxForm/8)).status(http.StatusUnprocessableEntity)
	v.do(http.MethodPost, "/projects/shop/add", "a=%zz").status(http.StatusBadRequest)
	v.do(http.MethodPost, "/projects/shop/add", `{"host": "a"}`, "Content-Type", "application/json").status(http.StatusForbidden)
	v.get("/projects/shop?q=" + strings.Repeat("x", 5000)).status(http.StatusOK)
}

// Nothing answers without the headers, and nothing but the paths there are.
func TestNothingHere(t *testing.T) {
	w := newWorld(t)
	v := w.as(w.shop)
	for _, path := range []string{"/none", "/projects/shop/none", "/static/", "/static/x/page.css", "/static/" + assetsVersion + "/page.go", "/static/../page.css", "/sign-out", "/api/v1/me"} {
		if a := v.get(path); a.StatusCode != http.StatusNotFound && a.StatusCode/100 != 3 {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
	v.do("DELETE", "/projects/shop", "").status(http.StatusNotFound)
	v.do("BREW", "/", "").status(http.StatusNotFound)
	for name, a := range assets {
		got := v.get("/static/" + assetsVersion + "/" + name).status(http.StatusOK)
		if a.kind == "" || got.Header.Get("Content-Type") != a.kind || !strings.Contains(got.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %v", name, got.Header)
		}
	}
	v.do(http.MethodHead, "/projects/shop", "").status(http.StatusOK)
	if _, err := New(Config{}); err == nil {
		t.Error("a page of nothing")
	}
	var h http.Handler = must2(New(w.config))
	a := httptest.NewRecorder()
	h.ServeHTTP(a, httptest.NewRequest(http.MethodGet, "/", nil)) // as over a Unix socket: no address
	if a.Code != http.StatusSeeOther {
		t.Error(a.Code)
	}
}
