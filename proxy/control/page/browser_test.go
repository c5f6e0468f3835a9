package page

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/visits"
)

// screenshotsEnv names the directory where pictures are kept.
const screenshotsEnv = "ISTHMUS_SCREENSHOTS"

// browser is a Chromium that drives the page.
type browser struct {
	t   *testing.T
	ctx context.Context
	url string

	mu       sync.Mutex
	problems []string // of the console: scripts that failed, what the policy forbade
}

// browser starts a Chromium, with TLS between it and the page.
func (w *world) browser() *browser {
	w.t.Helper()
	labtest.NeedProgram(w.t, "chromium", "chromium")
	path, err := exec.LookPath("chromium")
	must(w.t, err)
	page := must2(New(w.config))
	w.tls = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.away.Load() {
			panic(http.ErrAbortHandler)
		}
		page.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(w.tls.Close)
	home := w.t.TempDir() // for its state and crash reports
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	w.t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(filepath.Join(home, "profile")),
		chromedp.Env("HOME="+home),
		chromedp.Flag("no-sandbox", true), // it refuses to run as root with one
		chromedp.Flag("ignore-certificate-errors", true),
		// Nothing but what the test asks for.
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-pings", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
	)...)
	w.t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	w.t.Cleanup(cancel)
	b := &browser{t: w.t, ctx: ctx, url: w.tls.URL}
	must(w.t, chromedp.Do(ctx))
	must(w.t, chromedp.Listen(ctx, b.hear))
	w.t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			w.t.Error("console: " + p)
		}
	})
	return b
}

func (b *browser) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *log.EventEntryAdded:
		if ev.Entry.Level == log.EntryLevelError && ev.Entry.Source != log.EntrySourceNetwork { // refused forms are answers, too
			b.problems = append(b.problems, ev.Entry.Text)
		}
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, ev.ExceptionDetails.Text)
	}
}

// call is an action that is a single command.
func call[P, R any](f cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, f, params)
		return err
	})
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.shot("failed")
		b.t.Fatalf("%v\n%s", err, b.words())
	}
}

func (b *browser) open(path string) { b.t.Helper(); b.do(chromedp.Navigate(b.url + path)) }

// press clicks what has a text and waits for the page behind it.
func (b *browser) press(text string) {
	b.t.Helper()
	eval[bool](b, `window.old = true`)
	b.do(chromedp.Click(chromedp.JSPath(fmt.Sprintf(`[...document.querySelectorAll("a, button")].find(e => e.innerText.trim() == %q)`, text))))
	b.until(`!window.old && document.readyState == "complete"`)
}

// fill types over what stands in a field.
func (b *browser) fill(id, text string) {
	b.t.Helper()
	eval[any](b, fmt.Sprintf(`document.getElementById(%q).select()`, id))
	b.do(chromedp.KeyEvent(text))
}

func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	must(b.t, err)
	return v
}

// until waits until an expression is true. While one page goes and another comes
// there is none to ask.
func (b *browser) until(expression string) {
	b.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		if ok && err == nil {
			return
		}
		if time.Now().After(end) {
			b.shot("failed")
			b.t.Fatalf("%s: %v\n%s", expression, err, b.words())
		}
	}
}

func (b *browser) words() string { return eval[string](b, `document.body.innerText`) }

// shows waits until the page says something.
func (b *browser) shows(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.until(fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
	}
}

// screen is how somebody may look at the page.
type screen struct {
	name          string
	width, height int64
	scheme        string
}

var screens = []screen{
	{"desktop", 1280, 800, "light"}, {"desktop-dark", 1280, 800, "dark"}, {"phone", 390, 844, "light"}, {"phone-dark", 390, 844, "dark"},
}

func (b *browser) as(v screen) {
	b.t.Helper()
	var more []chromedp.EmulateViewportOption
	if v.width < 600 {
		more = append(more, chromedp.EmulateMobile, chromedp.EmulatePortrait)
	}
	b.do(chromedp.EmulateViewport(v.width, v.height, more...),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: v.scheme}}}))
}

