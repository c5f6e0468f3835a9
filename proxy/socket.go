package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection by its descriptor. net.FileConn would take a second
// one, which there may not be.
type socket struct {
	*os.File
	local, client netip.AddrPort
}

// newSocket takes a non-blocking descriptor over.
func newSocket(fd int, local, client netip.AddrPort) *socket {
	return &socket{os.NewFile(uintptr(fd), "tcp"), local, client}
}

// Read implements [net.Conn].
func (s *socket) Read(p []byte) (int, error) {
	n, err := s.File.Read(p)
	return n, s.tell("read", err)
}

// Write implements [net.Conn].
func (s *socket) Write(p []byte) (int, error) {
	n, err := s.File.Write(p)
	return n, s.tell("write", err)
}

// tell has an error look like that of package net, which net/http expects.
func (s *socket) tell(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	var path *os.PathError
	switch {
	case errors.Is(err, os.ErrClosed):
		err = net.ErrClosed
	case errors.As(err, &path):
		err = path.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}

// LocalAddr implements [net.Conn].
func (s *socket) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(s.local) }

// RemoteAddr implements [net.Conn].
func (s *socket) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.client) }

// CloseWrite tells the peer that nothing more comes.
func (s *socket) CloseWrite() error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }); e != nil {
		return e
	}
	return err
}
