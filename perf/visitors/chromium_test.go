package visitors

import (
	"context"
	"testing"

	"github.com/chromedp/chromedp"
)

// The page is only whole if all its parts have come, and says so itself.
const (
	pageHTML = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>shop</title>
<link rel="stylesheet" href="/shop.css"><link rel="icon" href="data:,"></head>
<body><h1>The shop</h1><p>Sold by a machine without IPv4.</p>
<img id="picture" src="/picture.svg" alt="a square"><p id="result">waiting</p>
<script src="/shop.js"></script></body></html>
`
	pageCSS = "body { font: 1.5rem sans-serif; margin: 3rem } h1 { color: rgb(0, 100, 0) }\n"
	picture = `<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect width="64" height="64" fill="teal"/></svg>`
	pageJS  = `
const text = "hello, isthmus \u2713", large = new Uint8Array(4 << 20);
for (let i = 0; i < large.length; i++) large[i] = i * 7 + (i >> 9);
function done(s) { document.getElementById("result").textContent = s; }
addEventListener("load", () => {
	const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
	socket.binaryType = "arraybuffer";
	socket.onerror = () => done("the WebSocket failed");
	socket.onopen = () => { socket.send(text); socket.send(large); };
	let got = 0;
	socket.onmessage = m => {
		if (got++ == 0) {
			if (m.data !== text) done("the echo is " + m.data);
			return;
		}
		const echo = new Uint8Array(m.data);
		const same = echo.length == large.length && echo.every((b, i) => b == large[i]);
		socket.onclose = e => done(same && e.wasClean ? "echoed 4 MB" : "the large echo differs");
		socket.close();
	};
});
`
)

func (n *nginx) shop() {
	n.file("index.html", []byte(pageHTML))
	n.file("shop.css", []byte(pageCSS))
	n.file("shop.js", []byte(pageJS))
	n.file("picture.svg", []byte(picture))
}

// shown is what the browser has made of a page.
type shown struct {
	Title, Result, Color, Protocol, Parts string
	Picture                               int
}

const lookAtPage = `({
	title: document.title, result: document.getElementById("result").textContent,
	color: getComputedStyle(document.querySelector("h1")).color,
	protocol: performance.getEntriesByType("navigation")[0].nextHopProtocol,
	parts: [...new Set(performance.getEntriesByType("resource").map(r => r.nextHopProtocol))].join(),
	picture: document.getElementById("picture").naturalWidth,
})`

// visit has the browser load a page, waits until it is as it should be, and gives
// what it is.
func visit[T any](t *testing.T, browser context.Context, url, until, what string) (v T) {
	t.Helper()
	err := chromedp.Do(browser, chromedp.Navigate(url), chromedp.Poll[chromedp.Void](until, chromedp.WithPollingTimeout(patience)))
	if err == nil {
		v, err = chromedp.Run(browser, chromedp.Evaluate[T](what))
	}
	if err != nil {
		t.Errorf("%s: %v", url, err)
	}
	return v
}

// TestChromium: a page with its parts, and a WebSocket, by HTTPS and by HTTP.
func TestChromium(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", servers...)
	id := w.certs.identity(hosts(servers)...)
	n := w.nginx(w.vm, "nginx", id)
	n.shop()
	w.echoServer(w.vm)
	w.app(w.vm, "app", id)
	w.start()
	browser := w.browser(id)
	for _, c := range []struct {
		url, protocol string
		logged        []string
	}{
		{"https://v2.example/", "h2", []string{
			"444 HTTP/2.0 v2.example /index.html 200 proxy=" + visitorAddr + " for=-",
			"444 HTTP/2.0 v2.example /shop.js 200 proxy=" + visitorAddr,
			"444 HTTP/1.1 v2.example /ws 101 proxy=" + visitorAddr,
		}},
		{"https://plain.example/", "h2", []string{"443 HTTP/2.0 plain.example /picture.svg 200 proxy=- for=-"}},
		{"http://plain.example/", "http/1.1", []string{
			"80 HTTP/1.1 plain.example /index.html 200 proxy=- for=" + visitorAddr,
			"80 HTTP/1.1 plain.example /ws 101 proxy=- for=" + visitorAddr,
		}},
		{"http://v1.example/", "http/1.1", []string{"81 HTTP/1.1 v1.example /ws 101 proxy=" + visitorAddr + " for=" + visitorAddr}},
	} {
		t.Run(c.url, func(t *testing.T) {
			got := visit[shown](t, browser, c.url, `document.getElementById("result").textContent != "waiting"`, lookAtPage)
			if want := (shown{"shop", "echoed 4 MB", "rgb(0, 100, 0)", c.protocol, c.protocol, 64}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			for _, l := range c.logged {
				n.logged(l)
			}
			shot(t, browser, "page "+got.Protocol)
		})
	}
	l := w.logged("a WebSocket without TLS", func(l line) bool { return l.Protocol == "upgraded" && l.Host == "plain.example" })
	if l.Up < 4<<20 || l.Down < 4<<20 || l.Status != 101 || l.Result != "served" {
		t.Errorf("%+v", l)
	}
}

// TestChromiumHTTP3: a browser that is told to use HTTP/3 gets it.
func TestChromiumHTTP3(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", servers...)
	id := w.certs.identity(hosts(servers)...)
	w.app(w.vm, "app", id)
	w.start()
	browser := w.browser(id, "origin-to-force-quic-on", "app.example:443", "enable-quic", "")
	got := visit[string](t, browser, "https://app.example/page", `document.getElementById("result")`,
		`document.getElementById("result").textContent + ", " + performance.getEntriesByType("navigation")[0].nextHopProtocol`)
	if got != "app.example by HTTP/3.0, h3" {
		t.Error(got)
	}
	shot(t, browser, "page h3")
}
