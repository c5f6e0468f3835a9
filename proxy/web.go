package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aarch64.com/isthmus/proxy/http1"
)

// web serves HTTP/1 and, with prior knowledge, HTTP/2: each request on its own, to
// where its host's route leads at that moment. Many hosts on one connection are as
// good over HTTP/2 as over HTTP/1: without TLS there is no certificate that says
// which belong together (RFC 9113 section 9.1.1), and backends know their hosts.
type web struct {
	server    *Server
	http      http.Server
	proxy     httputil.ReverseProxy
	pseudonym string // in Via; no other process has it

	listeners []net.Listener
	stopped   context.Context
	stop      context.CancelFunc

	accepted atomic.Uint64
	open     atomic.Int64 // connections
	busy     atomic.Int64 // listeners, connections, requests
}

// maxStreamBuffer is how many bytes of HTTP/2 bodies wait for slow VMs, by
// connection.
const maxStreamBuffer = 256 << 10

func openWeb(s *Server, at []netip.AddrPort) (part, error) {
	c := s.config()
	w := &web{server: s}
	w.stopped, w.stop = context.WithCancel(context.Background())
	var unique [4]byte
	_, _ = rand.Read(unique[:]) // never fails
	w.pseudonym = c.Name + "-" + hex.EncodeToString(unique[:])
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	quiet := log.New(io.Discard, "", 0)
	w.http = http.Server{
		Handler:           w,
		Protocols:         &protocols,
		ReadHeaderTimeout: c.Timeouts.Hello,
		IdleTimeout:       c.Timeouts.KeepOpen,
		MaxHeaderBytes:    c.Limits.RequestHeader + 4<<10, // the checker is stricter
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          c.Limits.RequestsPerConnection,
			MaxReceiveBufferPerConnection: maxStreamBuffer,
			MaxReceiveBufferPerStream:     maxStreamBuffer,
			SendPingTimeout:               c.Timeouts.KeepOpen,
			WriteByteTimeout:              c.Timeouts.Idle,
		},
		ErrorLog:    quiet, // what a client does wrong is in its record
		BaseContext: func(net.Listener) context.Context { return w.stopped },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, webConnKey{}, c)
		},
	}
	w.proxy = httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      roundTripper{},
		FlushInterval:  -1,
		ErrorLog:       quiet,
		BufferPool:     bufferPool{},
		ModifyResponse: answered,
		ErrorHandler:   failed,
	}
	for _, a := range at {
		for range runtime.GOMAXPROCS(0) {
			l, err := listenWeb(a, c.Timeouts.Idle)
			if err != nil {
				for _, l := range w.listeners {
					l.Close()
				}
				return nil, err
			}
			w.listeners = append(w.listeners, l)
		}
	}
	for _, l := range w.listeners {
		w.busy.Add(1)
		go func() {
			defer w.busy.Add(-1)
			_ = w.http.Serve(webListener{l, w})
		}()
	}
	return w, nil
}

// update implements [part]: requests ask for the configuration as they begin. What
// net/http keeps is of the connection: the time for heads and between requests,
// and how many requests at a time.
func (w *web) update() {}

func (w *web) stats(s *Stats) {
	s.AcceptedHTTP, s.OpenHTTP = w.accepted.Load(), w.open.Load()
}

func (w *web) shutdown(ctx context.Context) {
	if w.http.Shutdown(ctx) != nil {
		w.http.Close()
	}
	// net/http does not wait for what has been upgraded.
	for w.busy.Load() > 0 {
		if ctx.Err() != nil {
			w.stop()
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.stop()
}

// webListener accepts as many connections as the limits have room for.
type webListener struct {
	net.Listener
	web *web
}

// tooMany is the answer to a connection too many. It is not read which host it
// wants.
var tooMany = func() string {
	const text = "There are too many connections at the moment. Try again in a few seconds.\n"
	return fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"+
		"Retry-After: 5\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
}()

// Accept implements [net.Listener].
func (l webListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		w := l.web
		w.accepted.Add(1)
		client, _ := c.RemoteAddr().(*net.TCPAddr)
		local, _ := c.LocalAddr().(*net.TCPAddr)
		if client == nil || local == nil {
			c.Close()
			continue
		}
		from := unmap(client.AddrPort())
		config := w.server.config()
		if full := w.server.limiter.enter(from.Addr()); full != "" {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // the buffer is empty: it takes no time
			_, _ = io.WriteString(c, tooMany)
			c.Close()
			w.server.record(&Record{Protocol: HTTP1, Client: from, Result: TooMany, Why: full, Start: time.Now(), Status: http.StatusServiceUnavailable})
			continue
		}
		w.open.Add(1)
		w.busy.Add(1)
		return &webConn{
			Conn: c, web: w, client: from, local: unmap(local.AddrPort()),
			check: http1.Checker{MaxHead: config.Limits.RequestHeader},
		}, nil
	}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// left takes back what Accept has asked for.
func (w *web) left(c *webConn) {
	w.open.Add(-1)
	w.busy.Add(-1)
	w.server.limiter.leave(c.client.Addr())
}

type webConnKey struct{}

// ServeHTTP serves a request.
func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.busy.Add(1)
	defer w.busy.Add(-1)
	x := begin(w, rw, r)
	defer x.end()
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
