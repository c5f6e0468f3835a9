package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/sniff"
)

// exchange is a request and its answer. net/http's own ResponseWriter does the
// work; this counts, and ends what does not get on.
type exchange struct {
	http.ResponseWriter
	web       *web
	conn      *webConn
	config    *Config
	request   *http.Request // as it goes to the ReverseProxy
	record    Record
	joined    *routes.Route
	backend   *backendConn
	complete  bool    // the handler came to its end
	continued bool    // the client got a 100
	upgrade   bool    // the client asks for another protocol and may get it
	tunnel    *tunnel // it got it

	headers  atomic.Bool // the answer's have been written
	reading  atomic.Bool // from the client
	up, down atomic.Uint64
	failure  atomic.Pointer[failure] // the first

	// The watch on what does not get on.
	cancel context.CancelCauseFunc
	moved  atomic.Int64 // when a byte did, in ns since the record's start
	mu     sync.Mutex
	timer  *time.Timer // nil when the exchange has ended
}

// failure is why a request came to no good end.
type failure struct {
	result Result
	why    string
}

var (
	errIdle    = errors.New("no byte for too long")
	errRefused = errors.New("the VM's answer makes no sense")
)

type exchangeKey struct{}

func begin(w *web, rw http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{ResponseWriter: rw, web: w, config: w.server.config()}
	x.conn, _ = r.Context().Value(webConnKey{}).(*webConn)
	x.record = Record{Client: x.conn.client, Start: time.Now(), Method: r.Method, Path: r.URL.Path}
	if r.ProtoMajor == 2 {
		x.record.Protocol = HTTP2
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	x.cancel = cancel
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: x.connected})
	x.request = r.WithContext(ctx)
	if r.Body != nil && r.ContentLength != 0 {
		x.request.Body = &requestBody{r.Body, x}
		if r.ProtoMajor == 1 {
			// Answers may begin before the request has ended.
			_ = http.NewResponseController(rw).EnableFullDuplex()
		}
	}
	x.mu.Lock()
	x.timer = time.AfterFunc(x.config.Timeouts.Idle, x.watch)
	x.mu.Unlock()
	return x
}

// Unwrap is for [http.ResponseController].
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// route finds where a request goes. If it goes nowhere it has been answered.
func (x *exchange) route() bool {
	r := x.request
	x.upgrade = mayUpgrade(r)
	if x.conn.isFault(r) {
		f := x.conn.fault
		x.record.Method, x.record.Path = "", ""
		result := BadRequest
		if f.Status == http.StatusMisdirectedRequest {
			result = Misdirected
		}
		x.fail(result, f.Why)
		x.page(f.Status)
		return false
	}
	refuse := func(status int, result Result, why string) bool {
		x.fail(result, why)
		x.page(status)
		return false
	}
	if why := strange(r); why != "" {
		return refuse(http.StatusBadRequest, BadRequest, why)
	}
	host, _, err := sniff.HostPort(r.Host)
	switch {
	case r.Host == "":
		return refuse(http.StatusBadRequest, NoName, "")
	case err == sniff.AddressName:
		return refuse(http.StatusNotFound, UnknownHost, "an address")
	case err != nil:
		return refuse(http.StatusBadRequest, BadRequest, "malformed host")
	}
	x.record.Host = host
	if why := x.web.server.loop(r.Header["Via"]); why != "" {
		return refuse(http.StatusLoopDetected, Loop, why)
	}
	route := x.config.Routes.Load().Lookup(host)
	if route == nil || route.HTTP == 0 {
		return refuse(http.StatusNotFound, UnknownHost, "")
	}
	x.record.Project = route.Project
	if full := x.web.server.limiter.join(route.Host, route.Project); full != "" {
		return refuse(http.StatusServiceUnavailable, TooMany, full)
	}
	x.joined = route
	t := &target{backends: route.Backends, port: route.HTTP, header: route.Header}
	x.request = r.WithContext(context.WithValue(r.Context(), targetKey{}, t))
	return true
}

// strange finds in a request of HTTP/2 what the checker finds in one of HTTP/1.
func strange(r *http.Request) string {
	hosts := r.Header["Host"]
	switch {
	case r.Method == http.MethodConnect:
		return "CONNECT"
	case len(hosts) > 1 || len(hosts) == 1 && hosts[0] != r.Host:
		return ":authority and Host disagree"
	case len(r.Header["Content-Length"]) > 1:
		return "two Content-Length fields"
	}
	return ""
}

// fail notes why there is no good end. The first reason counts.
func (x *exchange) fail(r Result, why string) {
	x.failure.CompareAndSwap(nil, &failure{r, why})
}

