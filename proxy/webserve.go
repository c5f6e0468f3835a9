package proxy

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// generation is a net/http server with the settings of one configuration: it reads
// them at any time, so they can't be changed.
type generation struct {
	http   http.Server
	feed   *feed
	served chan struct{} // closed when http has all that feed had
	open   atomic.Int64  // connections
}

// maxStreamBuffer is how many bytes of HTTP/2 bodies wait for slow VMs, by
// connection.
const maxStreamBuffer = 256 << 10

func newGeneration(w *web) *generation {
	c := w.server.config()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	g := &generation{feed: newFeed(), served: make(chan struct{})}
	g.http = http.Server{
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
		ErrorLog:    log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context { return w.stopped },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, webConnKey{}, c)
		},
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateIdle {
				c.(*webConn).idle.Store(true)
			}
		},
	}
	return g
}

func (g *generation) serve() {
	_ = g.http.Serve(g.feed)
	close(g.served)
}

// feed is a [net.Listener] of connections that somebody else has accepted.
type feed struct {
	mu      sync.Mutex
	changed sync.Cond
	waiting []net.Conn
	closed  bool
}

func newFeed() *feed {
	f := &feed{}
	f.changed.L = &f.mu
	return f
}

// put has Accept give a connection. False: the feed has been closed.
func (f *feed) put(c *webConn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	c.of.open.Add(1)
	f.waiting = append(f.waiting, c)
	f.changed.Signal()
	return true
}

// Accept implements [net.Listener]. After the end it still gives those that wait.
func (f *feed) Accept() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.waiting) == 0 {
		if f.closed {
			return nil, net.ErrClosed
		}
		f.changed.Wait()
	}
	c := f.waiting[0]
	f.waiting[0] = nil
	f.waiting = f.waiting[1:]
	return c, nil
}

// close ends Accept when nothing waits any more.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.changed.Broadcast()
}

// Close implements [net.Listener].
func (f *feed) Close() error {
	f.close()
	return nil
}

// Addr implements [net.Listener].
func (f *feed) Addr() net.Addr { return &net.TCPAddr{} }
