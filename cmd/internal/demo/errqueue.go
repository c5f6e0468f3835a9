package demo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// datagram is a connected UDP socket that reports the ICMP errors about what
// it sent (IP_RECVERR, IPV6_RECVERR). The kernel finds the socket by the packet
// inside the error, so an error gets here only if a translator in between has
// translated that inner packet, too.
type datagram struct {
	fd int
	v6 bool
}

// icmpError is what a router or the destination said about a datagram.
type icmpError struct {
	From       netip.Addr
	Type, Code uint8
	MTU        uint32 // of a Packet Too Big or Fragmentation Needed
}

// dialDatagram opens the socket in the host's namespace.
func dialDatagram(h *lab.Host, to netip.AddrPort) (d *datagram, err error) {
	d = &datagram{v6: to.Addr().Is6()}
	family, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR
	if d.v6 {
		family, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	err = h.Do(func() error {
		d.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a UDP socket: %w", err)
	}
	if err = unix.SetsockoptInt(d.fd, level, option, 1); err == nil {
		var sa unix.Sockaddr
		if d.v6 {
			sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
		} else {
			sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
		}
		err = unix.Connect(d.fd, sa)
	}
	if err != nil {
		unix.Close(d.fd)
		return nil, fmt.Errorf("UDP socket to %s: %w", show(to.Addr()), err)
	}
	return d, nil
}

func (d *datagram) close() { unix.Close(d.fd) }

// hops sets how many routers may forward what is sent.
func (d *datagram) hops(n int) error {
	if d.v6 {
		return unix.SetsockoptInt(d.fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, n)
	}
	return unix.SetsockoptInt(d.fd, unix.IPPROTO_IP, unix.IP_TTL, n)
}

// dontFragment makes the kernel refuse to send what exceeds the path's MTU.
func (d *datagram) dontFragment() error {
	if d.v6 {
		return unix.SetsockoptInt(d.fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
	}
	return unix.SetsockoptInt(d.fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
}

func (d *datagram) send(payload []byte) error {
	return unix.Sendto(d.fd, payload, 0, nil)
}

// errSilence says that neither an answer nor an error came.
var errSilence = errors.New("no answer and no ICMP error")

// exchange sends a payload, up to so many times, until an answer or an ICMP error
// comes; see receive.
func (d *datagram) exchange(ctx context.Context, payload []byte, tries int, timeout time.Duration) (got []byte, said *icmpError, err error) {
	for range tries {
		if err := d.send(payload); err != nil {
			return nil, nil, err
		}
		if got, said, err = d.receive(ctx, timeout); !errors.Is(err, errSilence) {
			return got, said, err
		}
	}
	return nil, nil, fmt.Errorf("%w to %d datagrams", errSilence, tries)
}

// receive waits for an answer (payload is not nil) or an ICMP error.
func (d *datagram) receive(ctx context.Context, timeout time.Duration) (payload []byte, said *icmpError, err error) {
	deadline := time.Now().Add(timeout)
	buf, oob := make([]byte, 1<<16), make([]byte, 512)
	for {
		_, n, _, _, err := unix.Recvmsg(d.fd, buf, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err == nil {
			if said, err := parseError(oob[:n]); said != nil || err != nil {
				return nil, said, err
			}
			continue // the kernel's own report, such as a known MTU
		}
		// The same error is pending on the socket; the queue has the details.
		switch n, _, err := unix.Recvfrom(d.fd, buf, unix.MSG_DONTWAIT); {
		case err == nil:
			return buf[:n], nil, nil
		case errors.Is(err, unix.EAGAIN):
		default:
			continue
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, nil, errSilence
		}
		// Short turns, so that the end of the context is noticed.
		wait := int(min(left, 50*time.Millisecond).Milliseconds()) + 1
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}, wait); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, nil, err
		}
	}
}

// parseError finds struct sock_extended_err (linux/errqueue.h) among the
// control messages: errno, origin, type, code, pad, info, data; behind it, the
// address of whoever sent the ICMP error. Nil if it isn't about an ICMP message.
func parseError(oob []byte) (*icmpError, error) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		b := m.Data
		if !v4 && !v6 || len(b) < 16+16 {
			continue
		}
		e := &icmpError{Type: b[5], Code: b[6], MTU: binary.NativeEndian.Uint32(b[8:])}
		switch origin := b[4]; {
		case origin == unix.SO_EE_ORIGIN_ICMP:
			e.From = netip.AddrFrom4([4]byte(b[16+4 : 16+8])) // sockaddr_in
		case origin == unix.SO_EE_ORIGIN_ICMP6 && len(b) >= 16+24:
			e.From = netip.AddrFrom16([16]byte(b[16+8 : 16+24])) // sockaddr_in6
		default:
			continue
		}
		return e, nil
	}
	return nil, nil
}
