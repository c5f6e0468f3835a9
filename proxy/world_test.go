package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	cryptotls "crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
)

var loopback6 = netip.MustParseAddr("::1")

// world is a server and what it has said of its visitors.
type world struct {
	*Server
	t     *testing.T
	at    netip.AddrPort // HTTPS, and QUIC if there is
	table *routes.Table

	mu      sync.Mutex
	records []Record
}

// freePort is one that nothing has, in TCP and UDP.
func freePort(t *testing.T, host string) uint16 {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		l.Close()
		if err == nil {
			u.Close()
			return at.Port()
		}
	}
	t.Fatal("no port is free")
	return 0
}

// newWorld starts a server on 127.0.0.1, whose backends may be at ::1.
func newWorld(t *testing.T, change func(*Config), list ...routes.Route) *world {
	t.Helper()
	w := &world{t: t, table: &routes.Table{}, at: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), freePort(t, "127.0.0.1"))}
	w.routes(list...)
	c := Config{
		HTTPS: []netip.AddrPort{w.at}, Routes: w.table,
		Reach: func(netip.Addr) error { return nil },
		Access: func(r *Record) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.records = append(w.records, *r)
		},
		Limits: Limits{Connections: 1000, QUICFlows: 1000},
	}
	if change != nil {
		change(&c)
	}
	var err error
	if w.Server, err = New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		w.Shutdown(ctx)
		w.empty()
	})
	return w
}

func (w *world) routes(list ...routes.Route) {
	w.t.Helper()
	s, err := routes.NewSnapshot(1, list)
	if err != nil {
		w.t.Fatal(err)
	}
	w.table.Store(s)
}

func (w *world) empty() {
	w.t.Helper()
	w.limiter.expectEmpty(w.t)
}

// expectEmpty fails if the limiter still counts something.
func (l *limiter) expectEmpty(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != 0 || len(l.clients)+len(l.hosts)+len(l.projects) > 0 {
		t.Errorf("counted as open at the end: %d connections, clients %v, hosts %v, projects %v", l.open, l.clients, l.hosts, l.projects)
	}
}

// record waits for the only record, and forgets it.
func (w *world) record() Record {
	w.t.Helper()
	var r Record
	eventually(w.t, "a record", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.records) == 0 {
			return false
		}
		r, w.records = w.records[0], w.records[1:]
		return true
	})
	return r
}

func (w *world) expect(want Result, host string) Record {
	w.t.Helper()
	r := w.record()
	if r.Result != want || r.Host != host {
		w.t.Errorf("record: %v for %q (%s), want %v for %q", r.Result, r.Host, r.Why, want, host)
	}
	return r
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func route(host string, port uint16) routes.Route {
	return routes.Route{Host: host, Project: "p", Backends: []netip.Addr{loopback6}, HTTPS: port}
}

// certificate is for all the names, signed by itself.
func certificate(t *testing.T, names ...string) (cryptotls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vm"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if x, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(x)
	return cryptotls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// vm is a TLS server that says its name, and then what it is told.
type vm struct {
	port  uint16
	roots *x509.CertPool
}

func newVM(t *testing.T, name string, hosts ...string) *vm {
	t.Helper()
	cert, pool := certificate(t, hosts...)
	l, err := cryptotls.Listen("tcp", "[::1]:0", &cryptotls.Config{
		Certificates: []cryptotls.Certificate{cert}, NextProtos: []string{"acme-tls/1", "h2", "http/1.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if c.(*cryptotls.Conn).Handshake() != nil {
					return
				}
				fmt.Fprintf(c, "%s %s\n", name, c.(*cryptotls.Conn).ConnectionState().NegotiatedProtocol)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return &vm{port: l.Addr().(*net.TCPAddr).AddrPort().Port(), roots: pool}
}
