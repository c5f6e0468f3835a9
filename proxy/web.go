package proxy

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aarch64.com/isthmus/proxy/relay"
)

// web serves HTTP/1 and, with prior knowledge, HTTP/2: each request on its own, to
// where its host's route leads at that moment. Many hosts on one connection are as
// good over HTTP/2 as over HTTP/1: without TLS there is no certificate that says
// which belong together (RFC 9113 section 9.1.1), and backends know their hosts.
//
//	event loops: accept, wait ─ first bytes ─▶ net/http ─ upgraded ─▶ event loops: relay
//	                    ▲                          │
//	                    └───── idle for a while ───┘
//
// A connection that waits for its client costs a small struct, and no goroutine.
type web struct {
	server *Server
	loops  *relay.Loops
	proxy  httputil.ReverseProxy

	stopped context.Context
	stop    context.CancelFunc

	mu      sync.Mutex
	serving atomic.Pointer[generation]
	former  []*generation // that still have connections

	failed atomic.Uint64 // connections that could not be taken from the loops
	open   atomic.Int64  // connections, but for upgraded ones
	busy   atomic.Int64  // connections that net/http has, requests
	fresh  atomic.Int64  // connections of which net/http has not read a head
}

func openWeb(s *Server, at []netip.AddrPort) (part, error) {
	w := &web{server: s}
	w.stopped, w.stop = context.WithCancel(context.Background())
	w.proxy = httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      roundTripper{},
		FlushInterval:  -1,
		ErrorLog:       log.New(io.Discard, "", 0), // what a client does wrong is in its record
		BufferPool:     bufferPool{},
		ModifyResponse: answered,
		ErrorHandler:   failed,
	}
	first := newGeneration(w)
	w.serving.Store(first)
	var err error
	if w.loops, err = relay.New(s.relayConfig(), at, w); err != nil {
		return nil, err
	}
	go first.serve()
	return w, nil
}

// update implements [part]. Connections get what is new with their next request.
func (w *web) update() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loops.Update(w.server.relayConfig())
	next := newGeneration(w)
	go next.serve()
	old := w.serving.Swap(next)
	old.feed.close()
	kept := w.former[:0]
	for _, g := range append(w.former, old) {
		if g.open.Load() > 0 || g == old {
			kept = append(kept, g)
		}
	}
	w.former = kept
}

func (w *web) stats(s *Stats) {
	r := w.loops.Stats()
	s.AcceptedHTTP, s.OpenHTTP = r.Accepted, w.open.Load()
	s.AcceptFailed += r.AcceptFailed + w.failed.Load()
	s.Up[Upgraded], s.Down[Upgraded] = r.Up, r.Down
}

func (w *web) shutdown(ctx context.Context) {
	w.loops.Silence()
	w.mu.Lock()
	all := append(slices.Clone(w.former), w.serving.Load())
	w.mu.Unlock()
	for _, g := range all {
		g.feed.close()
		<-g.served // net/http has all that were accepted
		g.http.SetKeepAlivesEnabled(false)
	}
	// http.Server.Shutdown loses those whose head it reads meanwhile.
	for end := time.Now().Add(w.server.config().Timeouts.Hello); w.fresh.Load() > 0 && ctx.Err() == nil && time.Now().Before(end); {
		time.Sleep(shutdownPoll)
	}
	var wait sync.WaitGroup
	for _, g := range all {
		wait.Go(func() {
			if g.http.Shutdown(ctx) != nil {
				g.http.Close()
			}
		})
	}
	wait.Wait()
	for w.busy.Load() > 0 {
		if ctx.Err() != nil {
			w.stop()
		}
		time.Sleep(shutdownPoll)
	}
	w.loops.Shutdown(ctx) // of those that have been upgraded
	w.stop()
}

const shutdownPoll = 5 * time.Millisecond

// tooMany is the answer to a connection too many. It is not read which host it
// wants.
var tooMany = func() string {
	const text = "There are too many connections at the moment. Try again in a few seconds.\n"
	return fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"+
		"Retry-After: 5\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
}()

// TurnAway implements [relay.Taker].
func (w *web) TurnAway() []byte { return []byte(tooMany) }

// Accept implements [relay.Judge].
func (w *web) Accept(from netip.AddrPort) bool {
	if full := w.server.limiter.enter(from.Addr()); full != "" {
		w.server.record(&Record{Protocol: HTTP1, Client: from, Result: TooMany, Why: full, Start: time.Now(), Status: http.StatusServiceUnavailable})
		return false
	}
	w.open.Add(1)
	return true
}

// Hello implements [relay.Judge].
func (w *web) Hello(*relay.Conn, []byte) relay.Answer { return relay.Answer{Take: true} }

// Unreached implements [relay.Judge]; net/http connects to VMs.
func (w *web) Unreached(*relay.Conn) []byte { return nil }

// Take implements [relay.Taker].
func (w *web) Take(c *relay.Conn, fd int, said []byte) {
	conn := newWebConn(w, c, fd, said)
	for {
		g := w.serving.Load()
		conn.of = g
		if g.feed.put(conn) {
			return
		}
		if g == w.serving.Load() {
			conn.Close()
			return
		}
	}
}

type webConnKey struct{}

// ServeHTTP serves a request.
func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.busy.Add(1)
	defer w.busy.Add(-1)
	x := begin(w, rw, r)
	defer x.end()
	x.conn.heard()
	if x.route() {
		w.proxy.ServeHTTP(x, x.request)
	}
	x.complete = true
}

// bufferPool has the buffers for bodies.
type bufferPool struct{}

const bodyBuffer = 32 << 10

var bodyBuffers = sync.Pool{New: func() any { return new([bodyBuffer]byte) }}

func (bufferPool) Get() []byte  { return bodyBuffers.Get().(*[bodyBuffer]byte)[:] }
func (bufferPool) Put(b []byte) { bodyBuffers.Put((*[bodyBuffer]byte)(b)) }

// wantsHTML tells whether a head that is not in order seems to be a browser's.
func wantsHTML(head []byte) bool {
	return strings.Contains(string(head[:min(len(head), 4096)]), "text/html")
}
