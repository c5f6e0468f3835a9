package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// trouble remembers why a connection failed last: requests that wait for one only
// learn that their time is over.
type trouble struct {
	mu  sync.Mutex
	err error
	at  time.Time
}

func (t *trouble) note(err error) {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err, t.at = err, time.Now()
}

// explain adds the trouble of the last seconds to an error.
func (t *trouble) explain(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil || time.Since(t.at) > 2*dialTimeout {
		return err
	}
	return fmt.Errorf("%w (connections fail with: %w)", err, t.err)
}

// noting is TLS that notes its trouble.
type noting struct {
	credentials.TransportCredentials
	trouble *trouble
}

func (n noting) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, raw)
	n.trouble.note(err)
	if err != nil {
		return nil, nil, err
	}
	return notingConn{c, n.trouble}, info, nil
}

func (n noting) Clone() credentials.TransportCredentials {
	return noting{n.TransportCredentials.Clone(), n.trouble}
}

// notingConn is for what TLS 1.3 says after the handshake: that a certificate was
// not welcome.
type notingConn struct {
	net.Conn
	trouble *trouble
}

func (c notingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.trouble.note(err)
	return n, err
}
