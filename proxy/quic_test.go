package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	cryptotls "crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/sniff"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// newQUICVM is an HTTP/3 server that says its name and how it was reached, and
// gives back what it is sent.
func newQUICVM(t *testing.T, name string, hosts ...string) *vm {
	t.Helper()
	cert, pool := certificate(t, hosts...)
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	s := &http3.Server{
		TLSConfig:  http3.ConfigureTLSConfig(&cryptotls.Config{Certificates: []cryptotls.Certificate{cert}}),
		QUICConfig: &quic.Config{Allow0RTT: true, Versions: []quic.Version{quic.Version1, quic.Version2}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				_, _ = io.Copy(w, r.Body)
				return
			}
			fmt.Fprintf(w, "%s %v", name, !r.TLS.HandshakeComplete)
		}),
	}
	go func() { _ = s.Serve(c) }()
	t.Cleanup(func() { s.Close(); c.Close() })
	return &vm{port: c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), roots: pool}
}

func newQUICWorld(t *testing.T, change func(*Config), list ...routes.Route) *world {
	t.Helper()
	w := newWorld(t, func(c *Config) {
		c.QUIC, c.HTTPS = c.HTTPS, nil
		if change != nil {
			change(c)
		}
	}, list...)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		w.Shutdown(ctx)
		w.quic().limiter.expectEmpty(t)
		if s := w.Stats().QUIC; s.Flows != 0 || s.Pending != 0 {
			t.Errorf("left at the end: %+v", s)
		}
	})
	return w
}

func (w *world) quic() *quicPart { return w.parts[0].(*quicPart) }

// visitor is an HTTP/3 client whose every host is the server.
type visitor struct {
	*http.Client
	tr    *quic.Transport
	conns []*quic.Conn
}

func (w *world) visitor(to *vm, version quic.Version) *visitor {
	w.t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		w.t.Fatal(err)
	}
	v := &visitor{tr: &quic.Transport{Conn: c}}
	h := &http3.Transport{
		TLSClientConfig: &cryptotls.Config{ClientSessionCache: cryptotls.NewLRUClientSessionCache(10)},
		QUICConfig:      &quic.Config{Versions: []quic.Version{version}, HandshakeIdleTimeout: 10 * time.Second},
		Dial: func(ctx context.Context, _ string, t *cryptotls.Config, q *quic.Config) (*quic.Conn, error) {
			x, err := v.tr.DialEarly(ctx, net.UDPAddrFromAddrPort(w.at), t, q)
			if err == nil {
				v.conns = append(v.conns, x)
			}
			return x, err
		},
	}
	if to != nil {
		h.TLSClientConfig.RootCAs = to.roots
	}
	v.Client = &http.Client{Transport: h, Timeout: 20 * time.Second}
	w.t.Cleanup(func() { h.Close(); v.tr.Close(); c.Close() })
	return v
}

