// Package browsertest has tests drive Debian's Chromium as somebody at a keyboard
// would, and keeps pictures of what it shows.
package browsertest

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// Program is what is driven, and the Debian package that has it.
const Program = "chromium"

const (
	// patience is how long something may take to be seen.
	patience = 30 * time.Second
	// lifetime is how long a browser runs at most.
	lifetime = 5 * time.Minute
)

// Config of a browser. Zero values are usable.
type Config struct {
	Host     *lab.Host         // where it runs; nil: in the test's own network
	Flags    map[string]string // of Chromium, besides those that keep it quiet; "" stands for true
	Pictures string            // what names of pictures begin with
}

// Browser is a tab of a Chromium.
type Browser struct {
	Context context.Context // chromedp's
	URL     string          // of the site that paths are on

	t        testing.TB
	pictures string
	failing  bool

	mu       sync.Mutex
	problems []string // of the console: scripts that failed, what a policy forbade
}

// Start starts a Chromium, which ends with the test, or skips the test where there is
// none. What scripts complain about fails the test.
func Start(t testing.TB, c Config) *Browser {
	t.Helper()
	labtest.NeedProgram(t, Program, Program)
	path, err := exec.LookPath(Program)
	must(t, err)
	home := t.TempDir() // for its state and crash reports
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(filepath.Join(home, "profile")),
		chromedp.Env("HOME="+home),
		chromedp.Flag("no-sandbox", true), // it refuses to run as root with one
		// Nothing but what the test asks for.
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-pings", true),
	)
	for _, name := range slices.Sorted(maps.Keys(c.Flags)) {
		if value := c.Flags[name]; value != "" {
			options = append(options, chromedp.Flag(name, value))
		} else {
			options = append(options, chromedp.Flag(name, true))
		}
	}
	if c.Host != nil {
		// chromedp starts it, so ip-netns(8) has to put it where it belongs.
		ip, err := exec.LookPath("ip")
		must(t, err)
		options = append(options, chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			cmd.Path, cmd.Args = ip, append([]string{"ip", "netns", "exec", c.Host.NetNS(), path}, cmd.Args[1:]...)
		}))
	}
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	return newTab(t, ctx, c.Pictures)
}

// newTab is a tab, or the browser's first one.
func newTab(t testing.TB, ctx context.Context, pictures string) *Browser {
	t.Helper()
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &Browser{Context: ctx, t: t, pictures: pictures}
	must(t, chromedp.Do(ctx))
	must(t, chromedp.Listen(ctx, b.hear))
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Error("console: " + p)
		}
	})
	return b
}

// Tab opens another tab, in a window of its own, with the same cookies.
func (b *Browser) Tab() *Browser {
	b.t.Helper()
	return newTab(b.t, b.Context, b.pictures)
}

func (b *Browser) hear(ev any) {
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

// Do runs actions.
func (b *Browser) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.Context, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.fail("%v", err)
	}
}

// fail ends the test, with what the page shows.
func (b *Browser) fail(format string, args ...any) {
	b.t.Helper()
	why := fmt.Sprintf(format, args...)
	if b.failing {
		b.t.Fatal(why) // even a picture of it fails
	}
	b.failing = true
	b.t.Error(why)
	b.Shot("failed")
	b.t.Fatal(b.Words())
}

// Open loads a path of the site.
func (b *Browser) Open(path string) { b.t.Helper(); b.Do(chromedp.Navigate(b.URL + path)) }

// Press clicks what has a text and waits for the page behind it.
func (b *Browser) Press(text string) {
	b.t.Helper()
	Eval[bool](b, `window.old = true`)
	b.Do(chromedp.Click(chromedp.JSPath(fmt.Sprintf(`[...document.querySelectorAll("a, button")].find(e => e.innerText.trim() == %q)`, text))))
	b.Until(`!window.old && document.readyState == "complete"`)
}

// Fill types over what stands in the field with an ID.
func (b *Browser) Fill(id, text string) {
	b.t.Helper()
	Eval[any](b, fmt.Sprintf(`document.getElementById(%q).select()`, id))
	b.Do(chromedp.KeyEvent(text))
}

// Eval is what an expression of JavaScript gives.
func Eval[T any](b *Browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.Context, chromedp.Evaluate[T](expression))
	must(b.t, err)
	return v
}

// Until waits until an expression is true. While one page goes and another comes
// there is none to ask.
func (b *Browser) Until(expression string) {
	b.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ok, err := chromedp.Run(b.Context, chromedp.Evaluate[bool](expression))
		if ok && err == nil {
			return
		}
		if time.Now().After(end) {
			b.fail("%s: %v", expression, err)
		}
	}
}

// Words are the text on the page.
func (b *Browser) Words() string { b.t.Helper(); return Eval[string](b, `document.body.innerText`) }

// Shows waits until the page says something.
func (b *Browser) Shows(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.Until(fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
