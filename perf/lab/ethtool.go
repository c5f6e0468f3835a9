package lab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of ethtool's ioctl, include/uapi/linux/ethtool.h.
const (
	ethtoolGetTxChecksum = 0x16
	ethtoolSetTxChecksum = 0x17
	ethtoolSetSG         = 0x19
	ethtoolGetTSO        = 0x1e
	ethtoolSetTSO        = 0x1f
	ethtoolGetGSO        = 0x23
	ethtoolSetGSO        = 0x24
	ethtoolGetGRO        = 0x2b
	ethtoolSetGRO        = 0x2c
)

// Offload sets an interface's transmit offloads (checksum, scatter/gather, TSO,
// GSO) and receive offload (GRO).
func (h *Host) Offload(ifname string, transmit, gro bool) error {
	// The kernel turns off what depends on something that is off, and never
	// back on: the order is from what others need to what needs others.
	for _, s := range []struct {
		cmd  uint32
		what string
		on   bool
	}{
		{ethtoolSetTxChecksum, "transmit checksum", transmit},
		{ethtoolSetSG, "scatter/gather", transmit},
		{ethtoolSetTSO, "TSO", transmit},
		{ethtoolSetGSO, "GSO", transmit},
		{ethtoolSetGRO, "GRO", gro},
	} {
		var value uint32
		if s.on {
			value = 1
		}
		if _, err := h.ethtool(ifname, s.cmd, value); err != nil {
			return fmt.Errorf("%s: set %s offload of %s to %v: %w", h.name, s.what, ifname, s.on, err)
		}
	}
	return nil
}

// ethtool runs one command that takes or returns a single 32-bit value.
func (h *Host) ethtool(ifname string, cmd, value uint32) (uint32, error) {
	// struct ethtool_value
	arg := struct{ cmd, data uint32 }{cmd, value}
	// struct ifreq: the name, then a union of 24 bytes of which a pointer is used
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}
	if len(ifname) >= len(req.name) {
		return 0, fmt.Errorf("interface name %q is longer than %d bytes", ifname, len(req.name)-1)
	}
	copy(req.name[:], ifname)
	req.data = unsafe.Pointer(&arg)
	err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	return arg.data, err
}
