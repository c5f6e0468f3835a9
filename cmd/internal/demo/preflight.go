package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// preflight finds what is missing before anything is built: nil, or a sentence
// that says what it is and what to do.
func preflight(paths []Path) error {
	if err := lab.Check(); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	switch {
	case errors.Is(err, unix.EPERM):
		return errors.New("ping needs the capability CAP_NET_RAW: run as root (sudo)")
	case errors.Is(err, unix.EAFNOSUPPORT):
		return errors.New("the kernel has no IPv6: boot without ipv6.disable=1, or enable CONFIG_IPV6")
	case err != nil:
		return fmt.Errorf("open a raw ICMPv6 socket: %w", err)
	}
	unix.Close(fd)

	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return errors.New("the kernel has no TUN devices (/dev/net/tun): run `modprobe tun`, or enable CONFIG_TUN")
	case err != nil:
		return fmt.Errorf("%w: isthmus needs this device to talk with the kernel", err)
	}
	tun.Close()

	if !slices.Contains(paths, XDP) {
		return nil
	}
	fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT):
		return errors.New("the kernel has no AF_XDP: it needs CONFIG_XDP_SOCKETS (Linux 5.4 or later); `isthmus demo --path kernel` works without")
	case err != nil:
		return fmt.Errorf("open an AF_XDP socket: %w; `isthmus demo --path kernel` works without", err)
	}
	unix.Close(fd)
	return nil
}
