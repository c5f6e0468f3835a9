package nexthop

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/internal/lpm"
)

// kernelState is one dump of all that routing depends on.
type kernelState struct {
	links  []netlink.Link
	addrs  []netlink.Addr
	routes []netlink.Route
	neighs []netlink.Neigh
	rules  []netlink.Rule
}

// egress is a link as seen from the ports: the port that it leaves by (-1:
// none), and the 802.1Q tag that it adds (0: none).
type egress struct {
	port   int
	vlan   int
	mac    net.HardwareAddr
	mtu    int
	source *translate.Sources
}

// builder turns a kernelState into a Table.
type builder struct {
	state  *kernelState
	egress map[int]egress // by ifindex
	any    translate.Sources
	table  Table
	linkOf map[int]int32 // ifindex to index into table.links
}

// build makes the table. ports are interface names in the order of Config.Ports.
func build(state *kernelState, ports []string) (*Table, error) {
	b := &builder{state: state, egress: map[int]egress{}, linkOf: map[int]int32{}}
	b.addSources()
	b.addEgress(ports)
	b.addNeighbours()
	b.table.unknown = Hop{Kind: Kernel, Source: &b.any}
	b.table.policy = hasPolicy(state.rules)
	b.table.nearby6 = nearby6(state.routes)
	for i, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if err := b.addRoutes(i, f); err != nil {
			return nil, err
		}
	}
	return &b.table, nil
}

// maxMTU stands for "the kernel will judge the size".
const maxMTU = 65535

// hasPolicy tells whether there are rules besides the built-in ones: priority 0
// (local), 32766 (main) and 32767 (default). A VRF's l3mdev rule counts too.
func hasPolicy(rules []netlink.Rule) bool {
	return slices.ContainsFunc(rules, func(r netlink.Rule) bool {
		// netlink.RuleList reports a missing priority attribute, which is the
		// local rule's 0, as -1.
		return r.Priority > 0 && r.Priority != 32766 && r.Priority != 32767
	})
}

