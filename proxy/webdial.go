package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"aarch64.com/isthmus/proxy/relay"
	"aarch64.com/isthmus/proxy/routes"
)

// Backend connections that wait for the next request. Many servers close theirs
// after 5 s: one that is closed in the moment when it is used costs a request that
// cannot be repeated. A new one costs a round trip to a VM on the same host.
// They close with a client connection that is parked, if not before.
const (
	backendIdle     = 4 * time.Second
	backendIdleMax  = 8 // of one client connection; more than one are of HTTP/2 only
	backendHead     = 256 << 10
	continueTimeout = time.Second // for a VM that does not know 100-continue
)

// backends are the connections to VMs of one client connection. No other client's
// requests ever go over them: their own Transport sees to that.
type backends struct {
	once      sync.Once
	transport *http.Transport
}

func (b *backends) get(c *webConn) *http.Transport {
	b.once.Do(func() {
		config := c.web.server.config()
		b.transport = &http.Transport{
			DialContext:            c.dial,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    backendIdleMax,
			IdleConnTimeout:        backendIdle,
			ResponseHeaderTimeout:  config.Timeouts.Response,
			ExpectContinueTimeout:  continueTimeout,
			MaxResponseHeaderBytes: backendHead,
		}
	})
	return b.transport
}

func (b *backends) close() {
	b.once.Do(func() {})
	if b.transport != nil {
		b.transport.CloseIdleConnections()
	}
}

// userTimeout is how long clients and VMs may leave unacknowledged what they were
// sent.
const userTimeout = 5 * time.Minute

// target is a route as a request takes it.
type target struct {
	backends []netip.Addr
	port     uint16
	header   routes.Header
}

// name is what a Transport knows a target by. It is one for each way to connect,
// so that a changed route gets a new connection and equal ones share theirs.
func (t *target) name() string {
	var b strings.Builder
	for _, a := range t.backends {
		b.WriteString(strings.ReplaceAll(a.String(), ":", "-"))
		b.WriteByte('.')
	}
	fmt.Fprintf(&b, "v%d:%d", t.header, t.port)
	return b.String()
}

type targetKey struct{}

// A dialError says why no backend of a route could be connected to.
type dialError struct {
	last      netip.AddrPort
	forbidden bool
	slow      bool // the last did not answer
	err       error
}

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// backendConn is a connection to a VM.
type backendConn struct {
	net.Conn
	to   netip.AddrPort
	took time.Duration // to connect
}

// CloseWrite tells the VM that nothing more comes.
func (b *backendConn) CloseWrite() error {
	if c, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// dial connects to the first backend that answers. Whether it may be connected to
// is asked anew each time.
func (c *webConn) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	t, config := ctx.Value(targetKey{}).(*target), c.web.server.config()
	header, err := proxyHeader(t.header, c.client, c.local)
	if err != nil {
		return nil, &dialError{err: err}
	}
	start, failed := time.Now(), &dialError{err: errors.New("the route has no backend")}
	for _, a := range t.backends {
		to := netip.AddrPortFrom(a, t.port)
		if err := config.Reach(a); err != nil {
			if failed.last == (netip.AddrPort{}) {
				failed = &dialError{forbidden: true, err: fmt.Errorf("backend %v: %w", a, err)}
			}
			continue
		}
		conn, err := config.dial(ctx, to)
		if err == nil && len(header) > 0 {
			_, err = conn.Write(header)
		}
		if err == nil {
			return &backendConn{conn, to, time.Since(start)}, nil
		}
		failed = &dialError{last: to, slow: isTimeout(err), err: err}
	}
	return nil, failed
}

func (c *Config) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeouts.Connect)
	defer cancel()
	return c.connect(ctx, to)
}

// connectTCP is how VMs are connected to.
func connectTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = relay.Tune(int(fd), userTimeout) })
		return errors.Join(controlErr, err)
	}}
	return d.DialContext(ctx, "tcp6", to.String())
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
