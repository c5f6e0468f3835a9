package reach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// kernel asks for routes by a netlink socket, and keeps the answers until another
// one tells of any change. Both are opened when they are first needed (in the network
// namespace of that moment). The runtime's poller has nothing to do with them: the
// kernel answers before a request's write returns, and a poller that is told of the
// answer wakes up another thread, at each connection of the proxy.
type kernel struct {
	mu       sync.Mutex
	opened   bool
	requests int // sockets
	changes  int
	known    map[netip.Addr]bool // whether an address is own, since the last change
	sequence uint32
	answer   [4096]byte // with an error there is the request in it, and there may be attributes
}

// changed are the multicast groups that tell what may change a route: links,
// addresses, routes, rules, next hops.
var changed = [...]int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEXTHOP}

// mostKnown bounds the answers that are kept.
const mostKnown = 10_000

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
	// Before asking: a change meanwhile is told the next time.
	if k.unchanged() {
		if own, ok := k.known[a]; ok {
			return own
		}
	} else {
		clear(k.known)
	}
	kind, err := k.ask(a)
	if err != nil && !noRoute(err) {
		k.close()
		kind, err = k.ask(a)
	}
	if err != nil && !noRoute(err) {
		k.close()
		return true
	}
	// Without a route it is nowhere else either, as dialling shows.
	own := err == nil && kind != unix.RTN_UNICAST
	if len(k.known) >= mostKnown {
		clear(k.known)
	}
	k.known[a] = own
	return own
}

// unchanged tells whether nothing has changed since it was asked last.
func (k *kernel) unchanged() bool {
	if !k.opened {
		return false
	}
	for n := 0; ; n++ {
		switch _, err := unix.Read(k.changes, k.answer[:1]); { // what is left of a message is lost
		case errors.Is(err, unix.EAGAIN):
			return n == 0
		case err != nil && !errors.Is(err, unix.ENOBUFS): // ENOBUFS: there were too many
			k.close()
			return false
		}
	}
}

// noRoute tells what a lookup says that finds nothing, or a route of the types
// "unreachable", "prohibit", "blackhole".
func noRoute(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL)
}

// ask gives the type of the route to an address.
func (k *kernel) ask(a netip.Addr) (kind byte, err error) {
	if !k.opened {
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
	if _, err := unix.Write(k.requests, b); err != nil {
		return 0, err
	}
	n, err := unix.Read(k.requests, k.answer[:])
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

func (k *kernel) open() (err error) {
	k.known = map[netip.Addr]bool{}
	if k.requests, err = openNetlink(); err != nil {
		return err
	}
	if k.changes, err = openNetlink(changed[:]...); err != nil {
		unix.Close(k.requests)
		return err
	}
	k.opened = true
	runtime.SetFinalizer(k, (*kernel).close)
	return nil
}

// openNetlink opens a socket, which gets the messages of groups.
func openNetlink(groups ...int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, err
	}
	// Without an address of its own a socket gets no messages of groups.
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (k *kernel) close() {
	if k.opened {
		unix.Close(k.requests)
		unix.Close(k.changes)
		k.opened = false
		runtime.SetFinalizer(k, nil)
	}
	clear(k.known)
}
