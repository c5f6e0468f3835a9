package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxDatagrams is what one receive may give: datagrams of one sender that the
// kernel has joined (UDP_GRO), each as long as the first but the last.
const maxDatagrams = 64 << 10

// udpBuffer is asked for, for each socket that listens. The kernel gives what
// net.core.rmem_max allows.
const udpBuffer = 4 << 20

// datagrams are what one receive has given.
type datagrams struct {
	bytes   []byte
	segment int  // length of each datagram
	ecn     byte // RFC 3168: passed on, so that congestion is heard of end to end
	from    netip.AddrPort
	to      netip.Addr // of this host; invalid from sockets that are connected
}

// controlSize is enough for the control messages below, on sending and receiving.
const controlSize = 256

// udpSocket opens a socket that never fragments. Packets that are too large for
// the path are lost, which QUIC finds out (RFC 9000 section 14).
func udpSocket(v6 bool) (fd int, err error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	set := func(level, name, value int) {
		if err == nil {
			err = unix.SetsockoptInt(fd, level, name, value)
		}
	}
	if v6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		set(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		set(unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
	} else {
		set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		set(unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
	}
	set(unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// udpBind opens a socket at an address that others may have, too.
func udpBind(at netip.AddrPort) (fd int, err error) {
	v6 := at.Addr().Is6() && !at.Addr().Is4In6()
	if fd, err = udpSocket(v6); err != nil {
		return -1, err
	}
	set := func(level, name, value int) {
		if err == nil {
			err = unix.SetsockoptInt(fd, level, name, value)
		}
	}
	set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if v6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	} else {
		set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func udpListen(at netip.AddrPort) (fd int, err error) {
	fd, err = udpBind(at)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return -1, fmt.Errorf("listen on %v (UDP): another program has this port (see `ss -lnup`): %w", at, err)
	case errors.Is(err, unix.EACCES):
		return -1, fmt.Errorf("listen on %v (UDP): %w (the capability CAP_NET_BIND_SERVICE is missing)", at, err)
	case err != nil:
		return -1, fmt.Errorf("listen on %v (UDP): %w", at, err)
	}
	// Less is no reason to fail.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, udpBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, udpBuffer)
	return fd, nil
}

func udpDial(to netip.AddrPort) (fd int, err error) {
	if fd, err = udpSocket(true); err != nil {
		return -1, err
	}
	if err = unix.Connect(fd, sockaddr(to)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// udpReceive reads what is there, into b.
func udpReceive(fd int, b, control []byte) (d datagrams, err error) {
	n, cn, _, from, err := unix.Recvmsg(fd, b, control, 0)
	if err != nil {
		return d, err
	}
	d.bytes, d.segment = b[:n], n
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		d.from = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		d.from = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	for control = control[:cn]; len(control) > 0; {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		control = rest
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			d.segment = int(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			d.ecn = data[0] & 3
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			d.ecn = byte(binary.NativeEndian.Uint32(data)) & 3
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= 12:
			d.to = netip.AddrFrom4([4]byte(data[8:])) // struct in_pktinfo: index, address of the route, of the header
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= 20:
			d.to = netip.AddrFrom16([16]byte(data)) // struct in6_pktinfo: address, index
		}
	}
	return d, nil
}

// udpSend sends datagrams. To is nil for sockets that are connected, and from
// then not looked at. What the socket does not take is lost, as on any path.
func udpSend(fd int, b []byte, segment int, ecn byte, v6 bool, to unix.Sockaddr, from netip.Addr) error {
	var space [controlSize]byte
	var value [4]byte
	c := space[:0]
	if segment > 0 && segment < len(b) {
		binary.NativeEndian.PutUint16(value[:], uint16(segment))
		c = appendControl(c, unix.IPPROTO_UDP, unix.UDP_SEGMENT, value[:2])
	}
	if ecn != 0 {
		binary.NativeEndian.PutUint32(value[:], uint32(ecn))
		if v6 {
			c = appendControl(c, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, value[:])
		} else {
			c = appendControl(c, unix.IPPROTO_IP, unix.IP_TOS, value[:])
		}
	}
	if to != nil && from.IsValid() {
		var info [20]byte
		if v6 {
			a := from.As16()
			copy(info[:], a[:])
			c = appendControl(c, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info[:])
		} else {
			a := from.As4()
			copy(info[4:], a[:])
			c = appendControl(c, unix.IPPROTO_IP, unix.IP_PKTINFO, info[:12])
		}
	}
	_, err := unix.SendmsgN(fd, b, c, to, 0)
	return err
}

// appendControl adds a control message (cmsg(3)).
func appendControl(b []byte, level, kind int32, data []byte) []byte {
	start := len(b)
	b = b[:start+unix.CmsgSpace(len(data))]
	h := b[start:]
	at := unix.SizeofCmsghdr - 8
	if at == 8 {
		binary.NativeEndian.PutUint64(h, uint64(unix.CmsgLen(len(data))))
	} else {
		binary.NativeEndian.PutUint32(h, uint32(unix.CmsgLen(len(data))))
	}
	binary.NativeEndian.PutUint32(h[at:], uint32(level))
	binary.NativeEndian.PutUint32(h[at+4:], uint32(kind))
	copy(h[unix.CmsgLen(0):], data)
	return b
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() || a.Addr().Is4In6() {
		return &unix.SockaddrInet4{Addr: a.Addr().Unmap().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// tryAgain tells of an error that means no more than that nothing is there.
func tryAgain(err error) bool {
	return err == syscall.EAGAIN || err == syscall.EINTR
}