// fits is what is wrong with how the page lies on the screen: [] if nothing is.
const fits = `(() => {
	const bad = [];
	const wide = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth > wide) bad.push("wider than the screen: " + document.documentElement.scrollWidth);
	for (const e of document.querySelectorAll("button, .button, input:not([type=hidden]), textarea, select, nav a, summary")) {
		if (!e.checkVisibility()) continue;
		const box = (e.matches("[type=radio], [type=checkbox]") ? e.closest(".choice, .box") : e).getBoundingClientRect();
		if (box.height < 43.5 || box.width < 43.5) bad.push("too small to touch: " + e.outerHTML.slice(0, 80) + " " + box.width + "x" + box.height);
		if (box.right > wide + 1) bad.push("beyond the edge: " + e.outerHTML.slice(0, 80));
	}
	return bad;
})()`

// shot looks at the page as people do who have a large or a small screen, and keeps
// the pictures if somebody wants them.
func (b *browser) shot(name string) {
	b.t.Helper()
	dir := os.Getenv(screenshotsEnv)
	for _, v := range screens {
		if dir == "" && v.scheme == "dark" {
			continue // it lies on the screen as the light one does
		}
		b.as(v)
		for _, bad := range eval[[]string](b, fits) {
			b.t.Errorf("%s, %s: %s", name, v.name, bad)
		}
		if dir == "" {
			continue
		}
		picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
		must(b.t, err)
		must(b.t, os.MkdirAll(dir, 0o755))
		must(b.t, os.WriteFile(filepath.Join(dir, "proxies-tab-"+name+"-"+v.name+".png"), picture, 0o644))
	}
	b.as(screens[0])
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
	b.open("/projects/shop")
	b.shows("Sign in")
	b.shot("sign-in")
	b.fill("token", w.shop)
	b.press("Sign in")
	b.shows("No proxies yet")
	b.shot("empty")

	b.press("Add your first proxy")
	b.fill("host", "www.shop.example")
	b.fill("backends", "2001:db8:65::2")
	b.press("Add proxy")
	b.shows("outside the prefixes of project shop")
	if on := eval[string](b, `document.activeElement.id`); on != "backends" {
		t.Errorf("the cursor is in %q", on)
	}
	b.shot("add-wrong")
	b.fill("backends", "2001:db8:64::2\n2001:db8:64::3")
	b.press("Add proxy")
	b.shows("Waiting for TXT record", "TXT missing: add this", "CNAME missing: add this", "dfw.proxy.infra.example", "There is now: parking.example")
	b.shot("dns-hints")

	// It goes live before the customer's eyes.
	w.dns.set("www.shop.example", true, true)
	b.shows("TXT ok", "CNAME ok", "Live on 12 of 12 hypervisors", "All is done")
	b.shot("live")

	// Somebody else is faster.
	b.press("Edit")
	b.shot("edit")
	other := shopProxy("www.shop.example")
	other.HTTP, other.HTTPS, other.Backends = 80, 8443, must2(w.catalog.Proxy(t.Context(), other.Host)).Backends[:1]
	w.proxy(other)
	b.fill("backends", "2001:db8:64::7")
	b.press("Save")
	b.shows("Somebody else has changed this proxy", "Changed meanwhile to: 2001:db8:64::2", "Changed meanwhile, and taken over: 8443")
	if v := eval[string](b, `document.getElementById("backends").value`); v != "2001:db8:64::7" {
		t.Errorf("what was typed is %q", v)
	}
	b.shot("conflict")
	b.press("Save")
	b.shows("Saved.", "2001:db8:64::7", "HTTPS 443 → 8443", "Live on 12 of 12")

	for i := range 30 {
		p := shopProxy(fmt.Sprintf("site-%02d.shop.example", i))
		p.Off = i%11 == 3
		w.proxy(p)
	}
	w.proxy(shopProxy("*.long-label-of-somebody-who-likes-long-labels.customers.shop.example"))
	_, err := w.catalog.PutTrust(t.Context(), root, catalog.Trust{Domain: "shop.example", Project: "shop"}, catalog.Match{})
	must(t, err)
	b.press("Proxies")
	b.shows("32 in all", "Live on 12 of 12 hypervisors", "*.long-label")
	b.shot("list")

	b.fill("q", "www")
	b.press("Search")
	b.press("www.shop.example")
	b.press("Delete")
	b.shot("delete")
	b.press("Delete proxy")
	b.shows("Deleted.", "31 in all")
	b.open("/projects/shop/audit")
	b.shows("Deleted proxy www.shop.example")
	b.press("Sign out")

	b.fill("token", w.operator)
	b.press("Sign in")
	b.shows("Projects", "The Shop")
	b.shot("projects")
	b.press("Hypervisors")
	b.shows("12 alive", "all up to date")
	b.shot("hypervisors")
	b.press("Trusted domains")
	b.shot("trusted")
	b.press("Audit")
	b.shot("audit")
	b.open("/projects/shop/tokens")
	b.fill("name", "deploy script")
	b.press("Make token")
	b.shows("Copy it now")
	b.shot("token")
	b.press("Settings")
	b.shot("settings")
}