func (v *visitor) get(t *testing.T, host string) string {
	t.Helper()
	r, err := v.Get("https://" + host + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestQUICVersions(t *testing.T) {
	a := newQUICVM(t, "a", "a.example")
	w := newQUICWorld(t, nil, route("a.example", a.port))
	for _, version := range []quic.Version{quic.Version1, quic.Version2} {
		v := w.visitor(a, version)
		if s := v.get(t, "a.example"); s != "a false" && s != "a true" {
			t.Errorf("%v: %q", version, s)
		}
		body := make([]byte, 3<<20)
		_, _ = rand.Read(body)
		r, err := v.Post("https://a.example/", "", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%v: %d bytes come back, %v", version, len(got), err)
		}
	}
	if s := w.Stats().QUIC; s.Flows != 2 || s.Pending != 0 {
		t.Errorf("%+v", s)
	}
}

// Two hosts by way of one client's port are two flows.
func TestQUICTwoHostsOnePort(t *testing.T) {
	a := newQUICVM(t, "a", "a.example", "b.example")
	b := newQUICVM(t, "b", "a.example", "b.example")
	w := newQUICWorld(t, nil, route("a.example", a.port), route("b.example", b.port))
	v := w.visitor(nil, quic.Version1)
	v.Transport.(*http3.Transport).TLSClientConfig.InsecureSkipVerify = true
	for range 3 {
		if s := v.get(t, "a.example"); s[:1] != "a" {
			t.Errorf("a: %q", s)
		}
		if s := v.get(t, "b.example"); s[:1] != "b" {
			t.Errorf("b: %q", s)
		}
	}
	if s := w.Stats().QUIC; s.Flows != 2 {
		t.Errorf("%+v", s)
	}
}

func TestQUICResumption(t *testing.T) {
	a := newQUICVM(t, "a", "a.example")
	w := newQUICWorld(t, nil, route("a.example", a.port))
	v := w.visitor(a, quic.Version1)
	v.get(t, "a.example")
	for i := range 2 {
		// The ticket comes after the handshake.
		time.Sleep(20 * time.Millisecond)
		v.Transport.(*http3.Transport).CloseIdleConnections()
		req, err := http.NewRequest(http3.MethodGet0RTT, "https://a.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := v.Do(req)
		if err != nil {
			t.Fatal(i, err)
		}
		r.Body.Close()
	}
	used := false
	for _, c := range v.conns[1:] {
		used = used || c.ConnectionState().Used0RTT
	}
	if !used {
		t.Error("no connection has used 0-RTT")
	}
}

func (w *world) refusedBy(host string, alert sniff.Alert) {
	w.t.Helper()
	_, err := w.visitor(nil, quic.Version1).Get("https://" + host + "/")
	var e *quic.TransportError
	if !errors.As(err, &e) || !e.Remote || e.ErrorCode != quic.TransportErrorCode(0x100+int(alert)) {
		w.t.Errorf("%s: %v, want the alert %d", host, err, alert)
	}
}

func TestQUICRefusals(t *testing.T) {
	forbidden := netip.MustParseAddr("2001:db8::1")
	far := route("far.example", 443)
	far.Backends = []netip.Addr{forbidden}
	w := newQUICWorld(t, func(c *Config) {
		c.Reach = func(a netip.Addr) error {
			if a == forbidden {
				return errors.New("not in vm_prefixes")
			}
			return nil
		}
	}, route("down.example", freePort(t, "::1")), far)
	w.refusedBy("unknown.example", sniff.UnrecognizedName)
	w.expect(UnknownHost, "unknown.example")
	w.refusedBy("down.example", sniff.InternalError)
	w.expect(Unreachable, "down.example")
	w.refusedBy("far.example", sniff.InternalError)
	w.expect(Forbidden, "far.example")
}

// A backend that refuses is followed by the next one.
func TestQUICNextBackend(t *testing.T) {
	a := newQUICVM(t, "a", "a.example")
	r := route("a.example", a.port)
	r.Backends = []netip.Addr{netip.MustParseAddr("fe80::1"), loopback6}
	w := newQUICWorld(t, nil, r)
	if s := w.visitor(a, quic.Version1).get(t, "a.example"); s[:1] != "a" {
		t.Errorf("%q", s)
	}
}

func TestQUICVersionNegotiation(t *testing.T) {
	w := newQUICWorld(t, nil)
	c, err := net.Dial("udp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 1200)
	copy(b, "\xc0\x6b\x33\x43\xaa\x08DESTDEST\x08SOURCESO")
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	got := make([]byte, 2000)
	n, err := c.Read(got)
	if err != nil || !bytes.HasPrefix(got[1:n], []byte("\x00\x00\x00\x00\x08SOURCESO\x08DESTDEST")) {
		t.Errorf("answer % x, %v", got[:n], err)
	}
	if s := w.Stats().QUIC; s.Versions != 1 || s.Flows != 0 {
		t.Errorf("%+v", s)
	}
}

// hello is what a client sends first for a host: its datagrams, in order.
func helloOf(t *testing.T, host string) [][]byte {
	t.Helper()
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	source, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	tr := &quic.Transport{Conn: source, ConnectionIDLength: 4}
	defer tr.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = tr.Dial(ctx, sink.LocalAddr(), &cryptotls.Config{ServerName: host, NextProtos: []string{"h3"}}, nil)
	}()
	var list [][]byte
	_ = sink.SetReadDeadline(time.Now().Add(20 * time.Second))
	for range 2 {
		b := make([]byte, 2000)
		n, err := sink.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b[:n])
	}
	return list
}

// A hello with a post-quantum key share has two datagrams, in any order. The
// first alone waits in bounded memory, and so does a flow that nobody confirms.
func TestQUICFlood(t *testing.T) {
	a := newQUICVM(t, "a", "a.example")
	w := newQUICWorld(t, func(c *Config) {
		c.Limits.QUICPending, c.Limits.QUICFlows, c.Limits.QUICFlowsPerClient = 20, 40, 1000
	}, route("a.example", a.port))
	h := helloOf(t, "a.example")
	from := func(i int) net.Conn {
		// Another address each time, as who sends with others' addresses does.
		local := &net.UDPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}
		c, err := net.DialUDP("udp4", local, net.UDPAddrFromAddrPort(w.at))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i := range 500 {
		c := from(i)
		_, _ = c.Write(h[i%2])
		c.Close()
		if s := w.Stats().QUIC; s.Pending > 20+1 || s.Flows > 40 {
			t.Fatalf("%+v", s)
		}
	}
	eventually(t, "hellos are evicted", func() bool { return w.Stats().QUIC.Evicted > 400 })
	for i := range 200 {
		c := from(1000 + i)
		_, _ = c.Write(h[1])
		_, _ = c.Write(h[0])
		c.Close()
		if s := w.Stats().QUIC; s.Flows > 40 {
			t.Fatalf("%+v", s)
		}
	}
	// Meanwhile a real client gets in, and stays.
	v := w.visitor(a, quic.Version1)
	v.get(t, "a.example")
	for i := range 200 {
		c := from(2000 + i)
		_, _ = c.Write(h[0])
		_, _ = c.Write(h[1])
		c.Close()
	}
	v.get(t, "a.example")
	if len(v.conns) != 1 {
		t.Errorf("the client had to connect %d times", len(v.conns))
	}
}

func TestQUICClientLimit(t *testing.T) {
	a := newQUICVM(t, "a", "a.example")
	w := newQUICWorld(t, func(c *Config) { c.Limits.QUICFlowsPerClient = 1 }, route("a.example", a.port))
	v := w.visitor(a, quic.Version1)
	v.get(t, "a.example")
	other := w.visitor(a, quic.Version1)
	other.Timeout = 300 * time.Millisecond
	if _, err := other.Get("https://a.example/"); err == nil {
		t.Error("a second flow gets in")
	}
	if r := w.expect(TooMany, ""); r.Why != "connections of this client" {
		t.Errorf("why %q", r.Why)
	}
	v.get(t, "a.example")
}

// A client whose address changes keeps its connection if it keeps a connection
// id that was in the clear once, and does not harm it if it moves on purpose.
func TestQUICNewAddress(t *testing.T) {
	// 8 bytes, so that they are not found by chance: quic-go's own servers have 4.
	cert, pool := certificate(t, "a.example")
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tr := &quic.Transport{Conn: c, ConnectionIDLength: 8}
	defer tr.Close()
	l, err := tr.Listen(&cryptotls.Config{Certificates: []cryptotls.Certificate{cert}, NextProtos: []string{"echo"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			x, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				if s, err := x.AcceptStream(context.Background()); err == nil {
					_, _ = io.Copy(s, s)
				}
			}()
		}
	}()
	w := newQUICWorld(t, nil, route("a.example", c.LocalAddr().(*net.UDPAddr).AddrPort().Port()))
	socket := func() *net.UDPConn {
		u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { u.Close() })
		return u
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	mine := &quic.Transport{Conn: socket()}
	defer mine.Close()
	x, err := mine.Dial(ctx, net.UDPAddrFromAddrPort(w.at), &cryptotls.Config{ServerName: "a.example", RootCAs: pool, NextProtos: []string{"echo"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := x.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	echo := func() {
		t.Helper()
		_ = s.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := s.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(s, b); err != nil || string(b) != "hello" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	echo()
	next := &quic.Transport{Conn: socket()}
	defer next.Close()
	p, err := x.AddPath(next)
	if err != nil {
		t.Fatal(err)
	}
	soon, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if err := p.Probe(soon); err == nil {
		t.Error("a probe with a connection id that nobody knows got through")
	}
	echo()

	// The kernel's view of a NAT that has forgotten: the same bytes from a new port.
	q := w.quic()
	q.known.mu.RLock()
	var id string
	for k := range q.known.flows {
		id = k
	}
	f := q.known.flows[id]
	q.known.mu.RUnlock()
	if f == nil {
		t.Fatal("the backend's connection id is not known")
	}
	before := w.Stats().QUIC.Moved
	other := socket()
	if _, err := other.WriteToUDPAddrPort(append([]byte("\x40"+id), make([]byte, 30)...), w.at); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the datagram is the flow's", func() bool { return w.Stats().QUIC.Moved == before+1 })
	echo() // the client's next one moves it back
}

// A flow goes on while the server drains, and others go to the next server.
func TestQUICDrain(t *testing.T) {
	a := newQUICVM(t, "a", "a.example")
	w := newQUICWorld(t, nil, route("a.example", a.port))
	v := w.visitor(a, quic.Version1)
	v.get(t, "a.example")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() { w.Shutdown(ctx); close(done) }()
	eventually(t, "the listeners are closed", func() bool {
		for _, l := range w.quic().loops {
			over := make(chan bool, 1)
			if !l.do(func() { over <- len(l.listeners) == 0 }) {
				continue
			}
			if !<-over {
				return false
			}
		}
		return true
	})
	second := newQUICWorld(t, func(c *Config) { c.QUIC[0] = w.at }, route("a.example", a.port))
	second.at = w.at
	for range 10 {
		second.visitor(a, quic.Version1).get(t, "a.example")
	}
	if n := second.Stats().QUIC.Flows; n != 10 {
		t.Errorf("%d flows at the second server, want 10", n)
	}
	v.get(t, "a.example")
	if len(v.conns) != 1 {
		t.Errorf("the first client had to connect %d times", len(v.conns))
	}
	select {
	case <-done:
		t.Fatal("shut down with a flow that is open")
	default:
	}
	cancel()
	<-done
	w.expect(Stopped, "a.example")
}
