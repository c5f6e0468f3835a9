package proxy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/sniff"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

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
	// Meanwhile a real client gets in, and stays. What is left of the flood may push it out
	// at first, as anybody who has not yet taken turns with the VM.
	v := w.visitor(a, quic.Version1)
	patience := v.Timeout
	v.Timeout = 2 * time.Second
	eventually(t, "a client gets in", func() bool {
		for range turns {
			r, err := v.Get("https://a.example/")
			if err != nil {
				v.Transport.(*http3.Transport).CloseIdleConnections()
				return false
			}
			_, err = io.Copy(io.Discard, r.Body)
			r.Body.Close()
			if err != nil {
				return false
			}
		}
		return true
	})
	v.Timeout = patience
	conns := len(v.conns)
	for i := range 200 {
		c := from(2000 + i)
		_, _ = c.Write(h[0])
		_, _ = c.Write(h[1])
		c.Close()
	}
	v.get(t, "a.example")
	if len(v.conns) != conns {
		t.Errorf("the client had to connect %d times more", len(v.conns)-conns)
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
