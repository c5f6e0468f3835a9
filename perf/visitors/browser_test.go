package visitors

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"aarch64.com/isthmus/perf/lab/browsertest"
)

// browser is a Chromium of the visitor's. Flags are pairs of a name and a value.
func (w *world) browser(trusted identity, flags ...string) context.Context {
	w.t.Helper()
	all := map[string]string{"ignore-certificate-errors-spki-list": trusted.pin}
	for i := 0; i < len(flags); i += 2 {
		all[flags[i]] = flags[i+1]
	}
	return browsertest.Start(w.t, browsertest.Config{Host: w.visitor, Flags: all}).Context
}

// shot keeps what a browser shows, if somebody wants to look at it.
func shot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv(browsertest.ScreenshotsEnv)
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	must(t, err)
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, strings.NewReplacer(" ", "-", "/", "-").Replace(name)+".png"), picture, 0o644))
}
