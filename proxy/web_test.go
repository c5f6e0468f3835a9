package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"aarch64.com/isthmus/proxy/routes"
)

// website is a VM's HTTP server on ::1.
func website(t *testing.T, h http.HandlerFunc) uint16 {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// says is a site that says its name and the host and path it was asked for.
func says(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s%s %s", name, r.Method, r.Host, r.RequestURI, body)
	}
}

func webRoute(host string, port uint16) routes.Route {
	return routes.Route{Host: host, Project: "p", Backends: []netip.Addr{loopback6}, HTTP: port}
}

func newWebWorld(t *testing.T, change func(*Config), list ...routes.Route) *world {
	t.Helper()
	return newWorld(t, func(c *Config) {
		c.HTTP, c.HTTPS = c.HTTPS, nil
		if change != nil {
			change(c)
		}
	}, list...)
}

// client is an HTTP client for which all hosts are the proxy.
func (w *world) client(http2 bool) *http.Client {
	var p http.Protocols
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	tr := &http.Transport{
		Protocols: &p, ExpectContinueTimeout: time.Minute,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", w.at.String())
		},
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (w *world) get(c *http.Client, url string) (int, string) {
	w.t.Helper()
	r, err := c.Get(url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// raw sends bytes and reads until the proxy closes.
func (w *world) raw(in string) string {
	w.t.Helper()
	c, err := net.Dial("tcp", w.at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, in); err != nil {
		w.t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		w.t.Fatalf("%v after %q", err, b)
	}
	return string(b)
}

// Every bad input gets exactly this, and then the connection ends. The table of
// all of them is package http1's.
func TestWebFaults(t *testing.T) {
	var asked []string
	port := website(t, func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.RequestURI) })
	w := newWebWorld(t, func(c *Config) { c.Limits.RequestHeader = 8 << 10 }, webRoute("a.example", port))
	const host = "Host: a.example\r\n"
	for _, c := range []struct {
		name, in string
		status   int
		result   Result
	}{
		{"both lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n" + host + "\r\n", 400, BadRequest},
		{"differing lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, BadRequest},
		{"xchunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, BadRequest},
		{"obs-fold", "GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", 400, BadRequest},
		{"space before the colon", "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", 400, BadRequest},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400, BadRequest},
		{"two Hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", 400, BadRequest},
		{"user@host", "GET / HTTP/1.1\r\nHost: a@a.example\r\n\r\n", 400, BadRequest},
		{"absolute-form", "GET http://b.example/ HTTP/1.1\r\n" + host + "\r\n", 400, BadRequest},
		{"https", "GET https://a.example/ HTTP/1.1\r\n" + host + "\r\n", 421, Misdirected},
		{"CONNECT", "CONNECT a.example:22 HTTP/1.1\r\n" + host + "\r\n", 400, BadRequest},
		{"NUL", "GET / HTTP/1.1\r\n" + host + "X: \x00\r\n\r\n", 400, BadRequest},
		{"bare CR", "GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", 400, BadRequest},
		{"bare LF", "GET / HTTP/1.1\n" + host + "\n", 400, BadRequest},
		{"HTTP/0.9", "GET /\r\n", 400, BadRequest},
		{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 400, BadRequest},
		{"HTTP/3.0", "GET / HTTP/3.0\r\n" + host + "\r\n", 505, BadRequest},
		{"large head", "GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 1<<20), 431, BadRequest},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and more", 400, BadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := w.raw(c.in)
			r := w.expect(c.result, "")
			p := pages[c.status]
			body := fmt.Sprintf("%s\n%s\n\nError: %d\nRequest: %s\n", p.Title, p.Text, c.status, r.ID)
			want := fmt.Sprintf("HTTP/1.1 %d %s\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: %d\r\n"+
				"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: %s\r\n\r\n%s",
				c.status, http.StatusText(c.status), len(body), r.ID, body)
			if got = dateless(got); got != want {
				t.Errorf("answer %q, want %q", got, want)
			}
		})
	}
	if asked != nil {
		t.Errorf("the VM was asked for %q", asked)
	}
}

func dateless(s string) string {
	before, rest, ok := strings.Cut(s, "Date: ")
	if !ok {
		return s
	}
	_, after, _ := strings.Cut(rest, "\r\n")
	return before + after
}

// Bad chunks come when the VM has the head already.
func TestWebBadChunks(t *testing.T) {
	w := newWebWorld(t, nil, webRoute("a.example", website(t, says("vm"))))
	for _, chunk := range []string{"3\nabc\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n", "x\r\n", "3;a\nabc\r\n0\r\n\r\n", "0\r\nHost: b\r\n\r\n"} {
		got := w.raw("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
		if !strings.HasPrefix(got, "HTTP/1.1 400 Bad Request\r\n") || strings.Count(got, "HTTP/1.1") != 1 {
			t.Errorf("%q: %q", chunk, got)
		}
		w.expect(BadRequest, "a.example")
	}
}

// Answers come in the order of the requests, that to a bad one included, and the
// bad one does not end those before it.
func TestWebPipelined(t *testing.T) {
	slow := website(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(100 * time.Millisecond):
			fmt.Fprint(w, "slow")
		case <-r.Context().Done():
		}
	})
	w := newWebWorld(t, nil, webRoute("a.example", slow), webRoute("b.example", website(t, says("b"))))
	got := w.raw("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n" +
		"POST /p HTTP/1.1\r\nHost: B.example:80\r\nContent-Length: 4\r\n\r\nbody\r\n" +
		"POST /q HTTP/1.1\r\nHost: b.example.\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n0\r\n\r\n" +
		"GET / HTTP/1.1\r\nHost: c.example\r\n\r\n" +
		"GET / HTTP/1.1\r\n\r\n" +
		"GET /never HTTP/1.1\r\nHost: b.example\r\n\r\n")
	r := bufio.NewReader(strings.NewReader(got))
	for i, want := range []struct {
		status int
		body   string
	}{
		{200, "slow"}, {200, "b POST B.example:80/p body"}, {200, "b POST b.example./q more"}, {404, pages[404].Title}, {400, pages[400].Title},
	} {
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("answer %d: %v in %q", i, err, got)
		}
		b, _ := io.ReadAll(a.Body)
		if a.StatusCode != want.status || !strings.HasPrefix(string(b), want.body) {
			t.Errorf("answer %d: %d %q, want %d %q", i, a.StatusCode, b, want.status, want.body)
		}
	}
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("and then %q", rest)
	}
}

