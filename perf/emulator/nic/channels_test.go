//go:build nic

package nic

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// include/uapi/linux/ethtool.h.
const (
	ethtoolGetChannels = 0x3c
	ethtoolSetChannels = 0x3d
)

// channels is struct ethtool_channels.
type channels struct{ cmd, maxRx, maxTx, maxOther, maxCombined, rx, tx, other, combined uint32 }

// setChannels is `ethtool -L NAME combined N`.
func setChannels(name string, n int) error {
	arg := channels{cmd: ethtoolGetChannels}
	err := ethtool(name, &arg)
	if err == nil {
		arg.cmd, arg.combined = ethtoolSetChannels, uint32(n)
		err = ethtool(name, &arg)
	}
	// What it has already it need not change.
	if err != nil && !errors.Is(err, unix.EALREADY) {
		return fmt.Errorf("set %s to %d channels: %w", name, n, err)
	}
	return nil
}

func ethtool(name string, arg *channels) error {
	// struct ifreq: the name, then a union of 24 bytes of which a pointer is used
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	req.data = unsafe.Pointer(arg)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}
