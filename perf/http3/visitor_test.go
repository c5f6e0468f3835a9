package http3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// nat is a visitor's socket whose address changes under it, as behind a NAT that
// has forgotten a mapping.
type nat struct {
	w   *world
	at  string
	now atomic.Pointer[net.UDPConn]
	all []*net.UDPConn
}

func (w *world) nat(at string) *nat {
	w.t.Helper()
	n := &nat{w: w, at: at}
	n.rebind()
	w.t.Cleanup(func() { n.Close() })
	return n
}

// rebind takes another port. Who waits for the old one's datagrams gets no more.
func (n *nat) rebind() {
	n.w.t.Helper()
	c, err := n.w.visitor.ListenPacket("udp", net.JoinHostPort(n.at, "0"))
	must(n.w.t, err)
	u := c.(*net.UDPConn)
	n.all = append(n.all, u)
	if old := n.now.Swap(u); old != nil {
		_ = old.SetReadDeadline(time.Unix(1, 0))
	}
}

func (n *nat) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		c := n.now.Load()
		k, a, err := c.ReadFrom(b)
		if err == nil || c == n.now.Load() {
			return k, a, err
		}
	}
}

func (n *nat) WriteTo(b []byte, to net.Addr) (int, error) {
	return n.now.Load().WriteTo(b, to)
}

func (n *nat) Close() error {
	for _, c := range n.all {
		c.Close()
	}
	return nil
}
func (n *nat) LocalAddr() net.Addr                { return n.now.Load().LocalAddr() }
func (n *nat) SetDeadline(t time.Time) error      { return n.now.Load().SetDeadline(t) }
func (n *nat) SetReadDeadline(t time.Time) error  { return n.now.Load().SetReadDeadline(t) }
func (n *nat) SetWriteDeadline(t time.Time) error { return n.now.Load().SetWriteDeadline(t) }

// browser is an HTTP/3 client, all of whose hosts are the proxy.
type browser struct {
	*http.Client
	w     *world
	conns atomic.Int64
	last  *quic.Conn
}

func (w *world) browser(c net.PacketConn, proxy string, roots *x509.CertPool, version quic.Version) *browser {
	w.t.Helper()
	b := &browser{w: w}
	tr := &quic.Transport{Conn: c}
	h := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		QUICConfig: &quic.Config{Versions: []quic.Version{version}, HandshakeIdleTimeout: patience,
			MaxIdleTimeout: patience},
		Dial: func(ctx context.Context, _ string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
			b.conns.Add(1)
			x, err := tr.DialEarly(ctx, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(net.JoinHostPort(proxy, "443"))), t, q)
			if err == nil {
				b.last = x
			}
			return x, err
		},
	}
	b.Client = &http.Client{Transport: h, Timeout: patience}
	w.t.Cleanup(func() { h.Close(); tr.Close(); c.Close() })
	return b
}

// packets is a visitor's socket.
func (w *world) packets(at string) net.PacketConn {
	w.t.Helper()
	c, err := w.visitor.ListenPacket("udp", net.JoinHostPort(at, "0"))
	must(w.t, err)
	return c
}

func (b *browser) get(url string) (string, error) {
	r, err := b.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return string(body), err
}

func (b *browser) expect(url, want string) {
	b.w.t.Helper()
	if got, err := b.get(url); err != nil || got != want {
		b.w.t.Errorf("%s: %.100q, %v; want %.100q", url, got, err, want)
	}
}
