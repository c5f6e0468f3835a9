package proxy

import (
	"bufio"
	"context"
	cryptotls "crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/proxy/routes"
)

// Tests that need descriptors of their own have the server in another process: it
// is this binary again, told by this variable what to be.
const role = "PROXY_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "server":
		os.Exit(serverProcess())
	case "site":
		os.Exit(siteProcess())
	}
	os.Exit(m.Run())
}

// status is what a server's process has.
type status struct {
	Connections, Descriptors, Goroutines, RSS int // RSS in KB
	Results                                   [NumProtocols][NumResults]uint64
}

// serverProcess serves HTTP at HTTP and HTTPS at HTTPS for the host a.example,
// whose VM is on ::1 at the ports VMHTTP and VMHTTPS, and tells its status for each
// line of its input, until that ends.
func serverProcess() int {
	var vmHTTP, vmHTTPS uint16
	_, err := fmt.Sscan(os.Getenv("VMHTTP"), &vmHTTP)
	_, err2 := fmt.Sscan(os.Getenv("VMHTTPS"), &vmHTTPS)
	snapshot, err3 := routes.NewSnapshot(1, []routes.Route{{Host: "a.example", Backends: []netip.Addr{loopback6}, HTTP: vmHTTP, HTTPS: vmHTTPS}})
	if err := errors.Join(err, err2, err3); err != nil {
		fmt.Println(err)
		return 1
	}
	table := &routes.Table{}
	table.Store(snapshot)
	none := -1
	s, err := New(Config{
		HTTP: []netip.AddrPort{netip.MustParseAddrPort(os.Getenv("HTTP"))}, HTTPS: []netip.AddrPort{netip.MustParseAddrPort(os.Getenv("HTTPS"))},
		Routes: table, Reach: func(netip.Addr) error { return nil },
		Limits: Limits{Connections: none, ConnectionsPerClient: none, ConnectionsPerHost: none, ConnectionsPerProject: none},
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		runtime.GC() // what pools have goes with the second
		debug.FreeOSMemory()
		t := s.Stats()
		_ = out.Encode(status{t.Connections, descriptors(), runtime.NumGoroutine(), residentSize(), t.Results})
	}
	s.Shutdown(context.Background())
	return 0
}

// siteProcess is a VM that says everything back, or upgrades, until its input ends.
// It tells its ports: that of HTTP, and that of bytes as they are.
func siteProcess() int {
	l, err := net.Listen("tcp6", "[::1]:0")
	raw, err2 := net.Listen("tcp6", "[::1]:0")
	if err := errors.Join(err, err2); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port, raw.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			c, err := raw.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 2048))
			}()
		}
	}()
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				echo(w, r)
				return
			}
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(b)
		}))
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// start runs this binary in a role until the end of the test.
func start(t *testing.T, as string, env ...string) (io.WriteCloser, io.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), role+"="+as), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", as, err)
		}
	})
	return in, out
}

// startSite gives the ports of a VM.
func startSite(t *testing.T) (http, raw uint16) {
	t.Helper()
	_, out := start(t, "site")
	if _, err := fmt.Fscan(out, &http, &raw); err != nil {
		t.Fatal(err)
	}
	return http, raw
}

func descriptors() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// residentSize is in KB.
func residentSize() (kb int) {
	b, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	_, _ = fmt.Sscan(after, &kb)
	return kb
}

// process is a server in another process.
type process struct {
	t           *testing.T
	http, https string
	in          io.WriteCloser
	out         *json.Decoder
}

// startServer starts a server for a VM in another process.
func startServer(t *testing.T) *process {
	t.Helper()
	vmHTTP, vmHTTPS := startSite(t)
	p := &process{t: t, http: fmt.Sprint("127.0.0.1:", freePort(t, "127.0.0.1")), https: fmt.Sprint("127.0.0.1:", freePort(t, "127.0.0.1"))}
	in, out := start(t, "server", "HTTP="+p.http, "HTTPS="+p.https, fmt.Sprint("VMHTTP=", vmHTTP), fmt.Sprint("VMHTTPS=", vmHTTPS))
	p.in, p.out = in, json.NewDecoder(out)
	return p
}