// nearby6 goes by all tables, for with policy routing VMs may be in any. Behind a
// gateway there may be anybody if there is no default route to tell which.
func nearby6(routes []netlink.Route) []netip.Prefix {
	type path struct {
		link   int
		onLink bool
	}
	paths := func(r *netlink.Route) (out []path) {
		if len(r.MultiPath) == 0 {
			return []path{{r.LinkIndex, len(r.Gw) == 0 && r.Via == nil}}
		}
		for _, nh := range r.MultiPath {
			out = append(out, path{nh.LinkIndex, len(nh.Gw) == 0 && nh.Via == nil})
		}
		return out
	}
	outside := map[int]bool{}
	each := func(f func(netip.Prefix, *netlink.Route)) {
		for i := range routes {
			r := &routes[i]
			if r.Family != netlink.FAMILY_V6 || r.Type != unix.RTN_UNICAST || r.Table == unix.RT_TABLE_LOCAL {
				continue
			}
			if p, ok := destination(r, netlink.FAMILY_V6); ok {
				f(p, r)
			}
		}
	}
	each(func(p netip.Prefix, r *netlink.Route) {
		for _, to := range paths(r) {
			outside[to.link] = outside[to.link] || p.Bits() == 0
		}
	})
	hasDefault := slices.Contains(slices.Collect(maps.Values(outside)), true)
	var out []netip.Prefix
	each(func(p netip.Prefix, r *netlink.Route) {
		if p.Bits() == 0 || !usableSource(p.Addr()) {
			return
		}
		for _, to := range paths(r) {
			if to.onLink || hasDefault && !outside[to.link] {
				out = append(out, p.Masked())
				return
			}
		}
	})
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// addSources picks the addresses from which errors are sent: for each link its
// first global one, else the host's first.
func (b *builder) addSources() {
	for _, a := range b.state.addrs {
		addr, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		if addr.Is4() {
			b.table.local4 = append(b.table.local4, addr)
		}
		if !usableSource(addr) {
			continue
		}
		e, ok := b.egress[a.LinkIndex]
		if !ok {
			e.source = &translate.Sources{}
			b.egress[a.LinkIndex] = e
		}
		setSource(e.source, addr)
		setSource(&b.any, addr)
	}
	slices.SortFunc(b.table.local4, netip.Addr.Compare)
	for _, e := range b.egress {
		if e.source.V4 == [4]byte{} {
			e.source.V4 = b.any.V4
		}
		if e.source.V6 == [16]byte{} {
			e.source.V6 = b.any.V6
		}
	}
}

func usableSource(a netip.Addr) bool {
	return !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsUnspecified()
}

func setSource(s *translate.Sources, a netip.Addr) {
	if a.Is4() && s.V4 == [4]byte{} {
		s.V4 = a.As4()
	}
	if a.Is6() && s.V6 == [16]byte{} {
		s.V6 = a.As16()
	}
}

// addEgress finds out which links lead to a port: the port itself, or a VLAN
// device on top of it.
func (b *builder) addEgress(ports []string) {
	byIndex := map[int]int{}
	for _, l := range b.state.links {
		if i := slices.Index(ports, l.Attrs().Name); i >= 0 {
			byIndex[l.Attrs().Index] = i
		}
	}
	for _, l := range b.state.links {
		a := l.Attrs()
		e := b.egress[a.Index]
		if e.source == nil {
			e.source = &b.any
		}
		e.port, e.mtu, e.mac = -1, a.MTU, a.HardwareAddr
		if p, ok := byIndex[a.Index]; ok {
			e.port = p
		}
		if v, ok := l.(*netlink.Vlan); ok && v.VlanProtocol != netlink.VLAN_PROTOCOL_8021AD {
			if p, ok := byIndex[a.ParentIndex]; ok {
				e.port, e.vlan = p, v.VlanId
			}
		}
		// A port without carrier, or enslaved to a bridge or bond, is the
		// kernel's business.
		if a.OperState == netlink.OperDown || a.MasterIndex != 0 || len(a.HardwareAddr) != 6 {
			e.port = -1
		}
		b.egress[a.Index] = e
	}
}

const validNeighbour = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY |
	netlink.NUD_PROBE | netlink.NUD_PERMANENT

// usable tells whether frames can be sent to the neighbour.
func usable(n *netlink.Neigh) bool {
	return n.State&validNeighbour != 0 && len(n.HardwareAddr) == 6 && n.Flags&netlink.NTF_PROXY == 0
}

func (b *builder) addNeighbours() {
	entries := map[int]*[2][]lpm.Entry{}
	seen := map[neighbourKey]bool{}
	for i := range b.state.neighs {
		n := &b.state.neighs[i]
		e := b.egress[n.LinkIndex]
		addr, ok := netip.AddrFromSlice(n.IP)
		if !ok || e.mac == nil || e.port < 0 || !usable(n) {
			continue
		}
		addr = addr.Unmap()
		k := neighbourKey{n.LinkIndex, addr}
		if seen[k] {
			continue
		}
		seen[k] = true
		li, ok := b.linkOf[n.LinkIndex]
		if !ok {
			li = int32(len(b.table.links))
			b.linkOf[n.LinkIndex] = li
			b.table.links = append(b.table.links, link{})
			entries[n.LinkIndex] = &[2][]lpm.Entry{}
		}
		l := &b.table.links[li]
		hi, lo := key(addr)
		fi := 0
		if addr.Is6() {
			fi = 1
		}
		entries[n.LinkIndex][fi] = append(entries[n.LinkIndex][fi],
			lpm.Entry{Hi: hi, Lo: lo, Bits: addr.BitLen(), Value: uint32(len(l.hops))})
		l.hops = append(l.hops, portHop(e, n.HardwareAddr, fi == 1))
	}
	for ifindex, byFamily := range entries {
		l := &b.table.links[b.linkOf[ifindex]]
		for fi, es := range byFamily {
			// Addresses are unique per link (seen), so Build can't fail.
			l.neighbours[fi], _ = lpm.Build(es)
		}
	}
}

// neighbourKey names a neighbour: an address on a link.
type neighbourKey struct {
	ifindex int
	addr    netip.Addr
}

func portHop(e egress, dst net.HardwareAddr, v6 bool) Hop {
	h := Hop{Kind: Port, Port: e.port, Source: e.source}
	b := append(append(h.header[:0], dst...), e.mac...)
	if e.vlan != 0 {
		b = append(b, 0x81, 0x00, byte(e.vlan>>8), byte(e.vlan))
	}
	if v6 {
		b = append(b, 0x86, 0xdd)
	} else {
		b = append(b, 0x08, 0x00)
	}
	h.headerLen = len(b)
	return h
}

// addRoutes builds the longest-prefix table of one family. The kernel asks table
// local first, then main, then default: a route that a local one covers never
// answers.
func (b *builder) addRoutes(fi, family int) error {
	best := map[netip.Prefix]*netlink.Route{}
	var localBits []int
	for i := range b.state.routes {
		r := &b.state.routes[i]
		p, ok := prefixOf(r, family)
		if !ok {
			continue
		}
		if old := best[p]; old == nil || better(r, old) {
			best[p] = r
		}
		if r.Table == unix.RT_TABLE_LOCAL && !slices.Contains(localBits, p.Bits()) {
			localBits = append(localBits, p.Bits())
		}
	}
	// covered tells whether a local route answers for the whole prefix.
	covered := func(p netip.Prefix) bool {
		return slices.ContainsFunc(localBits, func(bits int) bool {
			if bits > p.Bits() {
				return false
			}
			r := best[netip.PrefixFrom(p.Addr(), bits).Masked()]
			return r != nil && r.Table == unix.RT_TABLE_LOCAL
		})
	}
	fib := &b.table.fib[fi]
	var entries []lpm.Entry
	for p, r := range best {
		if r.Table != unix.RT_TABLE_LOCAL && covered(p) {
			continue
		}
		hi, lo := key(p.Addr())
		entries = append(entries, lpm.Entry{Hi: hi, Lo: lo, Bits: p.Bits(), Value: uint32(len(fib.routes))})
		fib.routes = append(fib.routes, b.route(fi, r))
	}
	var err error
	if fib.lpm, err = lpm.Build(entries); err != nil {
		return fmt.Errorf("mirror the routes: %w", err)
	}
	return nil
}

// prefixOf is the destination of a route of the given family in one of the
// built-in tables.
func prefixOf(r *netlink.Route, family int) (netip.Prefix, bool) {
	if r.Family != family || !slices.Contains([]int{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT}, r.Table) {
		return netip.Prefix{}, false
	}
	return destination(r, family)
}

// destination is where a route leads.
func destination(r *netlink.Route, family int) (netip.Prefix, bool) {
	if r.Dst == nil {
		if family == netlink.FAMILY_V4 {
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
		}
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	if family == netlink.FAMILY_V4 {
		a = a.Unmap()
	}
	ones, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a, ones), true
}

// better tells which of two routes to one prefix the kernel takes: by table
// (local 255, main 254, default 253), then by metric.
func better(a, b *netlink.Route) bool {
	if a.Table != b.Table {
		return a.Table > b.Table
	}
	return a.Priority < b.Priority
}

func (b *builder) route(fi int, r *netlink.Route) route {
	switch {
	case r.Type == unix.RTN_LOCAL, r.Type == unix.RTN_BROADCAST, r.Type == unix.RTN_ANYCAST, r.Type == unix.RTN_MULTICAST:
		return fixed(&Hop{Kind: Local, Source: &b.any}, maxMTU)
	case r.Type != unix.RTN_UNICAST, r.Encap != nil, r.MPLSDst != nil, b.table.policy:
		return fixed(&Hop{Kind: Kernel, Source: b.source(r.LinkIndex)}, b.mtu(r, r.LinkIndex))
	case len(r.MultiPath) == 0:
		return route{targets: []target{b.target(fi, r, r.LinkIndex, r.Gw, r.Via)}}
	}
	var out route
	for _, nh := range r.MultiPath {
		if nh.Encap != nil || nh.Flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 {
			continue
		}
		t := b.target(fi, r, nh.LinkIndex, nh.Gw, nh.Via)
		// The kernel's weight is rtnh_hops + 1.
		for range min(nh.Hops+1, 256) {
			out.targets = append(out.targets, t)
		}
	}
	if len(out.targets) == 0 {
		return fixed(&Hop{Kind: Kernel, Source: &b.any}, maxMTU)
	}
	return out
}

func fixed(h *Hop, mtu int) route {
	return route{targets: []target{{hop: h, onLink: -1, mtu: int32(mtu)}}}
}

// target is one path of a unicast route. An IPv4 route may have an IPv6 gateway
// (RFC 8950), which netlink gives as via.
func (b *builder) target(fi int, r *netlink.Route, ifindex int, gw net.IP, via netlink.Destination) target {
	e := b.egress[ifindex]
	away := &Hop{Kind: Kernel, Source: b.source(ifindex)}
	t := target{hop: away, onLink: -1, mtu: int32(b.mtu(r, ifindex))}
	if e.mac == nil || e.port < 0 {
		return t
	}
	away.Kind, away.Port = Miss, e.port
	li, known := b.linkOf[ifindex]
	gwFamily := fi
	if v, ok := via.(*netlink.Via); ok {
		gw = v.Addr
		if v.AddrFamily == netlink.FAMILY_V6 {
			gwFamily = 1
		}
	}
	addr, hasGateway := netip.AddrFromSlice(gw)
	switch {
	case !known:
		return t
	case !hasGateway:
		t.onLink = li
		return t
	}
	l := &b.table.links[li]
	hi, lo := key(addr.Unmap())
	n, ok := l.neighbours[gwFamily].Lookup(hi, lo)
	if !ok {
		return t
	}
	h := l.hops[n]
	if gwFamily != fi {
		copy(h.header[h.headerLen-2:], []byte{0x08, 0x00})
	}
	t.hop = &h
	return t
}

// mtu is the route's own MTU where it has one, else its link's.
func (b *builder) mtu(r *netlink.Route, ifindex int) int {
	mtu := b.egress[ifindex].mtu
	if mtu == 0 {
		mtu = maxMTU
	}
	if r.MTU > 0 && r.MTU < mtu {
		mtu = r.MTU
	}
	return mtu
}

func (b *builder) source(ifindex int) *translate.Sources {
	if e, ok := b.egress[ifindex]; ok && e.source != nil {
		return e.source
	}
	return &b.any
}

// neighbourSet is what the table was built from, to tell whether an event about
// a neighbour changes anything.
func neighbourSet(neighs []netlink.Neigh) map[neighbourKey]string {
	set := map[neighbourKey]string{}
	for i := range neighs {
		if addr, ok := netip.AddrFromSlice(neighs[i].IP); ok && usable(&neighs[i]) {
			set[neighbourKey{neighs[i].LinkIndex, addr.Unmap()}] = string(neighs[i].HardwareAddr)
		}
	}
	return set
}