// TestScript is about what the script does and a page without it does not, and
// about the keyboard.
func TestScript(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.proxy(shopProxy("www.shop.example"))
	b := w.browser()
	b.open("/sign-in")
	b.fill("token", w.shop+"\r") // Enter sends it
	b.shows("www.shop.example")

	// The first thing that Tab leads to is the way around the head.
	b.open("/projects/shop")
	b.do(chromedp.KeyEvent("\t"))
	if got := eval[string](b, `document.activeElement.innerText`); got != "Skip to the content" {
		t.Errorf("Tab leads to %q", got)
	}
	if top := eval[float64](b, `document.activeElement.getBoundingClientRect().top`); top < 0 {
		t.Errorf("it can't be seen, at %v", top)
	}
	b.do(chromedp.KeyEvent("\r"))
	if got := eval[string](b, `document.activeElement.id`); got != "main" {
		t.Errorf("Enter leads to %q", got)
	}

	// A part with the cursor in it is left alone, and those inside still change.
	eval[any](b, `document.querySelector("a.host").focus(); document.querySelector("a.host").id = "mark"`)
	p := shopProxy("www.shop.example")
	p.Off = true
	w.proxy(p)
	b.shows("Switched off", "1 switched off")
	if got := eval[string](b, `document.activeElement.id`); got != "mark" {
		t.Errorf("the cursor has gone to %q", got)
	}

	b.open("/projects/shop/proxies/www.shop.example")
	challenge := must2(w.catalog.Proxy(t.Context(), "www.shop.example")).Challenge
	eval[any](b, fmt.Sprintf(`navigator.clipboard.writeText = async s => { window.copied = s }, document.querySelector("[aria-label='Copy %s']").click()`, challenge))
	b.until(fmt.Sprintf(`window.copied == %q && document.body.innerText.includes("Copied")`, challenge))

	// It says so when it can't know better, and goes on by itself.
	w.away.Store(true)
	b.shows("There is no connection right now")
	w.away.Store(false)
	b.until(`!document.body.innerText.includes("There is no connection")`)

	must(t, w.catalog.RevokeToken(t.Context(), root, "", strings.Split(w.shop, "_")[1]))
	b.shows("Your session has ended.")
	b.press("Sign in again")
	b.shows("Token")
	b.fill("token", w.reader+"\r")
	b.shows("www.shop.example", "Switched off", "Where it leads") // where they were before
	if strings.Contains(b.words(), "Check now") {
		t.Error("who may only read is told to check")
	}
}
