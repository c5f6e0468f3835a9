package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/proxy/internal/clientnet"
)

// Listen is an address to listen on. Without a certificate it has to be one of
// loopback: nothing of this goes over a wire in clear text.
type Listen struct {
	Address           string // IP address and port
	CertFile, KeyFile string // PEM
}

// check gives the address, or what is wrong with it.
func (l *Listen) check() (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(l.Address)
	switch {
	case err != nil:
		return at, fmt.Errorf("listen on %q: no address and port; write one such as \"[::1]:8443\"", l.Address)
	case (l.CertFile == "") != (l.KeyFile == ""):
		return at, fmt.Errorf("listen on %s: %w", l.Address, errHalf)
	case l.CertFile == "" && !at.Addr().Unmap().IsLoopback():
		return at, fmt.Errorf("listen on %s: tokens would cross the network in clear text; give cert_file and key_file, or listen on a loopback address", l.Address)
	}
	return at, nil
}

// listen opens a TCP listener that another process may already have, so that a new
// one can take over while an old one drains.
func listen(at netip.AddrPort) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	l, err := lc.Listen(context.Background(), "tcp", at.String())
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another program has this port (see `ss -lntp`; stop it, or choose another listen in [api])", at)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return nil, fmt.Errorf("listen on %s: this host has no such address; choose another listen in [api]", at)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	return l, nil
}

// Connections that a listener has at a time.
const (
	maxConnections = 4096
	maxPerClient   = 64 // an IPv4 address or an IPv6 /64
)

// bounded closes connections that are too many, at once: who waits in a queue does
// not know it.
type bounded struct {
	net.Listener

	mu   sync.Mutex
	all  int
	open map[netip.Prefix]int
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := clientnet.Of(addressOf(c.RemoteAddr().String()))
		if !b.enter(client) {
			c.Close()
			continue
		}
		return &counted{Conn: c, leave: sync.OnceFunc(func() { b.leave(client) })}, nil
	}
}

func (b *bounded) enter(client netip.Prefix) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all >= maxConnections || b.open[client] >= maxPerClient && !client.Addr().IsLoopback() {
		return false
	}
	b.all++
	b.open[client]++
	return true
}

func (b *bounded) leave(client netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	if b.open[client]--; b.open[client] == 0 {
		delete(b.open, client)
	}
}

// counted is a connection that leaves when it is closed.
type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}

// addressOf is the address of a client, as a server's request has it; invalid for
// a Unix socket.
func addressOf(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}
