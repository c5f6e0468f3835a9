package visitors

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labtest"
)

var servers = []route{
	{"plain.example", vmAddr, ""},
	{"v1.example", vmAddr, "http = 81\nhttps = 444\nproxy_protocol = 'v1'"},
	{"v2.example", vmAddr, "http = 81\nhttps = 444\nproxy_protocol = 'v2'"},
	{"app.example", vmAddr, "http = 8080\nhttps = 8443"},
	{"a1.example", otherAddr, "http = 81\nhttps = 444\nproxy_protocol = 'v1'"},
	{"a2.example", otherAddr, "http = 81\nhttps = 444\nproxy_protocol = 'v2'"},
}

func hosts(routes []route) (names []string) {
	for _, r := range routes {
		names = append(names, r.host)
	}
	return names
}

// TestCurl: what curl and OpenSSL do, one after the other, through one proxy.
func TestCurl(t *testing.T) {
	t.Parallel()
	labtest.NeedProgram(t, "curl", "curl")
	labtest.NeedProgram(t, "openssl", "openssl")
	w := newWorld(t, "", servers...)
	id := w.certs.identity(hosts(servers)...)
	n := w.nginx(w.vm, "nginx", id)
	w.apache(w.other, id)
	app := w.app(w.vm, "app", id)
	w.start()
	file := n.noise("file", 4<<20)

	t.Run("versions", func(t *testing.T) { versions(t, w, n) })
	t.Run("hellos", func(t *testing.T) { hellos(t, w, id) })
	t.Run("upload", func(t *testing.T) { upload(t, w) })
	t.Run("events", func(t *testing.T) { events(t, w, app) })
	t.Run("half-close", func(t *testing.T) { halfClose(t, w) })
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"file over HTTP", []string{"http://plain.example/file"}, string(file)},
		{"file over HTTPS", []string{"https://plain.example/file"}, string(file)},
		{"range over HTTP", []string{"-r", "1000000-1000099", "http://plain.example/file"}, string(file[1000000:1000100])},
		{"range over HTTPS", []string{"-r", "1000000-1000099", "https://v2.example/file"}, string(file[1000000:1000100])},
		{"last bytes over HTTP/2 without TLS", []string{"--http2-prior-knowledge", "-r", "-10", "http://plain.example/file"}, string(file[len(file)-10:])},
		{"trailers", []string{"-D", "-", "-o", "/dev/null", "-w", "end\n", "http://app.example/trailers"}, "X-Sum: 4711\r\n"},
		{"trailers of HTTP/2 without TLS", []string{"--http2-prior-knowledge", "-D", "-", "-o", "/dev/null", "http://app.example/trailers"}, "x-sum: 4711\r\n"},
		{"trailers over HTTPS", []string{"-D", "-", "-o", "/dev/null", "https://app.example/trailers"}, "x-sum: 4711\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := w.curl(c.args...)
			if err != nil || !strings.Contains(got, c.want) || len(c.want) > 100 && got != c.want {
				t.Errorf("%d bytes, %v: %.300q, want %.100q", len(got), err, got, c.want)
			}
		})
	}
}

