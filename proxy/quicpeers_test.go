package proxy

import (
	"context"
	cryptotls "crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
		if k := &w.quic().known; len(k.flows) != 0 || len(k.guests) != 0 {
			t.Errorf("connection ids of %d flows and %d paths left at the end", len(k.flows), len(k.guests))
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

func (w *world) refusedBy(host string, alert sniff.Alert) {
	w.t.Helper()
	_, err := w.visitor(nil, quic.Version1).Get("https://" + host + "/")
	var e *quic.TransportError
	if !errors.As(err, &e) || !e.Remote || e.ErrorCode != quic.TransportErrorCode(0x100+int(alert)) {
		w.t.Errorf("%s: %v, want the alert %d", host, err, alert)
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
