package proxy

import (
	"bufio"
	"context"
	cryptotls "crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"github.com/pires/go-proxyproto"
)

type client struct {
	*cryptotls.Conn
	greeting string
	r        *bufio.Reader
}

func (c *client) echo(t *testing.T) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if s, err := c.r.ReadString('\n'); s != "hello\n" {
		t.Fatalf("echo %q: %v", s, err)
	}
}

// finish closes in both directions, as a client does that has all it wants.
func (c *client) finish(t *testing.T) {
	t.Helper()
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, c.r); err != nil {
		t.Error(err)
	}
	c.Close()
}

// alerted checks what a client says of the alert that it got.
func alerted(t *testing.T, err error, alert string) {
	t.Helper()
	if err == nil || err.Error() != "remote error: tls: "+alert {
		t.Errorf("%v, want the alert %q", err, alert)
	}
}

// dial connects to a VM by way of the server.
func (w *world) dial(to *vm, c *cryptotls.Config) (*client, error) {
	w.t.Helper()
	if to != nil {
		c = c.Clone()
		c.RootCAs = to.roots
	}
	raw, err := net.DialTimeout("tcp", w.at.String(), 20*time.Second)
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(func() { raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	x := cryptotls.Client(raw, c)
	if err := x.Handshake(); err != nil {
		raw.Close()
		return nil, err
	}
	r := bufio.NewReader(x)
	s, err := r.ReadString('\n')
	return &client{x, strings.TrimSuffix(s, "\n"), r}, err
}

func TestTLSVersions(t *testing.T) {
	a := newVM(t, "a", "a.example")
	w := newWorld(t, nil, route("a.example", a.port))
	for _, v := range []uint16{cryptotls.VersionTLS12, cryptotls.VersionTLS13} {
		c, err := w.dial(a, &cryptotls.Config{ServerName: "a.example", MinVersion: v, MaxVersion: v})
		if err != nil {
			t.Fatal(err)
		}
		c.echo(t)
		c.finish(t)
		r := w.expect(Served, "a.example")
		if r.Protocol != TLS || r.Project != "p" || r.Up == 0 || r.Down == 0 || r.Connect == 0 || r.First < r.Connect || r.Took < r.First ||
			r.Backend != netip.AddrPortFrom(loopback6, a.port) || !r.Client.Addr().Is4() {
			t.Errorf("record %+v", r)
		}
	}
	s := w.Stats()
	if s.Results[TLS][Served] != 2 || s.Accepted != 2 || s.Open != 0 || s.Connections != 0 || s.Up[TLS] == 0 {
		t.Errorf("stats %+v", s)
	}
	if top := w.TopRequests(5); len(top) != 1 || top[0] != (HostUse{Host: "a.example", Count: 2}) {
		t.Errorf("top %v", top)
	}
}

func TestTLSNames(t *testing.T) {
	exact, wild := newVM(t, "exact", "www.example.com"), newVM(t, "wild", "*.example.com")
	web := route("port80.example", 0)
	web.HTTP = 80
	w := newWorld(t, nil, route("www.example.com", exact.port), route("*.example.com", wild.port), web)
	for _, c := range []struct {
		name  string
		alpn  string
		vm    *vm
		greet string
	}{
		{"www.example.com", "h2", exact, "exact h2"},
		{"other.example.com", "http/1.1", wild, "wild http/1.1"},
		{"WwW.ExAmPlE.cOm", "acme-tls/1", exact, "exact acme-tls/1"},
		{"example.com", "", nil, ""},
		{"a.b.example.com", "", nil, ""},
		{"port80.example", "", nil, ""},
	} {
		var alpn []string
		if c.alpn != "" {
			alpn = []string{c.alpn}
		}
		x, err := w.dial(c.vm, &cryptotls.Config{ServerName: c.name, NextProtos: alpn})
		if c.vm == nil {
			alerted(t, err, "unrecognized name")
			w.expect(UnknownHost, c.name)
			continue
		}
		if err != nil || x.greeting != c.greet {
			t.Errorf("%s: %+v, %v", c.name, x, err)
			continue
		}
		x.finish(t)
		w.expect(Served, strings.ToLower(c.name))
	}
	if top := w.TopRequests(9); len(top) != 2 {
		t.Errorf("unknown names are in the top: %v", top)
	}
}

func TestTLSNoName(t *testing.T) {
	w := newWorld(t, nil)
	_, err := w.dial(nil, &cryptotls.Config{InsecureSkipVerify: true})
	alerted(t, err, "unrecognized name")
	w.expect(NoName, "")
}

func TestTLSRouteChange(t *testing.T) {
	old, young := newVM(t, "old", "a.example"), newVM(t, "young", "a.example")
	w := newWorld(t, nil, route("a.example", old.port))
	c := &cryptotls.Config{ServerName: "a.example"}
	before, err := w.dial(old, c)
	if err != nil {
		t.Fatal(err)
	}
	w.routes(route("a.example", young.port))
	after, err := w.dial(young, c)
	if err != nil || after.greeting != "young " {
		t.Fatalf("%+v, %v", after, err)
	}
	before.echo(t)
	w.routes()
	if _, err := w.dial(nil, c); err == nil {
		t.Error("the route is gone and still leads somewhere")
	}
	before.echo(t)
	after.echo(t)
}

func TestTLSBackends(t *testing.T) {
	a := newVM(t, "a", "a.example")
	closed := freePort(t, "::1")
	forbidden := netip.MustParseAddr("2001:db8::1")
	several := func(port uint16, backends ...netip.Addr) routes.Route {
		r := route("a.example", port)
		r.Backends = backends
		return r
	}
	w := newWorld(t, func(c *Config) {
		c.Reach = func(b netip.Addr) error {
			if b == forbidden {
				return errors.New("not in vm_prefixes")
			}
			return nil
		}
	})
	c := &cryptotls.Config{ServerName: "a.example"}
	w.routes(several(a.port, forbidden, loopback6))
	x, err := w.dial(a, c)
	if err != nil {
		t.Fatal("one of two backends is forbidden: ", err)
	}
	x.finish(t)
	w.expect(Served, "a.example")
	for _, z := range []struct {
		r    routes.Route
		want Result
	}{
		{several(a.port, forbidden), Forbidden},
		{several(closed, loopback6), Unreachable},
	} {
		w.routes(z.r)
		_, err := w.dial(a, c)
		alerted(t, err, "internal error")
		w.expect(z.want, "a.example")
	}
}

func TestTLSProxyHeader(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := route("a.example", l.Addr().(*net.TCPAddr).AddrPort().Port())
	for _, version := range []routes.Header{routes.HeaderV1, routes.HeaderV2} {
		r.Header = version
		w := newWorld(t, nil, r)
		go func() { _, _ = w.dial(nil, &cryptotls.Config{ServerName: "a.example"}) }()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		b := bufio.NewReader(c)
		h, err := proxyproto.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		next, err := b.Peek(1)
		if err != nil || next[0] != 22 {
			t.Errorf("v%d: % x, %v follows instead of the hello", version, next, err)
		}
		c.Close()
		rec := w.record()
		if h.Version != byte(version) || h.SourceAddr.String() != rec.Client.String() || h.DestinationAddr.String() != w.at.String() {
			t.Errorf("header %+v, want from %v to %v", h, rec.Client, w.at)
		}
	}
}

func TestTLSLimits(t *testing.T) {
	a := newVM(t, "a", "a.example", "b.example")
	b := route("b.example", a.port)
	w := newWorld(t, func(c *Config) {
		c.Limits = Limits{Connections: 1000, ConnectionsPerClient: 4, ConnectionsPerHost: 2, ConnectionsPerProject: 3}
	}, route("a.example", a.port), b)
	open := func(name string, want Result, why string) *client {
		t.Helper()
		c, err := w.dial(a, &cryptotls.Config{ServerName: name})
		if want != Served {
			if err == nil {
				t.Fatalf("one too many for %s gets in", name)
			}
			if r := w.record(); r.Result != want || r.Why != why {
				t.Errorf("record: %v (%s), want %v (%s)", r.Result, r.Why, want, why)
			}
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	list := []*client{open("a.example", Served, ""), open("a.example", Served, "")}
	open("a.example", TooMany, "connections to this host")
	list = append(list, open("b.example", Served, ""))
	open("b.example", TooMany, "connections to this project")
	idle, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	_, _ = idle.Write([]byte{22})
	eventually(t, "4 connections", func() bool { return w.Stats().Connections == 4 })
	open("a.example", TooMany, "connections of this client")
	for _, c := range list {
		c.echo(t)
		c.finish(t)
		w.record()
	}
	idle.Close()
	w.expect(BrokenByUser, "")
	open("b.example", Served, "").Close()
	eventually(t, "all gone", func() bool { return w.Stats().Connections == 0 })
	w.empty()
	if n := w.Stats().Results[TLS][TooMany]; n != 3 {
		t.Errorf("%d refused by limits, want 3", n)
	}
}

func TestTLSSlowHello(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Timeouts.Hello = 50 * time.Millisecond })
	c, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte{22, 3})
	w.expect(SlowUser, "")
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if b, err := io.ReadAll(c); err != nil && !errors.Is(err, syscall.ECONNRESET) || len(b) > 0 {
		t.Errorf("answer %q, %v", b, err)
	}
}

// A second server may listen before the first has stopped, and what that one has
// goes on.
func TestTLSTakeover(t *testing.T) {
	a := newVM(t, "a", "a.example")
	w := newWorld(t, nil, route("a.example", a.port))
	x, err := w.dial(a, &cryptotls.Config{ServerName: "a.example"})
	if err != nil {
		t.Fatal(err)
	}
	second := newWorld(t, func(c *Config) { c.HTTPS[0] = w.at }, route("a.example", a.port))
	second.at = w.at
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { w.Shutdown(ctx); close(done) }()
	eventually(t, "the second serves all", func() bool {
		before := second.Stats().Accepted
		for range 5 {
			y, err := w.dial(a, &cryptotls.Config{ServerName: "a.example"})
			if err != nil {
				return false
			}
			y.Close()
		}
		return second.Stats().Accepted == before+5
	})
	x.echo(t)
	select {
	case <-done:
		t.Fatal("shut down with a connection that is open")
	default:
	}
	cancel()
	<-done
	if _, err := x.r.ReadByte(); err == nil {
		t.Error("the connection is still there")
	}
}
