package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
)

// badRequests are heads that nobody but this proxy sees, and what they get: the
// page for the status, and the connection's end. A name stands in docs/proxy.md;
// those without one belong to the one before that is like them.
var badRequests = []struct {
	name, in string
	status   int
	result   Result
}{
	{"both Content-Length and Transfer-Encoding", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, BadRequest},
	{"two Content-Length fields, equal or not", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, BadRequest},
	{"a transfer coding other than chunked (`xchunked`, `gzip, chunked`)", "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, BadRequest},
	{"line folding", "GET / HTTP/1.1\r\nHost: a.example\r\nX: a\r\n b\r\n\r\n", 400, BadRequest},
	{"white space before a colon", "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", 400, BadRequest},
	{"no Host", "GET / HTTP/1.1\r\n\r\n", 400, BadRequest},
	{"two Host fields", "GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", 400, BadRequest},
	{"`user@host`, a port that is none, an empty Host", "GET / HTTP/1.1\r\nHost: a@a.example\r\n\r\n", 400, BadRequest},
	{"a target `http://...` that disagrees with Host", "GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, BadRequest},
	{"a target `https://...`", "GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 421, Misdirected},
	{"CONNECT", "CONNECT a.example:22 HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, BadRequest},
	{"NUL or another control character", "GET / HTTP/1.1\r\nHost: a.example\r\nX: \x00\r\n\r\n", 400, BadRequest},
	{"bare CR", "GET / HTTP/1.1\r\nHost: a.example\r\nX: a\rb\r\n\r\n", 400, BadRequest},
	{"bare LF", "GET / HTTP/1.1\nHost: a.example\r\n\n", 400, BadRequest},
	{"HTTP/0.9", "GET /\r\n", 400, BadRequest},
	{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 400, BadRequest},
	{"another version of HTTP", "GET / HTTP/3.0\r\nHost: a.example\r\n\r\n", 505, BadRequest},
	{"a head above `request_header`, or with more than 256 fields", "GET / HTTP/1.1\r\nHost: a.example\r\nX: " + strings.Repeat("a", 1<<20), 431, BadRequest},
	{"TLS on the port of HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and more", 400, BadRequest},
	{"a Content-Length that is no number (`+1`, `1,1`, `0x1`, 20 digits)", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: +1\r\n\r\na", 400, BadRequest},
	{"", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1, 1\r\n\r\na", 400, BadRequest},
	{"", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0x1\r\n\r\na", 400, BadRequest},
	{"", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length:\r\n\r\na", 400, BadRequest},
	{"", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 12345678901234567890\r\n\r\na", 400, BadRequest},
	{"", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, BadRequest},
	{"", "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, BadRequest},
	{"two Transfer-Encoding fields", "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, BadRequest},
	{"Transfer-Encoding in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, BadRequest},
	{"", "GET / HTTP/1.1\r\nHost: a.example:http\r\n\r\n", 400, BadRequest},
	{"", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, BadRequest},
	{"a Host with a comma, a path, white space or bytes above 127", "GET / HTTP/1.1\r\nHost: a.example,b.example\r\n\r\n", 400, BadRequest},
	{"", "GET / HTTP/1.1\r\nHost: a.example/b\r\n\r\n", 400, BadRequest},
	{"", "GET / HTTP/1.1\r\nHost: a example\r\n\r\n", 400, BadRequest},
	{"", "GET / HTTP/1.1\r\nHost: \xc3\xa4.example\r\n\r\n", 400, BadRequest},
	{"", "GET / HTTP/1.1\r\nHost: a.example\r\n" + strings.Repeat("X: a\r\n", 256) + "\r\n", 431, BadRequest},
	{"an expectation other than 100-continue", "GET / HTTP/1.1\r\nHost: a.example\r\nExpect: magic\r\n\r\n", 417, BadRequest},
	{"a target with a fragment, a bad escape or white space, or of no form", "GET /#a HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, BadRequest},
	{"", "GET /%zz HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, BadRequest},
	{"", "GET /a\tb HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, BadRequest},
	{"", "GET a HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, BadRequest},
	{"", "GET * HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, BadRequest},
	{"a method or field name that is no token", "GE(T / HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, BadRequest},
	{"", "GET / HTTP/1.1\r\nHost: a.example\r\nX(: a\r\n\r\n", 400, BadRequest},
	{"", "GET / HTTP/1.1\r\nHost: a.example\r\n: a\r\n\r\n", 400, BadRequest},
	{"", "GET / HTTP/1.1\r\nHost: a.example\r\nno colon\r\n\r\n", 400, BadRequest},
}

// Every bad input gets exactly this, and then the connection ends. The table of
// all of them is package http1's.
func TestWebFaults(t *testing.T) {
	var asked []string
	port := website(t, func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.RequestURI) })
	w := newWebWorld(t, func(c *Config) { c.Limits.RequestHeader = 8 << 10 }, webRoute("a.example", port))
	for _, c := range badRequests {
		t.Run(fmt.Sprintf("%.40q", c.in), func(t *testing.T) {
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

// badChunks are bodies in chunks. Each gets status 400 and the connection's end,
// unless the VM has begun to answer; then it is the end alone.
var badChunks = []string{
	"3\nabc\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3;a\nabc\r\n0\r\n\r\n", "3;a\x00\r\nabc\r\n0\r\n\r\n", // ends of lines
	"x\r\n", "\r\n", "-1\r\n", "0x3\r\nabc\r\n0\r\n\r\n", " 3\r\nabc\r\n0\r\n\r\n", "3 \r\nabc\r\n0\r\n\r\n", strings.Repeat("f", 16) + "\r\n", // sizes
	"3;" + strings.Repeat("a", 4096) + "\r\nabc\r\n0\r\n\r\n",
	"0\r\nHost: b\r\n\r\n", "0\r\nContent-Length: 3\r\n\r\nabc", "0\r\nX : a\r\n\r\n", "0\r\nX: a\n\r\n", // trailers
}

// Bad chunks come when the VM has the head already.
func TestWebBadChunks(t *testing.T) {
	w := newWebWorld(t, nil, webRoute("a.example", website(t, says("vm"))))
	for _, chunk := range badChunks {
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

const (
	reset = "the stream is reset"
	bare  = "400 without a page"
)

// badHTTP2 are the fields of requests of HTTP/2, behind :scheme and :path. Each
// gets the page for status 400, but for those that net/http refuses itself.
var badHTTP2 = []struct {
	name   string
	fields []string // names and values
	answer string
}{
	{":authority and Host disagree", []string{":method", "GET", ":authority", "a.example", "host", "b.example"}, "400"},
	{"no host at all", []string{":method", "GET"}, "400"},
	{"a malformed :authority", []string{":method", "GET", ":authority", "a,b.example"}, "400"},
	{"`user@host`", []string{":method", "GET", ":authority", "a@a.example"}, reset},
	{"CONNECT", []string{":method", "CONNECT", ":authority", "a.example"}, reset},
	{"two :authority", []string{":method", "GET", ":authority", "a.example", ":authority", "a.example"}, reset},
	{"fields of one connection (Transfer-Encoding, Connection)", []string{":method", "GET", ":authority", "a.example", "transfer-encoding", "chunked"}, bare},
	{"a field name in upper case", []string{":method", "GET", ":authority", "a.example", "X", "a"}, reset},
}

// The same over HTTP/2, where the connection goes on for other requests.
func TestWebFaultsHTTP2(t *testing.T) {
	var asked atomic.Bool
	w := newWebWorld(t, nil, webRoute("a.example", website(t, func(http.ResponseWriter, *http.Request) { asked.Store(true) })))
	for _, c := range badHTTP2 {
		conn := w.connect()
		fields := append([]string{}, c.fields[:2]...)
		fields = append(append(fields, ":scheme", "http", ":path", "/"), c.fields[2:]...)
		var block []byte
		for i := 0; i < len(fields); i += 2 { // literals without indexing, RFC 7541 section 6.2.2
			block = append(block, 0, byte(len(fields[i])))
			block = append(append(block, fields[i]...), byte(len(fields[i+1])))
			block = append(block, fields[i+1]...)
		}
		const endStreamAndHeaders = 5
		frame := append([]byte{0, 0, byte(len(block)), 1, endStreamAndHeaders, 0, 0, 0, 1}, block...)
		fmt.Fprintf(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00%s", frame)
		for {
			head := make([]byte, 9)
			if _, err := io.ReadFull(conn.r, head); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			body := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
			if _, err := io.ReadFull(conn.r, body); err != nil {
				t.Fatal(err)
			}
			const headers, rstStream = 1, 3
			if head[3] != headers && head[3] != rstStream {
				continue
			}
			if (c.answer == reset) != (head[3] == rstStream) || c.answer != reset && body[0] != 0x8c { // RFC 7541 appendix A, index 12
				t.Errorf("%s: frame %d, %x", c.name, head[3], body)
			}
			break
		}
		conn.Close()
		if c.answer != "400" {
			continue
		}
		if r := w.record(); r.Protocol != HTTP2 || r.Status != 400 || r.Result != BadRequest && r.Result != NoName {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	if asked.Load() {
		t.Error("a VM was asked")
	}
}

// docs/proxy.md says what the tests above find.
func TestDocumentedFaults(t *testing.T) {
	var b strings.Builder
	b.WriteString("| what comes | answer |\n| --- | --- |\n")
	for _, c := range badRequests {
		if c.name != "" {
			fmt.Fprintf(&b, "| %s | %d, and the end |\n", c.name, c.status)
		}
	}
	b.WriteString("| a malformed chunk or trailer | 400, and the end; the end alone once the VM has answered |\n")
	for _, c := range badHTTP2 {
		fmt.Fprintf(&b, "| HTTP/2: %s | %s |\n", c.name, c.answer)
	}
	doc, err := os.ReadFile("../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), b.String()) {
		t.Errorf("docs/proxy.md lacks this table:\n%s", b.String())
	}
}
