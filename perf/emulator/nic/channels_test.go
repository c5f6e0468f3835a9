//go:build nic

package nic

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ETHTOOL_SCHANNELS, include/uapi/linux/ethtool.h.
const ethtoolSetChannels = 0x3d

// setChannels is `ethtool -L NAME combined N`.
func setChannels(name string, n int) error {
	// struct ethtool_channels
	arg := struct{ cmd, maxRx, maxTx, maxOther, maxCombined, rx, tx, other, combined uint32 }{cmd: ethtoolSetChannels, combined: uint32(n)}
	// struct ifreq: the name, then a union of 24 bytes of which a pointer is used
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	req.data = unsafe.Pointer(&arg)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(&arg)
	if errno != 0 {
		return fmt.Errorf("set %s to %d channels: %w", name, n, errno)
	}
	return nil
}
