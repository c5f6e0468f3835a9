package visitors

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// errorPage is what a visitor sees of one.
type errorPage struct {
	Title, Heading, Text string
	Width, Window        int // of the content and of the window, CSS pixels
}

const lookAtError = `({
	title: document.title, heading: document.querySelector("h1").textContent, text: document.body.innerText,
	width: document.documentElement.scrollWidth, window: innerWidth,
})`

// insides are words of how the proxy works, which are no visitor's matter.
var insides = regexp.MustCompile(`(?i)2001:db8|dial|tcp|refused|route|backend|isthmus|proxy|panic|goroutine|:\d{2,5}\b`)

var requestID = regexp.MustCompile(`[a-z2-7]{10}`)

// TestErrorPages: what visitors see when something is wrong, on a desk and in the
// hand, can be understood and tells nothing of what is inside. By the request's id
// an operator finds it.
func TestErrorPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "[proxy.timeouts]\nconnect = '1s'\nresponse = '1s'\n[proxy.limits]\nconnections_per_host = 1\n",
		route{"down.example", vmAddr, "http = 9"},
		route{"away.example", "2001:db8:64::dead", ""},
		route{"slow.example", vmAddr, "http = 8080"},
		route{"busy.example", vmAddr, "http = 8080"},
		route{"a-site-whose-owner-likes-long-names-very-much-indeed.and-so-does-its-subdomain.example", vmAddr, "http = 9"},
	)
	id := w.certs.identity("down.example")
	a := w.app(w.vm, "app", id)
	w.start()
	// One visitor is as many as busy.example takes.
	c, err := w.connect("http", "busy.example")
	must(t, err)
	k := keptOpen{c: c}
	must(t, k.send("busy.example", "/events"))
	w.until("the only visitor is there", func() bool { return strings.Contains(w.status("--json"), `"connections": 1`) })
	defer func() { must(t, a.continued()) }()

	browser := w.browser(id)
	for _, c := range []struct {
		name, url, heading, result string
		status                     int
	}{
		{"unknown host", "http://unknown.example/", "There is no site here by this name", "unknown_host", 404},
		{"VM down", "http://down.example/", "The site is down", "unreachable", 502},
		{"long name", "http://a-site-whose-owner-likes-long-names-very-much-indeed.and-so-does-its-subdomain.example/", "The site is down", "unreachable", 502},
		{"VM away", "http://away.example/", "The site does not answer", "unreachable", 504},
		{"VM slow", "http://slow.example/never", "The site does not answer", "slow_backend", 504},
		{"too many", "http://busy.example/page", "Too many visitors at the moment", "too_many", 503},
	} {
		for _, device := range []struct {
			name  string
			w, h  int64
			phone bool
		}{{"desktop", 1280, 800, false}, {"phone", 390, 844, true}} {
			t.Run(c.name+"/"+device.name, func(t *testing.T) {
				var options []chromedp.EmulateViewportOption
				if device.phone {
					options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch)
				}
				must(t, chromedp.Do(browser, chromedp.EmulateViewport(device.w, device.h, options...)))
				p := visit[errorPage](t, browser, c.url, `document.querySelector("h1")`, lookAtError)
				host := strings.Split(c.url, "/")[2]
				if p.Heading != c.heading || p.Title != c.heading || !strings.Contains(p.Text, host) {
					t.Errorf("%+v", p)
				}
				if found := insides.FindString(strings.ReplaceAll(p.Text, host, "")); found != "" {
					t.Errorf("%q is no visitor's matter: %s", found, p.Text)
				}
				if p.Width > p.Window {
					t.Errorf("%d pixels wide in a window of %d", p.Width, p.Window)
				}
				_, rest, _ := strings.Cut(p.Text, "Request")
				l := w.logged("the page's id", func(l line) bool { return l.ID != "" && l.ID == requestID.FindString(rest) })
				if l.Status != c.status || l.Result != c.result || l.Host != host || !strings.HasPrefix(l.Client, visitorAddr+":") {
					t.Errorf("%+v", l)
				}
				shot(t, browser, c.name+" "+device.name)
			})
		}
	}
	// Over HTTPS there is no page; what the browser says has to be of use.
	for host, want := range map[string]string{"unknown.example": "net::ERR_SSL_UNRECOGNIZED_NAME_ALERT", "away.example": "net::ERR_SSL_PROTOCOL_ERROR"} {
		if got := refusal(browser, "https://"+host+"/"); got != want {
			t.Errorf("https://%s/: %s, want %s", host, got, want)
		}
	}
}

// refusal is why the browser does not get a page.
func refusal(browser context.Context, url string) string {
	err := chromedp.Do(browser, chromedp.Navigate(url))
	if err == nil {
		return "it got one"
	}
	return regexp.MustCompile(`net::\w+`).FindString(err.Error())
}
