package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
)

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
	if got := w.raw("GET / HTTP/1.1\r\n"); got != tooMany {
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