// versions: each version of HTTP and TLS, and in each the VM learns who the visitor
// is, by header or by either version of the PROXY protocol.
func versions(t *testing.T, w *world, n *nginx) {
	for _, c := range []struct{ args, want string }{
		{"-0 http://plain.example/who", "nginx 80 HTTP/1.1   " + visitorAddr},
		{"--http1.1 http://plain.example/who", "nginx 80 HTTP/1.1   " + visitorAddr},
		{"--http2-prior-knowledge http://plain.example/who", "nginx 80 HTTP/1.1   " + visitorAddr},
		{"http://v1.example/who", "nginx 81 HTTP/1.1  " + visitorAddr + " " + visitorAddr},
		{"http://v2.example/who", "nginx 81 HTTP/1.1  " + visitorAddr + " " + visitorAddr},
		{"--http1.1 https://plain.example/who", "nginx 443 HTTP/1.1 TLSv1.3  "},
		{"https://plain.example/who", "nginx 443 HTTP/2.0 TLSv1.3  "},
		{"--tls-max 1.2 https://plain.example/who", "nginx 443 HTTP/2.0 TLSv1.2  "},
		{"--tls-max 1.2 --http1.1 https://v1.example/who", "nginx 444 HTTP/1.1 TLSv1.2 " + visitorAddr + " "},
		{"https://v1.example/who", "nginx 444 HTTP/2.0 TLSv1.3 " + visitorAddr + " "},
		{"https://v2.example/who", "nginx 444 HTTP/2.0 TLSv1.3 " + visitorAddr + " "},
		{"http://a1.example/who", "apache " + visitorAddr},
		{"http://a2.example/who", "apache " + visitorAddr},
		{"https://a1.example/who", "apache " + visitorAddr},
		{"https://a2.example/who", "apache " + visitorAddr},
	} {
		got, err := w.curl(strings.Fields(c.args)...)
		if err != nil || got != c.want+"\n" {
			t.Errorf("curl %s: %q, %v, want %q", c.args, got, err, c.want)
		}
	}
	n.logged("444 HTTP/2.0 v2.example /who 200 proxy=" + visitorAddr + " for=-")
	n.logged("80 HTTP/1.1 plain.example /who 200 proxy=- for=" + visitorAddr)
}

// reframed writes TLS records, the first of them cut into records of so many
// bytes, each byte of which goes in a packet of its own if asked.
type reframed struct {
	net.Conn
	size      int
	bytewise  bool
	hasFirst  bool
	sentPlain int
}

