package proxy

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func (w *world) web() *web { return w.parts[0].(*web) }

// parked waits until net/http has no connection.
func (w *world) parked() {
	w.t.Helper()
	eventually(w.t, "idle connections are with the event loops", func() bool { return w.web().busy.Load() == 0 })
}

func (w *world) connect() *testConn {
	w.t.Helper()
	c, err := connect(w.at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// request sends bytes and gives the answer, and which name Via has in it.
func (c *testConn) request(t *testing.T, raw string) (status int, via string) {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	a, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, a.Body)
	_, via, _ = strings.Cut(a.Header.Get("Via"), " ")
	if i := strings.LastIndexByte(via, '-'); i >= 0 {
		via = via[:i]
	}
	return a.StatusCode, via
}

const getA = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"

// A connection that waits for its next request goes back to the event loops, as
// often as it takes, and can't become one of HTTP/2 there.
func TestWebParked(t *testing.T) {
	w := newWebWorld(t, nil, webRoute("a.example", website(t, says("a"))))
	c := w.connect()
	for range 2 {
		if s, _ := c.request(t, getA); s != 200 {
			t.Fatal(s)
		}
		w.parked()
		if s := w.Stats(); s.OpenHTTP != 1 || s.Connections != 1 {
			t.Errorf("%+v", s)
		}
	}
	if s, _ := c.request(t, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); s != 505 {
		t.Errorf("status %d", s)
	}
	c = w.connect()
	c.request(t, getA)
	w.parked()
	c.Close()
	eventually(t, "the client is gone", func() bool { return w.Stats().Connections == 0 && w.Stats().OpenHTTP == 0 })
}

// streams is how many streams HTTP/2's first SETTINGS allow on a new connection.
func (w *world) streams() (n uint32) {
	w.t.Helper()
	c := w.connect()
	defer c.Close()
	fmt.Fprint(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	head := make([]byte, 9) // RFC 9113 section 4.1
	if _, err := io.ReadFull(c.r, head); err != nil || head[3] != 4 {
		w.t.Fatal(head, err)
	}
	body := make([]byte, head[2])
	if _, err := io.ReadFull(c.r, body); err != nil {
		w.t.Fatal(err)
	}
	for ; len(body) >= 6; body = body[6:] {
		if binary.BigEndian.Uint16(body) == 3 { // SETTINGS_MAX_CONCURRENT_STREAMS
			return binary.BigEndian.Uint32(body[2:])
		}
	}
	w.t.Fatal("no bound")
	return 0
}

// Each setting of HTTP counts from the next request on, also on connections that
// are open, whether parked or not.
func TestWebUpdate(t *testing.T) {
	w := newWebWorld(t, nil, webRoute("a.example", website(t, says("a"))))
	parked, open := w.connect(), w.connect()
	parked.request(t, getA)
	w.parked()
	update := func(change func(*Config)) {
		t.Helper()
		c := *w.config()
		change(&c)
		if err := w.Update(c); err != nil {
			t.Fatal(err)
		}
	}
	open.request(t, getA)
	update(func(c *Config) { c.Name = "other" })
	for what, c := range map[string]*testConn{"parked": parked, "open": open, "new": w.connect()} {
		if s, via := c.request(t, getA); s != 200 || via != "other" {
			t.Errorf("name: %s: status %d, Via %s", what, s, via)
		}
	}
	large := "GET / HTTP/1.1\r\nHost: a.example\r\nX: " + strings.Repeat("a", 100_000) + "\r\n\r\n"
	update(func(c *Config) { c.Limits.RequestHeader = 200_000 })
	w.parked() // what net/http has at the time keeps its bound
	if s, _ := open.request(t, large); s != 200 {
		t.Errorf("request_header up: status %d", s)
	}
	update(func(c *Config) { c.Limits.RequestHeader = 50_000 })
	if s, _ := open.request(t, large); s != 431 {
		t.Errorf("request_header down: status %d", s)
	}
	update(func(c *Config) { c.Limits.RequestsPerConnection = 7 })
	if n := w.streams(); n != 7 {
		t.Errorf("requests_per_connection: %d", n)
	}
	update(func(c *Config) { c.Timeouts.Hello = 100 * time.Millisecond })
	if got := w.raw("GET / HTTP/1.1\r\n"); got != "" {
		t.Errorf("hello: %q", got)
	}
	update(func(c *Config) { c.Timeouts.KeepOpen = 50 * time.Millisecond })
	for what, c := range map[string]*testConn{"parked": parked, "new": w.connect()} {
		if c != parked {
			c.request(t, getA)
		}
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("keep_open: %s: %v", what, err)
		}
	}
	slow := website(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	w.routes(webRoute("a.example", slow))
	update(func(c *Config) { c.Timeouts.Response = 50 * time.Millisecond })
	if s, _ := w.connect().request(t, getA); s != 504 {
		t.Errorf("response: status %d", s)
	}
	update(func(c *Config) { c.Limits.ConnectionsPerHost = 1; c.Timeouts.Response = time.Minute })
	first := w.connect()
	fmt.Fprint(first, getA)
	eventually(t, "the first is inside", func() bool {
		w.limiter.mu.Lock()
		defer w.limiter.mu.Unlock()
		return w.limiter.hosts["a.example"] == 1
	})
	if s, _ := w.connect().request(t, getA); s != 503 {
		t.Errorf("connections_per_host: status %d", s)
	}
}
