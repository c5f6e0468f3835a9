package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

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
