package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

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