func (c *reframed) Write(b []byte) (int, error) {
	if c.hasFirst {
		return c.Conn.Write(b)
	}
	c.hasFirst = true
	var out []byte
	if c.size == 0 {
		out = b
	} else {
		length := 5 + int(b[3])<<8 + int(b[4])
		for m := b[5:length]; len(m) > 0; {
			k := min(c.size, len(m))
			out = append(append(out, b[0], b[1], b[2], byte(k>>8), byte(k)), m[:k]...)
			m = m[k:]
		}
		out = append(out, b[length:]...)
	}
	c.sentPlain = len(out)
	if !c.bytewise {
		_, err := c.Conn.Write(out)
		return len(b), err
	}
	for i := range out {
		if _, err := c.Conn.Write(out[i : i+1]); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// hellos: large ones, in many records, byte by byte.
func hellos(t *testing.T, w *world, id identity) {
	for _, c := range []struct {
		name     string
		curve    tls.CurveID
		records  int // bytes in each
		bytewise bool
		least    int // bytes of the hello as sent
	}{
		{"X25519MLKEM768", tls.X25519MLKEM768, 0, false, 1400},
		{"X25519MLKEM768 byte by byte", tls.X25519MLKEM768, 0, true, 1400},
		{"X25519MLKEM768 in records of 7 bytes", tls.X25519MLKEM768, 7, false, 2400},
		{"X25519 in records of one byte, byte by byte", tls.X25519, 1, true, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := w.visitor.Dial(w.timeout(), "tcp", "app.example:443")
			must(t, err)
			defer raw.Close()
			must(t, raw.SetDeadline(time.Now().Add(patience)))
			r := &reframed{Conn: raw, size: c.records, bytewise: c.bytewise}
			x := tls.Client(r, &tls.Config{ServerName: "app.example", RootCAs: w.certs.pool, CurvePreferences: []tls.CurveID{c.curve}})
			must(t, x.Handshake())
			if got := x.ConnectionState().CurveID; got != c.curve || r.sentPlain < c.least {
				t.Errorf("curve %v, hello of %d bytes", got, r.sentPlain)
			}
			if _, err := io.WriteString(x, "GET /page HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(x)
			if err != nil || !strings.Contains(string(b), "app.example by HTTP/1.1") {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	t.Run("OpenSSL, 8 KB", func(t *testing.T) {
		protocols := "http/1.1"
		for i := range 1000 {
			protocols += fmt.Sprintf(",p%05d", i)
		}
		c := exec.Command("openssl", "s_client", "-quiet", "-CAfile", w.certs.file, "-verify_return_error",
			"-connect", proxyAddr+":443", "-servername", "app.example", "-alpn", protocols, "-tls1_3", "-groups", "X448:X25519")
		c.Stdin = strings.NewReader("GET /page HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")
		out, err := runs(w.visitor, c)
		if err != nil || !strings.Contains(out, "app.example by HTTP/1.1") {
			t.Errorf("%q, %v", out, err)
		}
	})
}

// upload: 200 MB after "100 Continue", by HTTP and through TLS.
func upload(t *testing.T, w *world) {
	const size = 200 << 20
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	must(t, err)
	h := sha256.New()
	b := make([]byte, 1<<20)
	for range size / len(b) {
		_, _ = rand.Read(b[:1<<10])
		h.Write(b)
		_, err := f.Write(b)
		must(t, err)
	}
	must(t, f.Close())
	for _, c := range []struct{ url, proto string }{
		{"http://app.example/hash", "HTTP/1.1"}, {"https://app.example/hash", "HTTP/1.1"},
	} {
		got, err := w.curl("-v", "--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", "60", "--stderr", path+".said", "-T", path, c.url)
		want := fmt.Sprintf("%s %d %x <nil>\n", c.proto, int64(size), h.Sum(nil))
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", c.url, got, err, want)
		}
		said, err := os.ReadFile(path + ".said")
		must(t, err)
		if !strings.Contains(string(said), "< HTTP/1.1 100 Continue") {
			t.Errorf("%s: no 100 Continue", c.url)
		}
	}
	l := w.logged("the upload", func(l line) bool { return l.Path == "/hash" })
	if l.Up != size || l.Result != "served" || l.Status != 200 {
		t.Errorf("%+v", l)
	}
}

// events: a server-sent event arrives before the answer has ended.
func events(t *testing.T, w *world, a *app) {
	for _, args := range [][]string{
		{"http://app.example/events"}, {"--http2-prior-knowledge", "http://app.example/events"}, {"https://app.example/events"},
	} {
		c := exec.Command("curl", append([]string{"-sSN", "--max-time", "60", "--cacert", w.certs.file}, args...)...)
		var complaint bytes.Buffer
		c.Stderr = &complaint
		out, err := c.StdoutPipe()
		must(t, err)
		must(t, w.visitor.Start(c))
		r := bufio.NewReader(out)
		first, err := r.ReadString('\n')
		if err != nil || first != "data: first\n" {
			t.Errorf("%v: %q, %v", args, first, err)
		}
		must(t, a.continued())
		rest, err := io.ReadAll(r)
		if err := c.Wait(); err != nil {
			t.Errorf("%v: %v %s", args, err, &complaint)
		}
		if err != nil || string(rest) != "\ndata: second\n\n" {
			t.Errorf("%v: %q, %v", args, rest, err)
		}
	}
}

// halfClose: a visitor that has said all it has to say, and says so, gets the rest
// of its answer. (Over HTTP, the proxy takes such a visitor to be gone.)
func halfClose(t *testing.T, w *world) {
	raw, err := w.visitor.Dial(w.timeout(), "tcp", "app.example:443")
	must(t, err)
	defer raw.Close()
	must(t, raw.SetDeadline(time.Now().Add(patience)))
	c := tls.Client(raw, &tls.Config{ServerName: "app.example", RootCAs: w.certs.pool})
	const body = "0123456789"
	fmt.Fprintf(c, "POST /hash HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	must(t, raw.(*net.TCPConn).CloseWrite())
	got, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(got), fmt.Sprintf("10 %x <nil>", sha256.Sum256([]byte(body)))) {
		t.Errorf("%q, %v", got, err)
	}
}
