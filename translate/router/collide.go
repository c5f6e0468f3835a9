package router

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/translate"
)

// claim is what a prefix that is about to be routed to the translator is for.
type claim uint8

const (
	claimPool6 claim = iota
	claimEAM
	claimPool4
)

// What the configuration calls them, and what to do about a collision.
var claimNames = [...]struct{ name, remedy string }{
	claimPool6: {"pool6", "choose another pool6, or remove what is there"},
	claimEAM:   {"eam", "change the entry of eam, or remove what is there"},
	claimPool4: {"pool4", "choose a [router.dynamic] pool4 in which this host has no address and no route (isthmus run -c FILE)"},
}

// claims are prefixes, both families together.
type claims map[netip.Prefix]claim

func newClaims(c *translate.Config, pool4 netip.Prefix) claims {
	all := claims{}
	for _, p := range c.Pool6 {
		all[p] = claimPool6
	}
	for _, e := range c.EAM {
		all[e.IPv4] = claimEAM
	}
	if pool4.IsValid() {
		all[pool4] = claimPool4
	}
	return all
}

// around is the claim that covers p, the largest of several.
func (c claims) around(p netip.Prefix) (by netip.Prefix, ok bool) {
	for bits := range p.Bits() + 1 {
		by = netip.PrefixFrom(p.Addr(), bits).Masked()
		if _, ok = c[by]; ok {
			return by, true
		}
	}
	return netip.Prefix{}, false
}

// collisions are what makes claims and the host's own network unfit for each other.
//
//   - An error is what would take from either what it needs: packets for hosts of
//     the pool would go elsewhere, or this host would lose its gateway or neighbours.
//   - A warning is what may be meant: an exception within a mapped prefix, which
//     the kernel's longest match makes, or a pool within a network that is
//     routed elsewhere.
//
// Mappings within a connected network are neither: that is how they are used with
// proxy ARP.
type collisions struct {
	claims         claims
	own            int // index of the TUN device: routes there are ours
	name           func(index int) string
	errs, warnings findings
}

// findings are what is wrong with each claim.
type findings map[netip.Prefix][]string

func (c *collisions) add(isError bool, p netip.Prefix, format string, args ...any) {
	to := &c.warnings
	if isError {
		to = &c.errs
	}
	if *to == nil {
		*to = findings{}
	}
	(*to)[p] = append((*to)[p], fmt.Sprintf(format, args...))
}

// sentences are one for each claim, with the remedy.
func (f findings) sentences(all claims) (out []string) {
	const most = 4
	for p, list := range f {
		if n := len(list) - most; n > 0 {
			list = append(list[:most:most], fmt.Sprintf("and %d more", n))
		}
		about := claimNames[all[p]]
		out = append(out, fmt.Sprintf("%s %v: %s; %s", about.name, p, strings.Join(list, "; "), about.remedy))
	}
	slices.Sort(out)
	return out
}

// address looks at an address of the host.
func (c *collisions) address(a netip.Prefix, index int) {
	if p, ok := c.claims.around(netip.PrefixFrom(a.Addr(), a.Addr().BitLen())); ok && index != c.own {
		kind := c.claims[p]
		c.add(kind == claimPool4 || kind == claimEAM && p.IsSingleIP(), p,
			"%v is an address of this host, on %s, and packets to it stay here", a.Addr(), c.name(index))
	}
}

// route looks at a route of any table but local, and not at the backstops of an
// earlier run, which go when they serve nothing.
func (c *collisions) route(r *netlink.Route) {
	dst, ok := destination(r)
	if !ok || r.Table == unix.RT_TABLE_LOCAL || r.LinkIndex == c.own || r.Protocol == RouteProtocol {
		return
	}
	main := r.Table == unix.RT_TABLE_MAIN || r.Table == unix.RT_TABLE_DEFAULT
	where := fmt.Sprintf("the route to %v", dst)
	if dst.Bits() == 0 {
		where = "the default route"
	}
	if !main {
		where += fmt.Sprintf(" in table %d", r.Table)
	}
	for _, gw := range gateways(r) {
		if p, ok := c.claims.around(netip.PrefixFrom(gw, gw.BitLen())); ok {
			c.add(main && c.claims[p] == claimPool4, p, "%v in it is the gateway of %s", gw, where)
		}
	}
	if dst.Bits() == 0 {
		return
	}
	if p, ok := c.claims.around(dst); ok {
		kind := c.claims[p]
		switch {
		case dst == p && r.Type == unix.RTN_UNICAST && main:
			c.add(true, p, "another route to exactly this prefix exists (see `ip route show %v`)", p)
		case dst != p && (main || kind == claimPool4):
			c.add(main && kind == claimPool4, p, "%s leads a part of it elsewhere (%s)", where, c.way(r))
		}
		return
	}
	for p, kind := range c.claims {
		if kind != claimPool4 || !dst.Overlaps(p) || r.Type != unix.RTN_UNICAST {
			continue
		}
		if onLink := len(gateways(r)) == 0; onLink {
			c.add(main, p, "it lies in %v, which is on a link of this host (%s): hosts there could not be reached any more", dst, c.way(r))
		} else {
			c.add(false, p, "it lies in %v, which is routed elsewhere (%s): that part of it can not be reached any more", dst, c.way(r))
		}
	}
}

// way tells where a route leads.
func (c *collisions) way(r *netlink.Route) string {
	if r.Type != unix.RTN_UNICAST {
		return "to nowhere"
	}
	var parts []string
	for _, gw := range gateways(r) {
		parts = append(parts, "via "+gw.String())
	}
	for _, index := range links(r) {
		parts = append(parts, "dev "+c.name(index))
	}
	return strings.Join(parts, " ")
}

func gateways(r *netlink.Route) (list []netip.Addr) {
	add := func(ip []byte) {
		if a, ok := netip.AddrFromSlice(ip); ok {
			list = append(list, a.Unmap())
		}
	}
	hops := r.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{Gw: r.Gw, Via: r.Via}}
	}
	for _, nh := range hops {
		add(nh.Gw)
		if via, ok := nh.Via.(*netlink.Via); ok {
			add(via.Addr)
		}
	}
	return list
}

// destination is where a route leads.
func destination(r *netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		a := netip.IPv4Unspecified()
		if r.Family == netlink.FAMILY_V6 {
			a = netip.IPv6Unspecified()
		}
		return netip.PrefixFrom(a, 0), true
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, size := r.Dst.Mask.Size()
	if size == 32 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, bits), ok
}

// collide refuses prefixes that this host's network has no room for, and warns of
// those that may be meant. What is routed here already was looked at before.
func (r *routes) collide(all claims, warn func(string)) error {
	have := claims{}
	for p := range r.have {
		have[p] = 0
	}
	c := &collisions{claims: claims{}, own: r.ifindex, name: r.name}
	for p, kind := range all {
		if _, known := have.around(p); !known {
			c.claims[p] = kind
		}
	}
	if len(c.claims) == 0 {
		return nil
	}
	addrs, err := r.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			c.address(netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), a.LinkIndex)
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := r.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("list routes: %w", err)
		}
		for i := range list {
			list[i].Family = family
			c.route(&list[i])
		}
	}
	for _, w := range c.warnings.sentences(c.claims) {
		warn(w)
	}
	if errs := c.errs.sentences(c.claims); len(errs) > 0 {
		return errors.New(strings.Join(errs, "\n"))
	}
	return nil
}

func (r *routes) name(index int) string {
	if l, err := r.handle.LinkByIndex(index); err == nil {
		return l.Attrs().Name
	}
	return fmt.Sprintf("interface %d", index)
}
