package router

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routes are the kernel's routes to the TUN device: pool6 and the mapped IPv4
// prefixes. They go with the device.
type routes struct {
	handle  *netlink.Handle
	ifindex int
	have    map[netip.Prefix]bool
}

func openRoutes(ifindex int) (*routes, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &routes{handle: h, ifindex: ifindex, have: map[netip.Prefix]bool{}}, nil
}

func (r *routes) route(p netip.Prefix) *netlink.Route {
	return &netlink.Route{
		LinkIndex: r.ifindex,
		Scope:     netlink.SCOPE_LINK,
		Dst:       &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
	}
}

// replace makes the routes be exactly those to want. New ones come before old
// ones go; after an error the old ones are as they were.
func (r *routes) replace(want []netip.Prefix) error {
	wanted := map[netip.Prefix]bool{}
	var added []netip.Prefix
	for _, p := range want {
		p = p.Masked()
		if wanted[p] = true; r.have[p] {
			continue
		}
		if err := r.handle.RouteAdd(r.route(p)); err != nil {
			for _, a := range added {
				_ = r.handle.RouteDel(r.route(a))
			}
			return explainRoute(p, err)
		}
		added = append(added, p)
	}
	for p := range r.have {
		if wanted[p] {
			continue
		}
		// Somebody else may have removed it already.
		if err := r.handle.RouteDel(r.route(p)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the route to %s: %w", p, err)
		}
	}
	r.have = wanted
	return nil
}

func explainRoute(p netip.Prefix, err error) error {
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("add the route to %s: another route to exactly this prefix exists (see `ip route show %s`; remove it or the entry in pool6 or eam)", p, p)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("add the route to %s: %w (the capability CAP_NET_ADMIN is missing)", p, err)
	}
	return fmt.Errorf("add the route to %s: %w", p, err)
}

func (r *routes) close() { r.handle.Close() }
