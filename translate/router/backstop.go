package router

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A backstop is an unreachable route under one to the TUN device: to the same
// prefix, but of a metric that makes it the last choice. It answers when the
// device is gone. Without it the packets of the VMs would take the default
// route, where a NAT64 of the provider resets connections that it does not know,
// and those from the Internet would go back to the router they came from. ICMP
// errors, in contrast, are no reason for TCP to give up (RFC 1122 section
// 4.2.3.9), so that connections outlive a restart.
const (
	backstopMetric = 1 << 30
	// RouteProtocol marks the backstops, as in `ip route show proto 64`.
	RouteProtocol = 64
)

// backstops are those in the kernel.
type backstops struct {
	on   bool
	have map[netip.Prefix]bool
}

func backstop(p netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Type: unix.RTN_UNREACHABLE, Priority: backstopMetric, Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN,
		Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
	}
}

// stand puts a backstop under each route that there is from now on. Those that
// an earlier run left are taken over, or removed where they serve nothing.
func (r *routes) stand() error {
	r.backstops = backstops{on: true, have: map[netip.Prefix]bool{}}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{Protocol: RouteProtocol, Type: unix.RTN_UNREACHABLE, Priority: backstopMetric}
		list, err := r.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_PRIORITY)
		if err != nil {
			return fmt.Errorf("list the routes of an earlier run: %w", err)
		}
		for i := range list {
			if list[i].Dst == nil {
				continue
			}
			a, _ := netip.AddrFromSlice(list[i].Dst.IP)
			bits, _ := list[i].Dst.Mask.Size()
			if family == netlink.FAMILY_V4 {
				a = a.Unmap()
			}
			r.backstops.have[netip.PrefixFrom(a, bits)] = true
		}
	}
	return r.backstopTo(r.have)
}

// backstopTo makes the backstops be those to want.
func (r *routes) backstopTo(want map[netip.Prefix]bool) error {
	if !r.backstops.on {
		return nil
	}
	var errs error
	for p := range want {
		if r.backstops.have[p] {
			continue
		}
		if err := r.handle.RouteReplace(backstop(p)); err != nil {
			errs = errors.Join(errs, fmt.Errorf("add an unreachable route to %s for when isthmus is away: %w", p, err))
			continue
		}
		r.backstops.have[p] = true
	}
	for p := range r.backstops.have {
		if want[p] {
			continue
		}
		// Somebody else may have removed it already.
		if err := r.handle.RouteDel(backstop(p)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = errors.Join(errs, fmt.Errorf("remove the unreachable route to %s: %w", p, err))
			continue
		}
		delete(r.backstops.have, p)
	}
	return errs
}
