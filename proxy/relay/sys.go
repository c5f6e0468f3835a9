package relay

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of connections. All sockets and pipes are non-blocking, so none
// waits but epollWait, and the runtime is not told of them: else its monitor thread finds the loop
// in one, takes its processor away, and then looks for more of that kind, 50 times
// in the next 3 milliseconds.

// call gives a number that is not negative.
//
//go:uintptrescapes
func call(trap, a1, a2, a3, a4, a5, a6 uintptr) (int, error) {
	for {
		n, _, err := unix.RawSyscall6(trap, a1, a2, a3, a4, a5, a6)
		switch err {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, err
		}
	}
}

// epollWait waits so many milliseconds at most. It comes back when it is interrupted.
func epollWait(epoll int, events []unix.EpollEvent, timeout int) (int, error) {
	n, _, err := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(timeout), 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}

func read(fd int, b []byte) (int, error) {
	return call(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
}

// send writes to a socket.
func send(fd int, b []byte) (int, error) {
	return call(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
}

func splice(from, to, n int) (int, error) {
	return call(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
}

// shut ends what is written to a socket. It may have gone meanwhile, which a read
// will tell.
func shut(fd int) { _, _ = call(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0, 0, 0, 0) }

// closeFD is not repeated when it is interrupted: the descriptor has gone by then
// (close(2)).
func closeFD(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func setOption(fd int, o *option) error {
	_, err := call(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(o.level), uintptr(o.name), uintptr(unsafe.Pointer(&o.value)), unsafe.Sizeof(o.value), 0)
	return err
}

// scratch is what calls of a loop point to.
type scratch struct {
	event   unix.EpollEvent
	address unix.RawSockaddrInet6 // large enough for IPv4, too
	size    uint32
}

// control changes what epoll tells of a descriptor.
func (l *loop) control(operation, fd int, e unix.EpollEvent) error {
	l.scratch.event = e
	_, err := call(unix.SYS_EPOLL_CTL, uintptr(l.fd), uintptr(operation), uintptr(fd), uintptr(unsafe.Pointer(&l.scratch.event)), 0, 0)
	return err
}

// acceptOne gives a connection and where it comes from.
func (l *loop) acceptOne(listener int) (fd int, from netip.AddrPort, err error) {
	s := &l.scratch
	s.size = uint32(unsafe.Sizeof(s.address))
	fd, err = call(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&s.address)), uintptr(unsafe.Pointer(&s.size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if err != nil {
		return -1, from, err
	}
	switch a := &s.address; a.Family {
	case unix.AF_INET:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(a))
		from = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), inHostOrder(a.Port))
	case unix.AF_INET6:
		from = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), inHostOrder(a.Port))
	}
	return fd, from, nil
}

// connectTo begins to connect a socket of IPv6.
func (l *loop) connectTo(fd int, to netip.AddrPort) error {
	l.scratch.address = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: inHostOrder(to.Port()), Addr: to.Addr().As16()}
	_, err := call(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&l.scratch.address)), unsafe.Sizeof(l.scratch.address), 0, 0, 0)
	return err
}

// newSocket is one of IPv6 to connect.
func newSocket() (int, error) {
	return call(unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0, 0, 0)
}

// inHostOrder turns a port of network byte order, and back.
func inHostOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}
