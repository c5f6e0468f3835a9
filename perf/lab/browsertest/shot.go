package browsertest

import (
	"context"
	"os"
	"path/filepath"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// ScreenshotsEnv names the environment variable with the directory where pictures are
// kept; without it none are.
const ScreenshotsEnv = "ISTHMUS_SCREENSHOTS"

// screen is how somebody may look at a page.
type screen struct {
	name          string
	width, height int64
	scheme        string
}

var screens = []screen{
	{"desktop", 1280, 800, "light"}, {"desktop-dark", 1280, 800, "dark"}, {"phone", 390, 844, "light"}, {"phone-dark", 390, 844, "dark"},
}

func (b *Browser) as(v screen) {
	b.t.Helper()
	var more []chromedp.EmulateViewportOption
	if v.width < 600 {
		more = append(more, chromedp.EmulateMobile, chromedp.EmulatePortrait)
	}
	b.Do(chromedp.EmulateViewport(v.width, v.height, more...),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: v.scheme}}}))
}

// call is an action that is a single command.
func call[P, R any](f cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, f, params)
		return err
	})
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

// Shot looks at the page as people do who have a large or a small screen, and keeps
// the pictures if somebody wants them (see [ScreenshotsEnv]). It is an error of the
// test if the page does not fit, or has something too small for a finger.
func (b *Browser) Shot(name string) {
	b.t.Helper()
	dir := os.Getenv(ScreenshotsEnv)
	for _, v := range screens {
		if dir == "" && v.scheme == "dark" {
			continue // it lies on the screen as the light one does
		}
		b.as(v)
		for _, bad := range Eval[[]string](b, fits) {
			b.t.Errorf("%s, %s: %s", name, v.name, bad)
		}
		if dir == "" {
			continue
		}
		picture, err := chromedp.Run(b.Context, chromedp.FullScreenshot(100))
		must(b.t, err)
		must(b.t, os.MkdirAll(dir, 0o755))
		must(b.t, os.WriteFile(filepath.Join(dir, b.pictures+name+"-"+v.name+".png"), picture, 0o644))
	}
	b.as(screens[0])
}
