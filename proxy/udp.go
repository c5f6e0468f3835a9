package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// udpBuffer is asked for, for each socket that listens. The kernel gives what
// net.core.rmem_max allows.
const udpBuffer = 4 << 20

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
