package xsk

// Everything that needs package unsafe is here: memory that the kernel shares
// with us, and system calls that take pointers to structures.

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// up rounds n up to a multiple of unit, such as a page (4, 16 or 64 KiB).
func up(n, unit int) int { return (n + unit - 1) / unit * unit }

// ringView finds a ring's indexes and flags in the memory the kernel mapped.
func ringView(mem []byte, off unix.XDPRingOffset, size uint32) ring {
	at := func(o uint64) *uint32 { return (*uint32)(unsafe.Pointer(&mem[o])) }
	return ring{
		prod: at(off.Producer), cons: at(off.Consumer), flags: at(off.Flags),
		size: size, mask: size - 1, mem: mem,
	}
}

func mapRing(fd int, pgoff int64, off unix.XDPRingOffset, size uint32, slot uintptr) ([]byte, error) {
	length := int(off.Desc) + int(size)*int(slot)
	return unix.Mmap(fd, pgoff, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
}

func mapAddrRing(fd int, pgoff int64, off unix.XDPRingOffset, size uint32) (addrRing, error) {
	mem, err := mapRing(fd, pgoff, off, size, unsafe.Sizeof(uint64(0)))
	if err != nil {
		return addrRing{}, err
	}
	return addrRing{
		ring:  ringView(mem, off, size),
		slots: unsafe.Slice((*uint64)(unsafe.Pointer(&mem[off.Desc])), size),
	}, nil
}

func mapDescRing(fd int, pgoff int64, off unix.XDPRingOffset, size uint32) (descRing, error) {
	mem, err := mapRing(fd, pgoff, off, size, unsafe.Sizeof(Desc{}))
	if err != nil {
		return descRing{}, err
	}
	return descRing{
		ring:  ringView(mem, off, size),
		slots: unsafe.Slice((*Desc)(unsafe.Pointer(&mem[off.Desc])), size),
	}, nil
}

func setsockopt(fd, opt int, val unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt), uintptr(val), size, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// getsockopt fills val and returns how many bytes the kernel wrote.
func getsockopt(fd, opt int, val unsafe.Pointer, size uintptr) (int, error) {
	n := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt), uintptr(val), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func registerUMEM(fd int, mem []byte, chunkSize int) error {
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&mem[0]))), Len: uint64(len(mem)), Size: uint32(chunkSize)}
	return setsockopt(fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg))
}

// ringOffsets asks where in each mapping the indexes and slots lie. Kernels
// before 5.4 answer with a shorter structure that has no flags; they have no
// need-wakeup either, so they are refused.
func ringOffsets(fd int) (unix.XDPMmapOffsets, error) {
	var off unix.XDPMmapOffsets
	n, err := getsockopt(fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&off), unsafe.Sizeof(off))
	if err == nil && n < int(unsafe.Sizeof(off)) {
		err = fmt.Errorf("%w: the ring layout is that of a kernel before 5.4", ErrUnsupported)
	}
	return off, err
}

// kernelStatistics returns XDP_STATISTICS; fields that an older kernel doesn't
// know (before 5.9 there were three) stay zero.
func kernelStatistics(fd int) (unix.XDPStatistics, error) {
	var st unix.XDPStatistics
	_, err := getsockopt(fd, unix.XDP_STATISTICS, unsafe.Pointer(&st), unsafe.Sizeof(st))
	return st, err
}

// kick wakes the kernel up to send. Never blocks, so the scheduler isn't told.
func kickTx(fd int) syscall.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// kickRx wakes the driver up to take buffers from the fill ring.
func kickRx(fd int) syscall.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// ifreq is struct ifreq with the part of its union that is used here.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

func ioctl(fd int, req uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// interfaceName is SIOCGIFNAME; unix.ENODEV says that the index is not (or no
// longer) one of the namespace in which fd was opened.
func interfaceName(fd, ifindex int) (string, error) {
	var r ifreq
	*(*int32)(unsafe.Pointer(&r.data)) = int32(ifindex)
	if err := ioctl(fd, unix.SIOCGIFNAME, unsafe.Pointer(&r)); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(r.name[:]), nil
}

func interfaceFlags(fd int, name string) (uint16, error) {
	var r ifreq
	copy(r.name[:unix.IFNAMSIZ-1], name)
	err := ioctl(fd, unix.SIOCGIFFLAGS, unsafe.Pointer(&r))
	return *(*uint16)(unsafe.Pointer(&r.data)), err
}

// hardwareAddress is an Ethernet interface's MAC address (SIOCGIFHWADDR).
func hardwareAddress(fd int, name string) (mac [6]byte, err error) {
	var r ifreq
	copy(r.name[:unix.IFNAMSIZ-1], name)
	if err := ioctl(fd, unix.SIOCGIFHWADDR, unsafe.Pointer(&r)); err != nil {
		return mac, err
	}
	sa := (*unix.RawSockaddr)(unsafe.Pointer(&r.data))
	for i := range mac {
		mac[i] = byte(sa.Data[i])
	}
	return mac, nil
}

// ethtoolChannels is struct ethtool_channels.
type ethtoolChannels struct {
	cmd                                      uint32
	maxRx, maxTx, maxOther, maxCombined      uint32
	rxCount, txCount, otherCount, combinedCt uint32
}

// ethtoolRxnfc is the head of struct ethtool_rxnfc, enough for
// ETHTOOL_GRXRINGS; the rest is room for what the kernel copies.
type ethtoolRxnfc struct {
	cmd, flowType uint32
	data          uint64
	rest          [176]byte
}

func ethtool(fd int, name string, cmd unsafe.Pointer) error {
	var r ifreq
	copy(r.name[:unix.IFNAMSIZ-1], name)
	*(*unsafe.Pointer)(unsafe.Pointer(&r.data)) = cmd
	return ioctl(fd, unix.SIOCETHTOOL, unsafe.Pointer(&r))
}

func getChannels(fd int, name string) (ethtoolChannels, error) {
	ch := ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	err := ethtool(fd, name, unsafe.Pointer(&ch))
	return ch, err
}

func getRxRings(fd int, name string) (int, error) {
	q := ethtoolRxnfc{cmd: unix.ETHTOOL_GRXRINGS}
	err := ethtool(fd, name, unsafe.Pointer(&q))
	return int(q.data), err
}