// What a VM sees of a request, and what it does not.
func TestWebHeaders(t *testing.T) {
	var seen *http.Request
	port := website(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r
		w.Header()["Content-Type"] = nil
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("X-Own", "yes")
		fmt.Fprint(w, "<html>")
	})
	w := newWebWorld(t, nil, webRoute("a.example", port))
	c, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /a%2fb/../c?q;%zz=%7e HTTP/1.1\r\nHost: a.example:80\r\nUser-Agent: me\r\n"+
		"X-Forwarded-For: 1.1.1.1\r\nX_Forwarded_For: 1.1.1.1\r\nX-Forwarded-Port: 1\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n"+
		"Content_Length: 5\r\nProxy: evil\r\nVia: 1.1 other\r\n"+
		"Connection: keep-alive, X-Mine, Upgrade, HTTP2-Settings\r\nX-Mine: 1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nTE: gzip\r\n"+
		"Keep-Alive: 1\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nCookie: a=b\r\n\r\n")
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, a.Body)
	if seen.RequestURI != "/a%2fb/../c?q;%zz=%7e" || seen.Host != "a.example:80" {
		t.Errorf("asked for %q of %q", seen.RequestURI, seen.Host)
	}
	via := seen.Header.Values("Via")
	if len(via) != 2 || via[0] != "1.1 other" || !strings.HasPrefix(via[1], "1.1 isthmus-") {
		t.Errorf("Via %q", via)
	}
	seen.Header.Del("Via")
	want := http.Header{
		"User-Agent": {"me"}, "Cookie": {"a=b"}, "X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"},
		"X-Forwarded-Host": {"a.example:80"}, "Forwarded": {`for=127.0.0.1;host="a.example:80";proto=http`},
	}
	if fmt.Sprint(seen.Header) != fmt.Sprint(want) {
		t.Errorf("fields\n%v, want\n%v", seen.Header, want)
	}
	if a.Header["Content-Type"] != nil || a.Header["Keep-Alive"] != nil || a.Header.Get("X-Own") != "yes" || !strings.HasPrefix(a.Header.Get("Via"), "1.1 isthmus-") {
		t.Errorf("answer's fields %v", a.Header)
	}
	r := w.expect(Served, "a.example")
	if r.Backend != netip.AddrPortFrom(loopback6, port) || r.Down != 6 || r.Status != 200 || r.Method != "GET" || r.Path != "/a/b/../c" || r.First == 0 || r.Connect == 0 {
		t.Errorf("record %+v", r)
	}
}

