package reach

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownAddress asks the kernel whether a connection to an address would end at this
// host: at one of its own addresses, which may lie inside a VM prefix, or by a local
// route for a whole prefix, or by anycast. Where the kernel does not say, it would.
func ownAddress(a netip.Addr) bool {
	routes, err := netlink.RouteGet(a.AsSlice())
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), // no route, or "unreachable"
		errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL): // "prohibit", "blackhole"
		return false // and nowhere else either, as dialling shows
	case err != nil:
		return true
	}
	for i := range routes {
		if routes[i].Type != unix.RTN_UNICAST {
			return true
		}
	}
	return len(routes) == 0
}
