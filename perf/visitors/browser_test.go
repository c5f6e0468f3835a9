package visitors

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// screenshotsEnv names the directory where pictures are kept.
const screenshotsEnv = "ISTHMUS_SCREENSHOTS"

// browser is a Chromium of the visitor's. Flags are pairs of a name and a value.
func (w *world) browser(trusted identity, flags ...string) context.Context {
	w.t.Helper()
	labtest.NeedProgram(w.t, "chromium", "chromium")
	path, err := exec.LookPath("chromium")
	must(w.t, err)
	// It keeps its state and its crash reports below the home directory.
	home := w.t.TempDir()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(filepath.Join(home, "profile")),
		chromedp.Env("HOME="+home),
		chromedp.Flag("no-sandbox", true), // it refuses to run as root with one
		chromedp.Flag("ignore-certificate-errors-spki-list", trusted.pin),
		// Nothing but what the test asks for.
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-pings", true),
		chromedp.ModifyCmdFunc(func(c *exec.Cmd) {
			// chromedp starts it, so ip-netns(8) has to put it where it belongs.
			ip, err := exec.LookPath("ip")
			must(w.t, err)
			c.Path, c.Args = ip, append([]string{"ip", "netns", "exec", w.visitor.NetNS(), path}, c.Args[1:]...)
		}),
	)
	for i := 0; i < len(flags); i += 2 {
		options = append(options, chromedp.Flag(flags[i], flags[i+1]))
	}
	ctx, cancel := chromedp.NewExecAllocator(w.timeout(), options...)
	w.t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	w.t.Cleanup(cancel)
	must(w.t, chromedp.Do(ctx))
	return ctx
}

// shot keeps what a browser shows, if somebody wants to look at it.
func shot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv(screenshotsEnv)
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	must(t, err)
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, strings.NewReplacer(" ", "-", "/", "-").Replace(name)+".png"), picture, 0o644))
}
