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
// prefixes. They go with the device, and the backstops under them stay.
type routes struct {
	handle  *netlink.Handle
	ifindex int
	have    map[netip.Prefix]bool

	backstops backstops
	forGood   bool // close removes the backstops
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

// add makes the routes to want that are not there yet, and tells which; after an
// error there are none of them.
func (r *routes) add(want []netip.Prefix) (added []netip.Prefix, err error) {
	for _, p := range want {
		p = p.Masked()
		if r.have[p] {
			continue
		}
		if err := r.handle.RouteAdd(r.route(p)); err != nil {
			return nil, errors.Join(explainRoute(p, err), r.remove(added))
		}
		r.have[p] = true
		added = append(added, p)
	}
	return added, nil
}

// remove takes routes away. Somebody else may have done so already.
func (r *routes) remove(list []netip.Prefix) (err error) {
	for _, p := range list {
		if e := r.handle.RouteDel(r.route(p)); e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("remove the route to %s: %w", p, e))
			continue
		}
		delete(r.have, p)
	}
	return err
}

// keep removes all routes but those to want, and sees to their backstops.
func (r *routes) keep(want []netip.Prefix) error {
	wanted := map[netip.Prefix]bool{}
	for _, p := range want {
		wanted[p.Masked()] = true
	}
	var away []netip.Prefix
	for p := range r.have {
		if !wanted[p] {
			away = append(away, p)
		}
	}
	return errors.Join(r.remove(away), r.backstopTo(r.have))
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

func (r *routes) close() (err error) {
	if r.forGood {
		err = r.backstopTo(nil)
	}
	r.handle.Close()
	return err
}