// connected is called when a request has got a connection to a VM.
func (x *exchange) connected(i httptrace.GotConnInfo) {
	b, ok := i.Conn.(*backendConn)
	if !ok {
		return
	}
	x.backend, x.record.Backend = b, b.to
	if !i.Reused {
		x.record.Connect = b.took
	}
}

// WriteHeader implements [http.ResponseWriter].
func (x *exchange) WriteHeader(status int) {
	if status > 100 && status < 200 {
		x.goOn()
	}
	if status >= 200 {
		x.record.Status = status
		x.headers.Store(true)
		if h := x.Header(); h["Content-Type"] == nil {
			h["Content-Type"] = nil // net/http would guess
		}
	}
	x.ResponseWriter.WriteHeader(status)
}

// goOn sends 100 (Continue) in front of another interim answer over HTTP/2. net/http
// keeps what a client expects to itself, sends 100 when the body is read, and does
// not send it any more after such an answer: the client would wait for nothing. One
// that expects none ignores it (RFC 9110 section 15.2).
func (x *exchange) goOn() {
	if x.request.ProtoMajor != 2 || x.request.ContentLength == 0 || x.continued {
		return
	}
	x.continued = true
	h := x.Header()
	fields := maps.Clone(h)
	clear(h)
	x.ResponseWriter.WriteHeader(http.StatusContinue)
	maps.Copy(h, fields)
}

// Write implements [http.ResponseWriter].
func (x *exchange) Write(b []byte) (int, error) {
	n, err := x.ResponseWriter.Write(b)
	x.down.Add(uint64(n))
	x.progress()
	if err != nil && err != http.ErrBodyNotAllowed {
		x.fail(BrokenByUser, "")
	}
	return n, err
}

// progress says that a byte has moved.
func (x *exchange) progress() { x.moved.Store(int64(time.Since(x.record.Start))) }

// watch ends an exchange in which no byte has moved for too long.
func (x *exchange) watch() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.timer == nil {
		return
	}
	idle := x.web.server.config().Timeouts.Idle
	if rest := idle - (time.Since(x.record.Start) - time.Duration(x.moved.Load())); rest > 0 {
		x.timer.Reset(rest)
		return
	}
	if x.reading.Load() {
		x.fail(SlowUser, "in its body")
	} else {
		x.fail(Idle, "")
	}
	c := http.NewResponseController(x.ResponseWriter)
	past := time.Unix(1, 0)
	if x.headers.Load() {
		_ = c.SetWriteDeadline(past)
	} // else there is still a page to be written, as soon as the next line is done
	x.cancel(errIdle)
	_ = c.SetReadDeadline(past)
}

// end notes what became of the exchange.
func (x *exchange) end() {
	x.mu.Lock()
	x.timer.Stop()
	x.timer = nil
	x.mu.Unlock()
	if x.tunnel != nil && x.tunnel.handedOver {
		x.cancel(nil)
		return
	}
	if x.upgrade {
		x.conn.decide(nextRequest)
	}
	if x.joined != nil {
		x.web.server.limiter.part(x.joined.Host, x.joined.Project)
	}
	r := &x.record
	f := x.failure.Load()
	switch {
	case f != nil:
		r.Result, r.Why = f.result, f.why
	case x.web.stopped.Err() != nil && (!x.complete || r.Protocol == Upgraded):
		r.Result = Stopped
	case x.complete:
	case x.request.Context().Err() != nil:
		r.Result = BrokenByUser
	default:
		r.Result = BrokenByVM
	}
	x.cancel(nil)
	r.Up, r.Down, r.Took = x.up.Load(), x.down.Load(), time.Since(r.Start)
	x.web.server.record(r)
}

// requestBody is what a client sends.
type requestBody struct {
	io.ReadCloser
	x *exchange
}

// Read implements [io.Reader].
func (b *requestBody) Read(p []byte) (int, error) {
	b.x.reading.Store(true)
	n, err := b.ReadCloser.Read(p)
	b.x.reading.Store(false)
	b.x.up.Add(uint64(n))
	b.x.progress()
	switch fault := b.x.conn.bodyFault.Load(); {
	case err == nil:
	case err == io.EOF:
		removeSpoofed(http.Header(b.x.request.Trailer))
	case fault != nil:
		b.x.fail(BadRequest, fault.Why)
	case errors.Is(err, http.ErrBodyReadAfterClose):
	case isTimeout(err):
		b.x.fail(SlowUser, "")
	default:
		b.x.fail(BrokenByUser, "")
	}
	return n, err
}

// responseBody is what a VM sends.
type responseBody struct {
	io.ReadCloser
	x *exchange
}

// Read implements [io.Reader].
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.progress()
	if err != nil && err != io.EOF && b.x.request.Context().Err() == nil {
		b.x.fail(BrokenByVM, "in its answer")
	}
	return n, err
}
