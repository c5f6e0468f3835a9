package proxy

import (
	"context"
	cryptotls "crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

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
