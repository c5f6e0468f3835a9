package http3

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"
)

// hello is what a client sends first for a host: up to n datagrams.
func (w *world) hello(host string, n int) (list [][]byte) {
	w.t.Helper()
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(w.t, err)
	defer sink.Close()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	go func() {
		_, _ = quic.DialAddr(ctx, sink.LocalAddr().String(), &tls.Config{ServerName: host, NextProtos: []string{"h3"}}, nil)
	}()
	_ = sink.SetReadDeadline(time.Now().Add(patience))
	for range n {
		b := make([]byte, 2000)
		k, err := sink.Read(b)
		must(w.t, err)
		list = append(list, b[:k])
	}
	return list
}

// forger sends IPv4 packets with any source.
type forger struct {
	w  *world
	fd int
}

func (w *world) forger() *forger {
	w.t.Helper()
	f := &forger{w: w}
	must(w.t, w.visitor.Do(func() (err error) {
		f.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}))
	w.t.Cleanup(func() { unix.Close(f.fd) })
	return f
}

// send sends datagrams from the nth address of 10.0.0.0/8.
func (f *forger) send(list [][]byte, n int) {
	f.w.t.Helper()
	to := netip.MustParseAddr(proxy4).As4()
	for _, d := range list {
		b := make([]byte, 28, 28+len(d))
		b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
		binary.BigEndian.PutUint32(b[12:], 10<<24|uint32(n))
		copy(b[16:], to[:])
		binary.BigEndian.PutUint16(b[20:], 1024)
		binary.BigEndian.PutUint16(b[22:], 443)
		binary.BigEndian.PutUint16(b[24:], uint16(8+len(d)))
		// No UDP checksum (RFC 768); the kernel fills in those of IPv4.
		if err := unix.Sendto(f.fd, append(b, d...), 0, &unix.SockaddrInet4{Addr: to}); err != nil {
			f.w.t.Fatal(err)
		}
	}
}