func (p *process) status() (s status) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, "status\n"); err != nil {
		p.t.Fatal(err)
	}
	if err := p.out.Decode(&s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// many calls f for 0 to n-1, 50 at a time, and ends the test if one failed.
func many(t *testing.T, n, at int, f func(i int) error) {
	t.Helper()
	var all sync.WaitGroup
	for w := range at {
		all.Go(func() {
			for i := w; i < n; i += at {
				if err := f(i); err != nil {
					t.Errorf("%d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// idleClients is how many idle clients fit into the limit of open files, with each
// descriptors in a process.
func idleClients(t *testing.T, active, each int) int {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	idle := 10_000
	if most := (int(limit.Cur)-1000)/each - active; most < idle {
		t.Logf("RLIMIT_NOFILE is %d: %d idle connections instead of %d", limit.Cur, most, idle)
		idle = most
	}
	if testing.Short() || raceEnabled {
		idle /= 10
	}
	return idle
}

// testConn is a connection, and what has been read of it.
type testConn struct {
	net.Conn
	r *bufio.Reader
}

func connect(at string) (*testConn, error) {
	c, err := net.Dial("tcp", at)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return &testConn{c, bufio.NewReaderSize(c, 256)}, nil
}

// ask sends a request and wants its body back.
func (c *testConn) ask(body string) error {
	if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		return err
	}
	a, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != 200 || string(got) != body {
		return fmt.Errorf("status %d, %d bytes of %d, %w", a.StatusCode, len(got), len(body), err)
	}
	return nil
}

// Idle keep-alive clients, active ones at once, and nothing is left.
func TestManyWeb(t *testing.T) {
	const active = 500
	idle := idleClients(t, active, 1)
	p := startServer(t)
	before := p.status()
	conns := make([]*testConn, idle)
	many(t, idle, 50, func(i int) (err error) {
		if conns[i], err = connect(p.http); err != nil {
			return err
		}
		return conns[i].ask("first")
	})
	var now status
	eventually(t, "idle connections cost nothing but themselves", func() bool {
		now = p.status()
		return now.Connections == idle && now.Descriptors-before.Descriptors <= idle+20 && now.Goroutines-before.Goroutines <= 20
	})
	t.Logf("%d idle connections: %d descriptors and %d goroutines more, %.2f KB each", idle, now.Descriptors-before.Descriptors,
		now.Goroutines-before.Goroutines, float64(now.RSS-before.RSS)/float64(idle))
	body := strings.Repeat("0123456789", 3000)
	many(t, active, active, func(int) error {
		c, err := connect(p.http)
		if err != nil {
			return err
		}
		defer c.Close()
		for range 3 {
			if err := c.ask(body); err != nil {
				return err
			}
		}
		return nil
	})
	many(t, idle, 50, func(i int) error {
		defer conns[i].Close()
		return conns[i].ask("last")
	})
	p.gone(before)
	if s := p.status().Results[HTTP1]; s[Served] != uint64(2*idle+3*active) {
		t.Errorf("results %v", s)
	}
}

// WebSockets, which cost what TLS connections do.
func TestManyUpgraded(t *testing.T) {
	n := 2000
	if testing.Short() || raceEnabled {
		n /= 10
	}
	p := startServer(t)
	before := p.status()
	conns := make([]*testConn, n)
	many(t, n, 50, func(i int) (err error) {
		c, err := connect(p.http)
		if err != nil {
			return err
		}
		conns[i] = c
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		if a, err := http.ReadResponse(c.r, nil); err != nil || a.StatusCode != 101 {
			return fmt.Errorf("%+v, %w", a, err)
		}
		if line, err := c.r.ReadString('\n'); line != "hello\n" {
			return fmt.Errorf("%q, %w", line, err)
		}
		return nil
	})
	var now status
	eventually(t, "upgraded connections cost nothing but themselves", func() bool {
		now = p.status()
		return now.Connections == n && now.Descriptors-before.Descriptors <= 2*n+20 && now.Goroutines-before.Goroutines <= 20
	})
	t.Logf("%d upgraded connections: %d descriptors and %d goroutines more, %.2f KB each", n, now.Descriptors-before.Descriptors,
		now.Goroutines-before.Goroutines, float64(now.RSS-before.RSS)/float64(n))
	many(t, n, 50, func(i int) error {
		defer conns[i].Close()
		fmt.Fprintln(conns[i], i)
		if line, err := conns[i].r.ReadString('\n'); line != fmt.Sprintln(i) {
			return fmt.Errorf("%q, %w", line, err)
		}
		return nil
	})
	p.gone(before)
}

// Idle connections of TLS, active ones at once, and nothing is left. The VM says
// everything back, the hello first.
func TestManyTLS(t *testing.T) {
	const active = 500
	idle := idleClients(t, active, 2)
	hello := firstWords(t)
	p := startServer(t)
	before := p.status()
	say := func(c *testConn, what string) error {
		go func() { _, _ = io.WriteString(c, what) }()
		got := make([]byte, len(what))
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != what {
			return fmt.Errorf("%d bytes came back wrong: %w", len(got), err)
		}
		return nil
	}
	conns := make([]*testConn, idle)
	many(t, idle, 50, func(i int) (err error) {
		if conns[i], err = connect(p.https); err != nil {
			return err
		}
		return say(conns[i], hello)
	})
	now := p.status()
	t.Logf("%d idle connections: %d descriptors and %d goroutines more, %.2f KB each", idle, now.Descriptors-before.Descriptors,
		now.Goroutines-before.Goroutines, float64(now.RSS-before.RSS)/float64(idle))
	if now.Connections != idle || now.Descriptors-before.Descriptors > 2*idle+300 || now.Goroutines-before.Goroutines > 20 {
		t.Errorf("%d open, %d descriptors and %d goroutines more", now.Connections, now.Descriptors-before.Descriptors, now.Goroutines-before.Goroutines)
	}
	body := strings.Repeat("0123456789", 10_000)
	many(t, active, active, func(int) error {
		c, err := connect(p.https)
		if err != nil {
			return err
		}
		defer c.Close()
		return errors.Join(say(c, hello), say(c, body))
	})
	many(t, idle, 50, func(i int) error {
		defer conns[i].Close()
		return say(conns[i], "last")
	})
	p.gone(before)
	if s := p.status().Results[TLS]; s[Served] != uint64(idle+active) {
		t.Errorf("results %v", s)
	}
}

// gone waits until nothing is left of all connections. Of pipes, some are kept.
func (p *process) gone(before status) {
	p.t.Helper()
	var now status
	defer func() {
		if p.t.Failed() {
			p.t.Logf("before %+v, now %+v", before, now)
		}
	}()
	eventually(p.t, "no connection is left, nor a goroutine or descriptor of one", func() bool {
		now = p.status()
		return now.Connections == 0 && now.Goroutines-before.Goroutines <= 4 && now.Descriptors-before.Descriptors <= 300
	})
}

// firstWords is what a client of a.example says first.
func firstWords(t *testing.T) string {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { _ = cryptotls.Client(a, &cryptotls.Config{ServerName: "a.example"}).Handshake() }()
	buffer := make([]byte, 4096)
	n, err := b.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}