// The same over HTTP/1 and HTTP/2.
func TestWebRequests(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			protocol := HTTP1
			if version == "HTTP/2.0" {
				protocol = HTTP2
			}
			a := website(t, says("a"))
			w := newWebWorld(t, nil, webRoute("a.example", a), webRoute("*.b.example", website(t, says("b"))), routes.Route{
				Host: "tls.example", Backends: []netip.Addr{loopback6}, HTTPS: 443,
			})
			c := w.client(protocol == HTTP2)
			get := func(url string, status int, want string) Record {
				t.Helper()
				if s, b := w.get(c, url); s != status || !strings.HasPrefix(b, want) {
					t.Errorf("%s: %d %q, want %d %q", url, s, b, status, want)
				}
				r := w.record()
				if r.Protocol != protocol {
					t.Errorf("protocol %v", r.Protocol)
				}
				return r
			}
			get("http://a.example/1?x=%20", 200, "a GET a.example/1?x=%20 ")
			if r := get("http://a.example/2", 200, "a GET a.example/2 "); r.Connect != 0 {
				t.Error("a second connection to the VM for the same client connection")
			}
			get("http://x.b.example/.well-known/acme-challenge/token", 200, "b GET x.b.example/.well-known/acme-challenge/token ")
			if r := get("http://x.y.b.example/", 404, pages[404].Title); r.Result != UnknownHost || r.ID == "" {
				t.Errorf("record %+v", r)
			}
			get("http://tls.example/", 404, pages[404].Title)
			get("http://192.0.2.1/", 404, pages[404].Title)

			// A change counts for the next request, also on the same connection.
			w.routes(webRoute("a.example", website(t, says("new"))))
			get("http://a.example/3", 200, "new GET a.example/3 ")
			get("http://x.b.example/", 404, pages[404].Title)

			r, err := c.Post("http://a.example/p", "text/plain", io.MultiReader(strings.NewReader("of unknown "), strings.NewReader("length")))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if string(b) != "new POST a.example/p of unknown length" {
				t.Errorf("answer %q", b)
			}
			if r := w.expect(Served, "a.example"); r.Up != 17 || r.Down != uint64(len(b)) {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// A route change breaks nothing that exists.
func TestWebRouteChange(t *testing.T) {
	more := make(chan string)
	port := website(t, func(w http.ResponseWriter, _ *http.Request) {
		for s := range more {
			fmt.Fprint(w, s)
			_ = http.NewResponseController(w).Flush()
		}
	})
	w := newWebWorld(t, nil, webRoute("a.example", port))
	go func() { more <- "before " }()
	r, err := w.client(false).Get("http://a.example/")
	if err != nil {
		t.Fatal(err)
	}
	w.routes()
	if s, _ := w.get(w.client(false), "http://a.example/"); s != 404 {
		t.Errorf("status %d after the route is gone", s)
	}
	more <- "and after"
	close(more)
	if b, err := io.ReadAll(r.Body); err != nil || string(b) != "before and after" {
		t.Errorf("%q, %v", b, err)
	}
}

// Bytes go on as they come, both ways at once.
func TestWebStreaming(t *testing.T) {
	port := website(t, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		w.Header().Set("Content-Type", "text/event-stream")
		_ = c.Flush()
		for b := make([]byte, 100); ; {
			n, err := r.Body.Read(b)
			fmt.Fprintf(w, "data: %s\n\n", b[:n])
			_ = c.Flush()
			if err != nil {
				return
			}
		}
	})
	w := newWebWorld(t, nil, webRoute("a.example", port))
	for _, http2 := range []bool{false, true} {
		body, write := io.Pipe()
		r, err := w.client(http2).Post("http://a.example/", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		// Nothing ends until each piece has come back.
		lines := bufio.NewReader(r.Body)
		for i := range 3 {
			fmt.Fprintf(write, "%d", i)
			if line, err := lines.ReadString('\n'); line != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("%q, %v", line, err)
			}
			_, _ = lines.ReadString('\n')
		}
		write.Close()
		if _, err := io.Copy(io.Discard, lines); err != nil {
			t.Error(err)
		}
		r.Body.Close()
		w.expect(Served, "a.example")
	}
}

func TestWebContinueAndTrailers(t *testing.T) {
	port := website(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Trailer", "X-Sum")
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", b, r.Trailer.Get("X-Own"), r.Trailer.Get("X-Forwarded-For"))
		w.Header().Set("X-Sum", "6")
	})
	w := newWebWorld(t, nil, webRoute("a.example", port))
	for _, http2 := range []bool{false, true} {
		var informed []int
		var link string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			informed, link = append(informed, code), link+h.Get("Link")
			return nil
		}})
		r, _ := http.NewRequestWithContext(ctx, "POST", "http://a.example/", io.MultiReader(strings.NewReader("body")))
		r.Header.Set("Expect", "100-continue")
		r.Trailer = http.Header{"X-Own": {"trailer"}, "X-Forwarded-For": {"1.1.1.1"}}
		a, err := w.client(http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(a.Body)
		a.Body.Close()
		if string(b) != "body trailer " || a.Trailer.Get("X-Sum") != "6" || !slices.Contains(informed, 103) || link != "</a.css>; rel=preload" {
			t.Errorf("HTTP/2 %v: %q, trailers %v, informed %v %q", http2, b, a.Trailer, informed, link)
		}
		w.expect(Served, "a.example")
	}
	// A VM that does not want the body is not sent it.
	c, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /no HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	line, _ := bufio.NewReader(c).ReadString('\n')
	if line != "HTTP/1.1 413 Request Entity Too Large\r\n" {
		t.Errorf("answer %q", line)
	}
}

