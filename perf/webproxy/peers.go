package webproxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
)

// What a connection is for is its first byte after the handshake, which the server
// sends back.
const (
	echo   = 'e' // the server gives back what it gets
	source = 's' // it sends as much as it can
	sink   = 'k' // it takes as much as it can
)

// chunk is what both ends hand to the kernel at once, in bytes.
const chunk = 256 << 10

// server is the web server in the VM.
type server struct {
	listener net.Listener
	config   *tls.Config
	up, down atomic.Int64 // bytes taken and given
	streams  atomic.Int64 // of bulk, that have moved something
}

func serve(vm *lab.Host) (*server, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: site}, DNSNames: []string{site},
		NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	s := &server{config: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
		// Without tickets nothing follows the handshake that nobody asked for.
		SessionTicketsDisabled: true,
	}}
	if s.listener, err = vm.Listen("tcp", netip.AddrPortFrom(vmAddr, httpsPort).String()); err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := s.listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(time.Millisecond) // out of descriptors
				continue
			}
			go s.talk(c)
		}
	}()
	return s, nil
}

// greet shakes hands and lets go of what crypto/tls holds for that, which an idle
// connection would keep.
func (s *server) greet(c net.Conn) (what byte, err error) {
	t := tls.Server(c, s.config)
	var b [1]byte
	if _, err := io.ReadFull(t, b[:]); err != nil {
		return 0, err
	}
	_, err = t.Write(b[:])
	return b[0], err
}

func (s *server) talk(c net.Conn) {
	defer c.Close()
	what, err := s.greet(c)
	if err != nil {
		return
	}
	switch what {
	case source:
		move(c.Write, &s.down, &s.streams)
	case sink:
		move(c.Read, &s.up, &s.streams)
	default:
		var b [64]byte
		for {
			n, err := c.Read(b[:])
			if err != nil {
				return
			}
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	}
}

// move counts what it moves until the connection ends.
func move(op func([]byte) (int, error), total, streams *atomic.Int64) {
	b := make([]byte, chunk)
	for first := true; ; first = false {
		n, err := op(b)
		total.Add(int64(n))
		if first && n > 0 {
			streams.Add(1)
			defer streams.Add(-1)
		}
		if err != nil {
			return
		}
	}
}

// open connects to the site through the proxy, shakes hands, and says what for. The
// answer proves the way.
func (w *world) open(ctx context.Context, at netip.AddrPort, what byte) (c net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, bench.ReadyTime)
	defer cancel()
	if c, err = w.client.Dial(ctx, "tcp", at.String()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Close()
			c = nil
		}
	}()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return c, err
	}
	t := tls.Client(c, w.tls)
	b := [1]byte{what}
	if _, err := t.Write(b[:]); err != nil {
		return c, err
	}
	if _, err := io.ReadFull(t, b[:]); err != nil {
		return c, err
	}
	if b[0] != what {
		return c, fmt.Errorf("the server said %q to %q", b[0], what)
	}
	return c, c.SetDeadline(time.Time{})
}

// ping sends a byte in the clear and waits for it.
func ping(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(bench.ReadyTime)); err != nil {
		return err
	}
	b := [1]byte{'x'}
	if _, err := c.Write(b[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b[:])
	return err
}
