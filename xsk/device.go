package xsk

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// frameOverhead is what a frame has besides its IP packet: Ethernet header
// (14), two VLAN tags (8) and the frame check sequence that some devices write (4).
const frameOverhead = 14 + 8 + 4

// CheckMTU says whether all frames of an interface with this MTU fit into chunks
// of a size; those that don't pass to the kernel (see ProgramConfig.Room).
func CheckMTU(mtu, chunkSize int) error {
	if room := chunkSize - RxHeadroom - frameOverhead; mtu > room {
		return fmt.Errorf("frames of up to %d bytes of packet fit into chunks of %d bytes, and the MTU is %d", room, chunkSize, mtu)
	}
	return nil
}

// coarseDrivers tell their devices in units of 1024 bytes how much of a chunk a
// frame may take in zero-copy mode, rounded down. Of Chunk2K that leaves 1024 bytes;
// a longer frame arrives as several, each cut off. Seen with igb on Linux 7.2
// (igb_setup_srrctl); igc and ixgbe's 82599 have the same register, SRRCTL.BSIZEPKT.
var coarseDrivers = []string{"igb", "igc", "ixgbe"}

// ZeroCopyChunk is the size of chunks that zero-copy mode needs on an interface of
// the calling thread's network namespace, whatever its MTU.
func ZeroCopyChunk(ifindex int) (size int, err error) {
	err = onDevice(ifindex, func(fd int, name string) error {
		size = zeroCopyChunk(fd, name)
		return nil
	})
	return size, err
}

// onDevice calls f with a socket for ioctls and the interface's name.
func onDevice(ifindex int, f func(fd int, name string) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open control socket: %w", err)
	}
	defer unix.Close(fd)
	name, err := interfaceName(fd, ifindex)
	if err != nil {
		return fmt.Errorf("interface %d: %w: %w", ifindex, ErrDeviceGone, err)
	}
	return f(fd, name)
}

func zeroCopyChunk(fd int, name string) int {
	// A driver without a name has no zero-copy mode.
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err == nil && slices.Contains(coarseDrivers, unix.ByteSliceToString(info.Driver[:])) {
		return Chunk4K
	}
	return Chunk2K
}

// QueueCount returns how many receive queues an interface of the calling
// thread's network namespace has now, as `ethtool -l` shows it: /sys lists
// also those that are switched off.
func QueueCount(ifindex int) (n int, err error) {
	err = onDevice(ifindex, func(fd int, name string) error {
		var err error
		if n, err = queueCount(fd, name); err != nil {
			return fmt.Errorf("count queues of %s: %w", name, err)
		}
		return nil
	})
	return n, err
}

// queueCount asks for channels, then for rings (drivers answer one or the
// other); a device that knows neither has one queue.
func queueCount(fd int, name string) (int, error) {
	ch, err := getChannels(fd, name)
	if n := int(ch.combinedCt + ch.rxCount); err == nil && n > 0 {
		return n, nil
	}
	if err == unix.ENODEV {
		return 0, err
	}
	if n, err := getRxRings(fd, name); err == nil && n > 0 {
		return n, nil
	}
	return 1, nil
}