func TestWebSocket(t *testing.T) {
	port := website(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if c.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	})
	w := newWebWorld(t, nil, webRoute("a.example", port))
	c, _, err := websocket.Dial(t.Context(), "ws://a.example/chat", &websocket.DialOptions{HTTPClient: w.client(false)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for _, n := range []int{0, 1, 1000, 100_000} {
		want := bytes.Repeat([]byte("a"), n)
		if err := c.Write(t.Context(), websocket.MessageBinary, want); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	r := w.expect(Served, "a.example")
	if r.Protocol != Upgraded || r.Status != 101 || r.Up < 101_001 || r.Down < 101_001 {
		t.Errorf("record %+v", r)
	}
}

// Bytes that come before the VM's 101 are its protocol's if it agrees, and a
// request if it does not.
func TestWebEarlyUpgrade(t *testing.T) {
	port := website(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/yes" {
			fmt.Fprintf(w, "%s %q", r.URL.Path, r.Header["Upgrade"])
			return
		}
		time.Sleep(50 * time.Millisecond)
		c, b, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(b, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		b.Flush()
		_, _ = io.Copy(c, b) // until the other side has closed its half
	})
	w := newWebWorld(t, nil, webRoute("a.example", port))
	const head = " HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: h2c, echo\r\n\r\n"
	c, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /yes"+head+"GET / no HTTP\n")
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 101 ") {
		t.Fatalf("%q, %v", line, err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	b, _ := io.ReadAll(r)
	if !strings.HasSuffix(string(b), "\r\n\r\nGET / no HTTP\n") {
		t.Errorf("answer %q", b)
	}
	got := w.raw("GET /no" + head + "GET /next HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
	if !strings.Contains(got, `/no ["echo"]`) || !strings.Contains(got, "/next []") {
		t.Errorf("answer %q", got)
	}
}

// What a visitor gets when a site does not work.
func TestWebTroubles(t *testing.T) {
	silent := website(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	broken := website(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	good := website(t, says("good"))
	elsewhere, forbidden := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::bad")
	w := newWebWorld(t, func(c *Config) {
		c.Timeouts = Timeouts{Connect: 50 * time.Millisecond, Response: 50 * time.Millisecond}
		c.Limits.ConnectionsPerHost = 1
		c.Reach = func(a netip.Addr) error {
			if a == forbidden {
				return fmt.Errorf("not a VM")
			}
			return nil
		}
		c.connect = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			if to.Addr() == elsewhere {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return connectTCP(ctx, to)
		}
	},
		webRoute("silent.example", silent), webRoute("broken.example", broken),
		webRoute("down.example", freePort(t, "::1")),
		routes.Route{Host: "forbidden.example", HTTP: 80, Backends: []netip.Addr{forbidden}},
		routes.Route{Host: "away.example", HTTP: 80, Backends: []netip.Addr{elsewhere}},
		routes.Route{Host: "second.example", HTTP: good, Backends: []netip.Addr{forbidden, elsewhere, loopback6}},
	)
	for _, c := range []struct {
		host   string
		status int
		result Result
	}{
		{"silent.example", 504, SlowBackend}, {"broken.example", 502, BrokenByVM}, {"down.example", 502, Unreachable},
		{"forbidden.example", 502, Forbidden}, {"away.example", 504, Unreachable}, {"second.example", 200, Served}, {"unknown.example", 404, UnknownHost},
	} {
		for _, http2 := range []bool{false, true} {
			r, _ := http.NewRequest("GET", "http://"+c.host+"/", nil)
			r.Header.Set("Accept", "text/html,*/*")
			a, err := w.client(http2).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(a.Body)
			a.Body.Close()
			record := w.expect(c.result, c.host)
			if a.StatusCode != c.status || record.Status != c.status {
				t.Errorf("%s: status %d, record %+v; want %d", c.host, a.StatusCode, record, c.status)
			}
			if c.status == 200 {
				continue
			}
			page := string(b)
			if a.Header.Get("X-Request-Id") != record.ID || !strings.Contains(page, record.ID) || !strings.Contains(page, pages[c.status].Title) ||
				strings.Contains(page, "2001:db8") || strings.Contains(page, "::1") || a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %v %s", c.host, a.Header, page)
			}
		}
	}
	// HEAD has the fields and no body.
	r, err := w.client(false).Head("http://down.example/")
	if err != nil || r.StatusCode != 502 || r.ContentLength <= 0 {
		t.Errorf("HEAD: %+v, %v", r, err)
	}
}

func TestWebLoop(t *testing.T) {
	var w *world
	port := website(t, func(rw http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.RequestURI, out.URL = "", &url.URL{Scheme: "http", Host: w.at.String()}
		a, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			panic(err)
		}
		defer a.Body.Close()
		rw.WriteHeader(a.StatusCode)
		_, _ = io.Copy(rw, a.Body)
	})
	w = newWebWorld(t, nil, webRoute("a.example", port))
	if s, b := w.get(w.client(false), "http://a.example/"); s != 508 || !strings.Contains(b, pages[508].Title) {
		t.Errorf("%d %s", s, b)
	}
	w.expect(Loop, "a.example")
	got := w.raw("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nVia: " + strings.Repeat("1.1 x, ", maxHops) + "1.1 x\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 508 ") {
		t.Errorf("after %d proxies: %q", maxHops+1, got)
	}
}

func TestWebLimits(t *testing.T) {
	inside, leave := make(chan bool), make(chan bool)
	port := website(t, func(http.ResponseWriter, *http.Request) { inside <- true; <-leave })
	w := newWebWorld(t, func(c *Config) { c.Limits.ConnectionsPerHost, c.Limits.ConnectionsPerClient = 1, 2 }, webRoute("a.example", port))
	first := make(chan int)
	go func() {
		s, _ := w.get(w.client(false), "http://a.example/")
		first <- s
	}()
	<-inside
	second := w.client(false)
	if s, b := w.get(second, "http://a.example/"); s != 503 || !strings.Contains(b, pages[503].Title) {
		t.Errorf("second to the host: %d %s", s, b)
	}
	w.expect(TooMany, "a.example")
	if got := w.raw(""); got != tooMany {
		t.Errorf("third of the client: %q", got)
	}
	w.expect(TooMany, "")
	leave <- true
	if s := <-first; s != 200 {
		t.Errorf("the first got %d", s)
	}
}

func TestWebTimeouts(t *testing.T) {
	port := website(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	w := newWebWorld(t, func(c *Config) {
		c.Timeouts = Timeouts{Hello: 100 * time.Millisecond, KeepOpen: 100 * time.Millisecond, Idle: 100 * time.Millisecond}
	}, webRoute("a.example", port))
	for _, c := range []struct {
		name, in, want string
		result         Result
	}{
		{"half a head", "GET / HTTP/1.1\r\n", "", Served},
		{"half a body", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nab", "HTTP/1.1 408 ", SlowUser},
		{"silence of the VM", "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "HTTP/1.1 200 ", Idle},
		{"nothing more", "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n", "HTTP/1.1 404 ", UnknownHost},
	} {
		if got := w.raw(c.in); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %q", c.name, got)
		}
		if c.want != "" {
			if r := w.record(); r.Result != c.result {
				t.Errorf("%s: %v (%s), want %v", c.name, r.Result, r.Why, c.result)
			}
		}
	}
}

// echo is a site that switches to a protocol in which it says everything back.
func echo(w http.ResponseWriter, _ *http.Request) {
	c, b, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	// The first word comes with the head.
	fmt.Fprint(b, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n")
	b.Flush()
	_, _ = io.Copy(c, b)
}

// upgraded is a connection on which echo answers.
func (w *world) upgraded(host string) (net.Conn, *bufio.Reader) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(c)
	a, err := http.ReadResponse(r, nil)
	if err != nil || a.StatusCode != 101 {
		w.t.Fatalf("%+v, %v", a, err)
	}
	for _, want := range []string{"hello\n", "one\n", "two\n"} {
		if want != "hello\n" {
			fmt.Fprint(c, want)
		}
		if line, err := r.ReadString('\n'); line != want {
			w.t.Fatalf("%q, %v; want %q", line, err, want)
		}
	}
	return c, r
}

func TestWebUpgradedEnds(t *testing.T) {
	port := website(t, echo)
	w := newWebWorld(t, func(c *Config) { c.Timeouts.Idle = 100 * time.Millisecond }, webRoute("a.example", port))
	c, r := w.upgraded("a.example")
	// The client has closed its half: what is on its way still comes.
	fmt.Fprint(c, "three\n")
	_ = c.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(r); string(rest) != "three\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if r := w.expect(Served, "a.example"); r.Up != 14 || r.Down != 20 {
		t.Errorf("record %+v", r)
	}
	_, r = w.upgraded("a.example")
	_, _ = io.ReadAll(r)
	w.expect(Idle, "a.example")
	c, _ = w.upgraded("a.example")
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
	w.expect(BrokenByUser, "a.example")
}

// Shutdown waits for requests, upgraded connections and nothing else, for as long
// as it may.
func TestWebShutdown(t *testing.T) {
	inside, leave := make(chan bool), make(chan bool)
	w := newWebWorld(t, nil, webRoute("a.example", website(t, func(w http.ResponseWriter, _ *http.Request) {
		inside <- true
		<-leave
		fmt.Fprint(w, "done")
	})), webRoute("b.example", website(t, echo)), webRoute("c.example", website(t, says("c"))))
	idle := w.client(false)
	w.get(idle, "http://c.example/")
	w.expect(Served, "c.example")
	first := make(chan string)
	go func() {
		_, b := w.get(w.client(false), "http://a.example/")
		first <- b
	}()
	<-inside
	c, r := w.upgraded("b.example")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan bool)
	go func() { w.Shutdown(ctx); close(ended) }()
	eventually(t, "nothing listens any more", func() bool {
		c, err := net.Dial("tcp", w.at.String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	leave <- true
	if b := <-first; b != "done" {
		t.Errorf("the request that was open got %q", b)
	}
	w.expect(Served, "a.example")
	fmt.Fprint(c, "still\n")
	if line, _ := r.ReadString('\n'); line != "still\n" {
		t.Errorf("the upgraded connection gave %q", line)
	}
	select {
	case <-ended:
		t.Error("Shutdown did not wait for the upgraded connection")
	default:
	}
	cancel()
	<-ended
	w.expect(Stopped, "b.example")
}

func TestPageEscapes(t *testing.T) {
	var b strings.Builder
	if err := pageTemplate.Execute(&b, page{Title: "<a>", Text: "<b>", Host: `"><script>`, ID: "'"}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"<a>", "<b>", "<script>"} {
		if strings.Contains(b.String(), s) {
			t.Errorf("%s is in the page as it is", s)
		}
	}
}
