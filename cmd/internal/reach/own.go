package reach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// kernel asks for routes by one netlink socket, opened when it is first needed (in
// the network namespace of that moment). The runtime's poller has nothing to do with
// it: the kernel answers before a request's write returns, and a poller that is told
// of the answer wakes up another thread, at each connection of the proxy.
type kernel struct {
	mu       sync.Mutex
	file     *os.File
	sequence uint32
	answer   [4096]byte // with an error there is the request in it, and there may be attributes
}

// patience bounds the wait for an answer, which is there at once or never.
const patience = time.Second

// A message is struct nlmsghdr and what it is about: struct rtmsg for a route, an
// errno otherwise (rtnetlink(7), netlink(7)).
const (
	header  = unix.SizeofNlMsghdr
	request = header + unix.SizeofRtMsg + unix.SizeofRtAttr + 16
	kindAt  = header + 7 // rtm_type
)

// own tells whether a connection to an IPv6 address would end at this host: at one
// of its own addresses, which may lie inside a VM prefix, or by a local route for a
// whole prefix, or by anycast. Where the kernel does not say, it would.
func (k *kernel) own(a netip.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	kind, err := k.ask(a)
	if err != nil && !noRoute(err) {
		k.close()
		kind, err = k.ask(a)
	}
	if err != nil {
		if noRoute(err) {
			return false // and nowhere else either, as dialling shows
		}
		k.close()
		return true
	}
	return kind != unix.RTN_UNICAST
}

// noRoute tells what a lookup says that finds nothing, or a route of the types
// "unreachable", "prohibit", "blackhole".
func noRoute(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL)
}

// ask gives the type of the route to an address.
func (k *kernel) ask(a netip.Addr) (kind byte, err error) {
	if k.file == nil {
		if err := k.open(); err != nil {
			return 0, err
		}
	}
	k.sequence++
	b, to := k.answer[:request], a.As16()
	clear(b)
	native := binary.NativeEndian
	native.PutUint32(b, request)
	native.PutUint16(b[4:], unix.RTM_GETROUTE)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST)
	native.PutUint32(b[8:], k.sequence)
	b[header], b[header+1] = unix.AF_INET6, 128 // rtm_family, rtm_dst_len
	attribute := b[header+unix.SizeofRtMsg:]
	native.PutUint16(attribute, unix.SizeofRtAttr+16)
	native.PutUint16(attribute[2:], unix.RTA_DST)
	copy(attribute[unix.SizeofRtAttr:], to[:])
	if _, err := k.file.Write(b); err != nil {
		return 0, err
	}
	n, err := k.file.Read(k.answer[:])
	if err != nil {
		return 0, err
	}
	b = k.answer[:n]
	if n < header+unix.SizeofRtMsg || native.Uint32(b[8:]) != k.sequence {
		return 0, fmt.Errorf("route to %v: %d bytes that answer something else", a, n)
	}
	switch native.Uint16(b[4:]) {
	case unix.RTM_NEWROUTE:
		return b[kindAt], nil
	case unix.NLMSG_ERROR:
		return 0, unix.Errno(-int32(native.Uint32(b[header:])))
	}
	return 0, fmt.Errorf("route to %v: a message of type %d", a, native.Uint16(b[4:]))
}

func (k *kernel) open() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		unix.Close(fd)
		return err
	}
	// The garbage collector closes it in the end.
	k.file = os.NewFile(uintptr(fd), "netlink")
	return nil
}

func (k *kernel) close() {
	if k.file != nil {
		k.file.Close()
		k.file = nil
	}
}
