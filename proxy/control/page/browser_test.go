package page

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"aarch64.com/isthmus/perf/lab/browsertest"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/visits"
)

// browser starts a Chromium, with TLS between it and the page.
func (w *world) browser() *browsertest.Browser {
	w.t.Helper()
	page := must2(New(w.config))
	w.tls = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.away.Load() {
			panic(http.ErrAbortHandler)
		}
		page.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(w.tls.Close)
	b := browsertest.Start(w.t, browsertest.Config{Pictures: "proxies-tab-", Flags: map[string]string{
		"ignore-certificate-errors": "",
		"host-resolver-rules":       "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
	}})
	b.URL = w.tls.URL
	return b
}

// TestChromium drives the page as a customer does.
func TestChromium(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) {
		c.lookAgain = 100 * time.Millisecond
		c.Visits = func(string) visits.Summary {
			www := catalog.HostVisits{Host: "www.shop.example", Count: 1234, Errors: 3, Last: time.Now().Add(-2 * time.Minute).Unix()}
			return visits.Sum("", nil, catalog.Visits{Node: "hv1", Since: time.Now().Add(-30 * time.Hour), Hosts: []catalog.HostVisits{www}})
		}
	})
	for i := range 11 {
		w.node(fmt.Sprintf("hv%d", i+2))
	}
	b := w.browser()
	b.Open("/projects/shop")
	b.Shows("Sign in")
	b.Shot("sign-in")
	b.Fill("token", w.shop)
	b.Press("Sign in")
	b.Shows("No proxies yet")
	b.Shot("empty")

	b.Press("Add your first proxy")
	b.Fill("host", "www.shop.example")
	b.Fill("backends", "2001:db8:65::2")
	b.Press("Add proxy")
	b.Shows("outside the prefixes of project shop")
	if on := browsertest.Eval[string](b, `document.activeElement.id`); on != "backends" {
		t.Errorf("the cursor is in %q", on)
	}
	b.Shot("add-wrong")
	b.Fill("backends", "2001:db8:64::2\n2001:db8:64::3")
	b.Press("Add proxy")
	b.Shows("Waiting for TXT record", "TXT missing: add this", "CNAME missing: add this", "dfw.proxy.infra.example", "There is now: parking.example")
	b.Shot("dns-hints")

	// It goes live before the customer's eyes.
	w.dns.set("www.shop.example", true, true)
	b.Shows("TXT ok", "CNAME ok", "Live on 12 of 12 hypervisors", "All is done")
	b.Shot("live")

	// Somebody else is faster.
	b.Press("Edit")
	b.Shot("edit")
	other := shopProxy("www.shop.example")
	other.HTTP, other.HTTPS, other.Backends = 80, 8443, must2(w.catalog.Proxy(t.Context(), other.Host)).Backends[:1]
	w.proxy(other)
	b.Fill("backends", "2001:db8:64::7")
	b.Press("Save")
	b.Shows("Somebody else has changed this proxy", "Changed meanwhile to: 2001:db8:64::2", "Changed meanwhile, and taken over: 8443")
	if v := browsertest.Eval[string](b, `document.getElementById("backends").value`); v != "2001:db8:64::7" {
		t.Errorf("what was typed is %q", v)
	}
	b.Shot("conflict")
	b.Press("Save")
	b.Shows("Saved.", "2001:db8:64::7", "HTTPS 443 → 8443", "Live on 12 of 12")

	for i := range 30 {
		p := shopProxy(fmt.Sprintf("site-%02d.shop.example", i))
		p.Off = i%11 == 3
		w.proxy(p)
	}
	w.proxy(shopProxy("*.long-label-of-somebody-who-likes-long-labels.customers.shop.example"))
	_, err := w.catalog.PutTrust(t.Context(), root, catalog.Trust{Domain: "shop.example", Project: "shop"}, catalog.Match{})
	must(t, err)
	b.Press("Proxies")
	b.Shows("32 in all", "Live on 12 of 12 hypervisors", "*.long-label")
	b.Shot("list")

	b.Fill("q", "www")
	b.Press("Search")
	b.Press("www.shop.example")
	b.Press("Delete")
	b.Shot("delete")
	b.Press("Delete proxy")
	b.Shows("Deleted.", "31 in all")
	b.Open("/projects/shop/audit")
	b.Shows("Deleted proxy www.shop.example")
	b.Press("Sign out")

	b.Fill("token", w.operator)
	b.Press("Sign in")
	b.Shows("Projects", "The Shop")
	b.Shot("projects")
	b.Press("Hypervisors")
	b.Shows("12 alive", "all up to date")
	b.Shot("hypervisors")
	b.Press("Trusted domains")
	b.Shot("trusted")
	b.Press("Audit")
	b.Shot("audit")
	b.Open("/projects/shop/tokens")
	b.Fill("name", "deploy script")
	b.Press("Make token")
	b.Shows("Copy it now")
	b.Shot("token")
	b.Press("Settings")
	b.Shot("settings")
}

// TestScript is about what the script does and a page without it does not, and
// about the keyboard.
func TestScript(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.proxy(shopProxy("www.shop.example"))
	b := w.browser()
	b.Open("/sign-in")
	b.Fill("token", w.shop+"\r") // Enter sends it
	b.Shows("www.shop.example")

	// The first thing that Tab leads to is the way around the head.
	b.Open("/projects/shop")
	b.Do(chromedp.KeyEvent("\t"))
	if got := browsertest.Eval[string](b, `document.activeElement.innerText`); got != "Skip to the content" {
		t.Errorf("Tab leads to %q", got)
	}
	if top := browsertest.Eval[float64](b, `document.activeElement.getBoundingClientRect().top`); top < 0 {
		t.Errorf("it can't be seen, at %v", top)
	}
	b.Do(chromedp.KeyEvent("\r"))
	if got := browsertest.Eval[string](b, `document.activeElement.id`); got != "main" {
		t.Errorf("Enter leads to %q", got)
	}

	// A part with the cursor in it is left alone, and those inside still change.
	browsertest.Eval[any](b, `document.querySelector("a.host").focus(); document.querySelector("a.host").id = "mark"`)
	p := shopProxy("www.shop.example")
	p.Off = true
	w.proxy(p)
	b.Shows("Switched off", "1 switched off")
	if got := browsertest.Eval[string](b, `document.activeElement.id`); got != "mark" {
		t.Errorf("the cursor has gone to %q", got)
	}

	b.Open("/projects/shop/proxies/www.shop.example")
	challenge := must2(w.catalog.Proxy(t.Context(), "www.shop.example")).Challenge
	browsertest.Eval[any](b, fmt.Sprintf(`navigator.clipboard.writeText = async s => { window.copied = s }, document.querySelector("[aria-label='Copy %s']").click()`, challenge))
	b.Until(fmt.Sprintf(`window.copied == %q && document.body.innerText.includes("Copied")`, challenge))

	// It says so when it can't know better, and goes on by itself.
	w.away.Store(true)
	b.Shows("There is no connection right now")
	w.away.Store(false)
	b.Until(`!document.body.innerText.includes("There is no connection")`)

	must(t, w.catalog.RevokeToken(t.Context(), root, "", strings.Split(w.shop, "_")[1]))
	b.Shows("Your session has ended.")
	b.Press("Sign in again")
	b.Shows("Token")
	b.Fill("token", w.reader+"\r")
	b.Shows("www.shop.example", "Switched off", "Where it leads") // where they were before
	if strings.Contains(b.Words(), "Check now") {
		t.Error("who may only read is told to check")
	}
}
