package http3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

var (
	both   = []quic.Version{quic.Version1, quic.Version2}
	newest = []quic.Version{quic.Version2}
)

// everyone is the servers of all routes. They trust each other's visitors.
func (w *world) everyone() *x509.CertPool {
	w.t.Helper()
	hosts := []string{"a.example", "b.example", "retry.example", "second.example", "closed.example", "v2.example"}
	cert, roots := certificate(w.t, hosts...)
	w.serve(w.vm, "a", "["+vmAddr+"]:443", cert, both, false)
	w.serve(w.other, "b", "["+otherAddr+"]:443", cert, both, false)
	w.serve(w.vm, "retry", "["+vmAddr+"]:444", cert, both, true)
	w.serve(w.vm, "v2", "["+vmAddr+"]:445", cert, newest, false)
	return roots
}

// TestVisitors: pages, uploads and downloads by both versions of QUIC and of IP.
// The hello has a post-quantum key share and takes two packets.
func TestVisitors(t *testing.T) {
	w := newWorld(t, "[proxy.timeouts]\nconnect = '1s'\n")
	roots := w.everyone()
	w.start()
	for _, way := range []struct{ name, at, proxy string }{{"IPv4", visitor4, proxy4}, {"IPv6", visitor6, proxy6}} {
		for _, version := range both {
			t.Run(way.name+" "+version.String(), func(t *testing.T) {
				w := w.in(t)
				b := w.browser(w.packets(way.at), way.proxy, roots, version)
				b.expect("https://a.example/", "a for a.example")
				if v := b.last.ConnectionState(); v.Version != version || v.TLS.CurveID != tls.X25519MLKEM768 {
					t.Errorf("version %v, key exchange %v", v.Version, v.TLS.CurveID)
				}
				b.expect("https://a.example/?n=5000000", strings.Repeat("\x00", 5000000))
				body := make([]byte, 3<<20)
				_, _ = rand.Read(body)
				r, err := b.Post("https://a.example/", "", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				defer r.Body.Close()
				if got, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d of %d bytes come back, %v", len(got), len(body), err)
				}
			})
		}
		t.Run(way.name+" Retry", func(t *testing.T) {
			w := w.in(t)
			b := w.browser(w.packets(way.at), way.proxy, roots, quic.Version1)
			b.expect("https://retry.example/", "retry for retry.example")
		})
		t.Run(way.name+" Version Negotiation by the VM", func(t *testing.T) {
			w := w.in(t)
			tr := &quic.Transport{Conn: w.packets(way.at)}
			defer tr.Close()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(way.proxy), 443))
			c, err := tr.Dial(ctx, at, &tls.Config{RootCAs: roots, ServerName: "v2.example", NextProtos: []string{"h3"}}, &quic.Config{Versions: both})
			if err != nil {
				t.Fatal(err)
			}
			if v := c.ConnectionState().Version; v != quic.Version2 {
				t.Errorf("version %v", v)
			}
			_ = c.CloseWithError(0, "")
		})
		t.Run(way.name+" the first VM is silent", func(t *testing.T) {
			w := w.in(t)
			b := w.browser(w.packets(way.at), way.proxy, roots, quic.Version1)
			b.expect("https://second.example/", "a for second.example")
		})
		t.Run(way.name+" the first VM's port is closed", func(t *testing.T) {
			w := w.in(t)
			b := w.browser(w.packets(way.at), way.proxy, roots, quic.Version1)
			b.expect("https://closed.example/", "retry for closed.example")
		})
		t.Run(way.name+" unknown name", func(t *testing.T) {
			w := w.in(t)
			b := w.browser(w.packets(way.at), way.proxy, roots, quic.Version1)
			began := time.Now()
			_, err := b.get("https://unknown.example/")
			const unrecognizedName = 0x100 + 112 // RFC 9001 4.8
			var e *quic.TransportError
			if !errors.As(err, &e) || !e.Remote || e.ErrorCode != unrecognizedName {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
		t.Run(way.name+" two projects from one port", func(t *testing.T) {
			w := w.in(t)
			b := w.browser(w.packets(way.at), way.proxy, roots, quic.Version1)
			b.expect("https://a.example/", "a for a.example")
			var e *quic.TransportError
			if _, err := b.get("https://b.example/"); !errors.As(err, &e) || e.ErrorCode != quic.ConnectionRefused {
				t.Errorf("%v", err)
			}
			b.expect("https://retry.example/", "retry for retry.example") // of the same project
			b.expect("https://a.example/", "a for a.example")
			other := w.browser(w.packets(way.at), way.proxy, roots, quic.Version1)
			other.expect("https://b.example/", "b for b.example")
		})
		t.Run(way.name+" a NAT changes the port", func(t *testing.T) {
			w := w.in(t)
			c := w.nat(way.at)
			b := w.browser(c, way.proxy, roots, quic.Version1)
			for range 5 {
				b.expect("https://a.example/", "a for a.example")
				c.rebind()
				b.expect("https://a.example/?n=100000", strings.Repeat("\x00", 100000))
			}
			if n := b.conns.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
	if w.metric(event("moved")) == 0 {
		t.Error("no datagram came from a new address")
	}
}

// TestMoving: a client that moves on purpose takes a connection id that nobody
// else knows (RFC 9000 9.5). The new path gets no answer, the old one goes on.
func TestMoving(t *testing.T) {
	w := newWorld(t, "")
	roots := w.everyone()
	w.start()
	b := w.browser(w.packets(visitor4), proxy4, roots, quic.Version1)
	b.expect("https://a.example/", "a for a.example")
	next := &quic.Transport{Conn: w.packets(visitor4)}
	defer next.Close()
	p, err := b.last.AddPath(next)
	must(t, err)
	strays := w.metric(event("stray"))
	probed := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { probed <- p.Probe(ctx) }()
	w.until("the probe is counted as stray", func() bool { return w.metric(event("stray")) > strays })
	stop()
	if err := <-probed; err == nil {
		t.Error("the probe was answered")
	}
	b.expect("https://a.example/", "a for a.example")
	if n := b.conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestRouteRemoved: what is open goes on, what is new is refused.
func TestRouteRemoved(t *testing.T) {
	w := newWorld(t, "")
	roots := w.everyone()
	w.start()
	b := w.browser(w.packets(visitor4), proxy4, roots, quic.Version1)
	b.expect("https://a.example/", "a for a.example")
	w.replace(w.routesFile, strings.Replace(routesOfAll, "a.example", "gone.example", 1))
	w.until("new connections are refused", func() bool {
		c := w.browser(w.packets(visitor4), proxy4, roots, quic.Version1)
		_, err := c.get("https://a.example/")
		var e *quic.TransportError
		return errors.As(err, &e) && e.ErrorCode == 0x100+112
	})
	b.expect("https://a.example/?n=100000", strings.Repeat("\x00", 100000))
	if n := b.conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestTakeover: a new process takes over. Flows of the old one go on until they
// end, new ones are the new one's, and the old one ends when its last has.
func TestTakeover(t *testing.T) {
	w := newWorld(t, "drain_timeout = '1m'\n[proxy.timeouts]\nquic_idle = '4s'\n")
	roots := w.everyone()
	old := w.start()
	b := w.browser(w.packets(visitor4), proxy4, roots, quic.Version1)
	b.expect("https://a.example/", "a for a.example")
	w.replace(w.file, strings.Replace(w.config, "[::1]:9464", "[::1]:9465", 1))
	next := w.start()
	must(t, old.Cmd.Process.Signal(syscall.SIGTERM))
	w.metrics = "[::1]:9465"
	w.until("the new process has five of its own", func() bool {
		c := w.browser(w.packets(visitor4), proxy4, roots, quic.Version1)
		c.expect("https://b.example/", "b for b.example")
		b.expect("https://a.example/?n=100000", strings.Repeat("\x00", 100000))
		return w.metric(`isthmus_proxy_connections{listener="quic"}`) >= 5
	})
	if n := b.conns.Load(); n != 1 {
		t.Errorf("%d connections through the old process, want 1", n)
	}
	if ended(old) {
		t.Fatalf("the old process has ended before its flow; it said\n%s", old.Said())
	}
	w.until("the old process ends after its flow's silence", func() bool { return ended(old) })
	if old.Err != nil {
		t.Errorf("the old process: %v; it said\n%s", old.Err, old.Said())
	}
	if ended(next) {
		t.Errorf("the new process has ended; it said\n%s", next.Said())
	}
}

// TestFlood: hellos from forged addresses fill what is set apart for them and no
// more, and a visitor goes on meanwhile.
func TestFlood(t *testing.T) {
	const flows, pending = 200, 50
	w := newWorld(t, "[proxy.limits]\nquic_flows = 200\nquic_pending = 50\nquic_flows_per_client = 1000\n")
	roots := w.everyone()
	p := w.start()
	b := w.browser(w.packets(visitor4), proxy4, roots, quic.Version1)
	b.expect("https://a.example/", "a for a.example")
	whole, half := w.hello("a.example", 2), w.hello("a.example", 1)
	memory := func() int64 {
		n, _, err := p.Memory()
		must(t, err)
		return n
	}
	raw := w.forger()
	flood := func(rounds int) {
		for i := range rounds {
			raw.send(whole, i)
			raw.send(half, i+1<<20)
			if i%500 == 499 {
				b.expect("https://a.example/?n=20000", strings.Repeat("\x00", 20000))
				if n := w.metric(`isthmus_proxy_connections{listener="quic"}`); n > flows {
					t.Errorf("%v flows, the limit is %d", n, flows)
				}
				if n := w.metric("isthmus_proxy_quic_pending"); n > pending+float64(runtime.NumCPU()) {
					t.Errorf("%v hellos pending, the limit is %d", n, pending)
				}
			}
		}
	}
	flood(2000)
	first := memory()
	flood(6000)
	last := memory()
	t.Logf("%.0f evicted; memory %d KiB, then %d KiB", w.metric(event("evicted")), first>>10, last>>10)
	if last > first+16<<20 {
		t.Errorf("memory grows from %d to %d bytes", first, last)
	}
	if n := b.conns.Load(); n != 1 {
		t.Errorf("the visitor had to connect %d times", n)
	}
	if w.metric(event("evicted")) < 1000 {
		t.Error("the flood has not arrived")
	}
	c := w.browser(w.packets(visitor4), proxy4, roots, quic.Version1)
	c.expect("https://b.example/", "b for b.example")
}
