package visitors

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"aarch64.com/isthmus/perf/lab/labtest"
)

const moving = "moving.example"

func movingTo(vm string) route { return route{moving, vm, "http = 8080\nhttps = 8443"} }

// connect opens a connection to a site, through TLS for https.
func (w *world) connect(scheme, host string) (net.Conn, error) {
	raw, err := w.visitor.Dial(w.timeout(), "tcp", host+":"+scheme)
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(func() { raw.Close() })
	if scheme == "http" {
		return raw, nil
	}
	c := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: w.certs.pool})
	return c, c.HandshakeContext(w.timeout())
}

// keptOpen is a connection of HTTP/1.1 for one request after the other.
type keptOpen struct {
	c net.Conn
	r *bufio.Reader
}

func (k *keptOpen) send(host, path string) error {
	_, err := fmt.Fprintf(k.c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
	return err
}

func (k *keptOpen) get(host, path string) (string, error) {
	if err := errors.Join(k.c.SetDeadline(time.Now().Add(patience)), k.send(host, path)); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(k.r, nil)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(b)), err
}

// socket opens a WebSocket that sends back what it gets.
func (w *world) webSocket(scheme, host string) *websocket.Conn {
	w.t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext: w.visitor.Dial, TLSClientConfig: &tls.Config{RootCAs: w.certs.pool},
	}}
	c, _, err := websocket.Dial(w.timeout(), scheme+"://"+host+"/ws", &websocket.DialOptions{HTTPClient: client})
	must(w.t, err)
	w.t.Cleanup(func() { c.CloseNow() })
	return c
}

func echoes(ctx context.Context, c *websocket.Conn) error {
	if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		return err
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != "hello" {
		return fmt.Errorf("echo %q: %w", b, err)
	}
	return nil
}

// TestRouteChange: what is open stays where it is, and what is new goes where the
// file of routes says now.
func TestRouteChange(t *testing.T) {
	t.Parallel()
	labtest.NeedProgram(t, "curl", "curl")
	w := newWorld(t, "", movingTo(vmAddr))
	id := w.certs.identity(moving)
	one, _ := w.app(w.vm, "one", id), w.app(w.other, "two", id)
	w.start()

	type download struct {
		url  string
		cmd  *exec.Cmd
		body *bufio.Reader
	}
	var downloads []download
	kept := map[string]*keptOpen{}
	sockets := map[string]*websocket.Conn{}
	for _, scheme := range []string{"http", "https"} {
		c, err := w.connect(scheme, moving)
		must(t, err)
		kept[scheme] = &keptOpen{c, bufio.NewReader(c)}
		if got, err := kept[scheme].get(moving, "/who"); got != "one" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		sockets[scheme] = w.webSocket(scheme, moving)
		must(t, echoes(w.timeout(), sockets[scheme]))
		d := download{url: scheme + "://" + moving + "/events"}
		d.cmd = exec.Command("curl", "-sSN", "--max-time", "60", "--cacert", w.certs.file, d.url)
		out, err := d.cmd.StdoutPipe()
		must(t, err)
		must(t, w.visitor.Start(d.cmd))
		d.body = bufio.NewReader(out)
		if first, err := d.body.ReadString('\n'); first != "data: first\n" {
			t.Fatalf("%q, %v", first, err)
		}
		downloads = append(downloads, d)
	}

	w.routes(movingTo(otherAddr))
	changed := time.Now()
	// The same connection of HTTP, request by request.
	w.until("an open connection of HTTP asks the other VM", func() bool {
		got, err := kept["http"].get(moving, "/who")
		must(t, err)
		return got == "two"
	})
	t.Logf("requests take the new route after %d ms", time.Since(changed).Milliseconds())
	for _, scheme := range []string{"http", "https"} {
		if got, err := w.curl(scheme + "://" + moving + "/who"); got != "two\n" || err != nil {
			t.Errorf("a new connection of %s: %q, %v", scheme, got, err)
		}
		if err := echoes(w.timeout(), sockets[scheme]); err != nil {
			t.Errorf("the WebSocket of %s: %v", scheme, err)
		}
	}
	// The proxy sees nothing of the requests in a connection of HTTPS.
	if got, err := kept["https"].get(moving, "/who"); got != "one" || err != nil {
		t.Errorf("an open connection of HTTPS: %q, %v", got, err)
	}
	for _, d := range downloads {
		must(t, one.continued())
		rest, err := io.ReadAll(d.body)
		if string(rest) != "\ndata: second\n\n" || err != nil {
			t.Errorf("%s: %q, %v", d.url, rest, err)
		}
		if err := d.cmd.Wait(); err != nil {
			t.Errorf("%s: %v", d.url, err)
		}
	}

	// A route that has gone: the same for those without one.
	w.routes(route{"other.example", otherAddr, ""})
	changed = time.Now()
	w.until("HTTPS is refused", func() bool {
		_, err := w.connect("https", moving)
		return err != nil && strings.Contains(err.Error(), "unrecognized name")
	})
	t.Logf("new connections of HTTPS are refused after %d ms", time.Since(changed).Milliseconds())
	if got, err := kept["http"].get(moving, "/who"); err != nil || !strings.Contains(got, "no site here") {
		t.Errorf("an open connection of HTTP: %q, %v", got, err)
	}
	for scheme, c := range sockets {
		if err := echoes(w.timeout(), c); err != nil {
			t.Errorf("the WebSocket of %s: %v", scheme, err)
		}
	}
}
