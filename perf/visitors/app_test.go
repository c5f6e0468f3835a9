package visitors

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"

	"aarch64.com/isthmus/perf/lab"
)

// app is a server in Go on a VM, for what nginx does not do by itself: ports 8080
// and 8443, the latter for HTTP/3 as well.
type app struct {
	next chan struct{} // lets an answer go on
}

func (w *world) app(h *lab.Host, name string, id identity) *app {
	w.t.Helper()
	a := &app{next: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/hash", a.hash)
	mux.HandleFunc("/events", a.events)
	mux.HandleFunc("/trailers", a.trailers)
	mux.HandleFunc("/never", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/ws", echo)
	mux.HandleFunc("/who", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, name) })
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!doctype html><title>app</title><p id=result>%s by %s</p>", r.Host, r.Proto)
	})
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: mux, Protocols: &protocols, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{id.Certificate}},
	}
	w.t.Cleanup(func() { server.Close() })
	plain := w.listen(h, ":8080")
	secure := w.listen(h, ":8443")
	go func() { _ = server.Serve(plain) }()
	go func() { _ = server.ServeTLS(secure, "", "") }()

	third := &http3.Server{Handler: mux, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{id.Certificate}})}
	udp, err := h.ListenPacket("udp6", ":8443")
	must(w.t, err)
	w.t.Cleanup(func() { third.Close(); udp.Close() })
	go func() { _ = third.Serve(udp) }()
	return a
}

// echoServer is what nginx passes WebSockets on to.
func (w *world) echoServer(h *lab.Host) {
	w.t.Helper()
	s := &http.Server{Handler: http.HandlerFunc(echo), ErrorLog: log.New(io.Discard, "", 0)}
	w.t.Cleanup(func() { s.Close() })
	l := w.listen(h, fmt.Sprintf("[::1]:%d", echoPort))
	go func() { _ = s.Serve(l) }()
}

func (w *world) listen(h *lab.Host, at string) net.Listener {
	w.t.Helper()
	l, err := h.Listen("tcp6", at)
	must(w.t, err)
	w.t.Cleanup(func() { l.Close() })
	return l
}

// echo gives back each message of a WebSocket.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(16 << 20)
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, b); err != nil {
			return
		}
	}
}

// hash tells what was uploaded.
func (a *app) hash(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{r.Body}, make([]byte, 256<<10))
	fmt.Fprintf(w, "%s %d %x %v\n", r.Proto, n, h.Sum(nil), err)
}

// events sends one at once and a second one when told so.
func (a *app) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "data: first\n\n")
	_ = http.NewResponseController(w).Flush()
	select {
	case <-a.next:
		fmt.Fprint(w, "data: second\n\n")
	case <-r.Context().Done():
	}
}

// trailers sends a checksum behind the body.
func (a *app) trailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	fmt.Fprint(w, "body\n")
	_ = http.NewResponseController(w).Flush()
	w.Header().Set("X-Sum", "4711")
}

// continued lets the answer that waits go on.
func (a *app) continued() error {
	select {
	case a.next <- struct{}{}:
		return nil
	case <-time.After(patience):
		return errors.New("nobody waits for the second event")
	}
}
