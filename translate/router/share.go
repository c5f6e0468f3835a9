package router

import (
	"errors"
	"net/netip"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router/nat44"
)

// ErrShareWithPorts: what leaves by an AF_XDP port passes no NAT of the kernel.
var ErrShareWithPorts = errors.New("[router.share] works on the kernel path only; remove it, or the [[router.port]] sections")

// sharedAddresses are those that the pool leaves by at the moment.
func (r *Router) sharedAddresses() []netip.Addr {
	c := &r.config.Share
	if !c.Auto {
		return c.Addresses
	}
	// 0.0.0.0 is under no route but the default one.
	hop, _ := r.mirror.Table().Lookup(translate.V4, 0, 0)
	if hop.Source.V4 == [4]byte{} {
		return nil
	}
	return []netip.Addr{netip.AddrFrom4(hop.Source.V4)}
}

// planShare divides the ports of the shared addresses; nil without sharing.
func (r *Router) planShare() (*nat44.Plan, error) {
	c := &r.config.Share
	if !c.enabled() {
		return nil, nil
	}
	if len(r.config.Ports) > 0 {
		return nil, ErrShareWithPorts
	}
	host, err := nat44.HostPorts()
	if err != nil {
		return nil, err
	}
	if c.PortsPerVM == 0 {
		c.PortsPerVM = nat44.DefaultPortsPerVM
	}
	// Before the host has an address, plan for one: which one does not matter.
	addresses := r.sharedAddresses()
	if len(addresses) == 0 {
		addresses = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 8})} // RFC 7600
	}
	return nat44.NewPlan(r.config.Dynamic.Pool4, addresses, c.PortsPerVM, host...)
}

// openShare makes the NAT, for all hosts that have an address.
func (r *Router) openShare() error {
	c := &r.config.Share
	if !c.enabled() {
		return nil
	}
	var mapped []netip.Addr
	for _, e := range r.dynamic.List() {
		mapped = append(mapped, e.IPv4)
	}
	t, err := nat44.Open(nat44.Config{
		Pool4: r.config.Dynamic.Pool4, Addresses: r.sharedAddresses(), Mapped: mapped,
		PortsPerVM: c.PortsPerVM, MaxConnections: c.MaxConnections, NewPerSecond: c.NewPerSecond, Keep: c.Keep,
	})
	if err != nil {
		return err
	}
	r.share = t
	if plan, err := r.planShare(); err == nil {
		r.warnConntrack(plan.Capacity())
	}
	if len(r.sharedAddresses()) == 0 {
		r.log(true, "this host has no IPv4 address on its default route yet; connections of the pool are refused until it has")
	}
	return nil
}

func (r *Router) shareWith(mapped ...netip.Addr) error {
	if r.share == nil {
		return nil
	}
	return r.share.Add(mapped...)
}

func (r *Router) unshare(mapped ...netip.Addr) error {
	if r.share == nil || len(mapped) == 0 {
		return nil
	}
	return r.share.Remove(mapped...)
}

// refreshShare follows the host's own address.
func (r *Router) refreshShare() error {
	if r.share == nil || !r.config.Share.Auto {
		return nil
	}
	return r.share.Update(r.sharedAddresses())
}

// shareStats are the counters of the NAT, or those of the last time if they
// can't be read now. Only for holders of r.mu.
func (r *Router) shareStats() nat44.Stats {
	if r.share == nil {
		return nat44.Stats{}
	}
	if s, err := r.share.Stats(); err == nil {
		r.shareSeen = s
	}
	return r.shareSeen
}

// Limited tells which hosts have run into a limit of [router.share] within the
// last hour, and how many of their connections were refused or dropped.
func (r *Router) Limited() (map[netip.Addr]uint64, error) {
	if r.share == nil {
		return nil, nil
	}
	byIPv4, err := r.share.Limited()
	if err != nil {
		return nil, err
	}
	limited := map[netip.Addr]uint64{}
	for four, n := range byIPv4 {
		if six, ok := r.dynamic.Host(four); ok {
			limited[six] = n
		}
	}
	return limited, nil
}

// Owner is the host that a port of a shared address belongs to: its address of
// the pool and, if it has one at the moment, its IPv6 address.
func (r *Router) Owner(shared netip.Addr, port uint16) (four, six netip.Addr, ok bool) {
	if r.share == nil {
		return four, six, false
	}
	if four, ok = r.share.Owner(shared, port); !ok {
		return four, six, false
	}
	six, _ = r.dynamic.Host(four)
	return four, six, true
}
