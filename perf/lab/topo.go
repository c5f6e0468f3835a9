package lab

import (
	"fmt"
	"net/netip"
)

// Addresses of a [Topology], all from the ranges set apart for documentation
// (RFC 3849, RFC 5737). RFC 6052 section 3.1 keeps such IPv4 addresses out of
// 64:ff9b::/96, so a translator under test has to be told that they are meant.
var (
	Pool6 = netip.MustParsePrefix("64:ff9b::/96")

	HypervisorAddr4 = netip.MustParseAddr("203.0.113.1") // on WANPort
	RouterAddr4     = netip.MustParseAddr("203.0.113.2") // towards the hypervisor
	ServerAddr4     = netip.MustParseAddr("198.51.100.2")
	EdgeAddr4       = netip.MustParseAddr("198.51.100.130") // towards the router
	FarAddr4        = netip.MustParseAddr("198.51.100.194")

	// ResolverAddr6 is where the VMs ask for names, if there is a resolver.
	ResolverAddr6 = netip.MustParseAddr("2001:db8:53::53")

	// Mapped4 holds the mapped addresses of all VMs; the router sends it to the
	// hypervisor.
	Mapped4 = netip.MustParsePrefix("192.0.2.0/24")
)

// WANPort is the hypervisor's interface towards the router.
const WANPort = "wan0"

// TopologyConfig says how to build a [Topology]. Zero values are usable.
type TopologyConfig struct {
	VMs    int // 0 means 1, at most 200
	Queues int // of the hypervisor's links; 0 means 1

	VMMTU     int // of the links VM - hypervisor; 0 means 1500
	WANMTU    int // of the link hypervisor - router; 0 means 1500
	NarrowMTU int // of the link router - edge; 0 means that edge and far do not exist

	ChecksumOffload, GRO bool // of the hypervisor's links, see LinkConfig

	ImpairVM  *Impairer // of the link of VM 0; nil means none
	ImpairWAN *Impairer // of the link hypervisor - router; nil means none

	Resolver bool // a host that the VMs ask for names; what answers there is started with package labdns
}

// Topology is the network that isthmus is for: machines with nothing but IPv6
// on one side of a hypervisor, an Internet with nothing but IPv4 on the other.
//
//	vm0 eth0 --- vm0 hypervisor wan0 --- eth0 router eth1 --- eth0 server
//	vm1 eth0 --- vm1                               eth2
//	                                                 | NarrowMTU
//	                                               eth0 edge eth1 --- eth0 far
//	resolver eth0 --- dns0 hypervisor
//
// The hypervisor forwards both protocols and has routes to everything except
// between them: 64:ff9b::/96 and the VMs' mapped IPv4 addresses lead nowhere
// until a translator takes them. The IPv4 hosts have IPv6 turned off, the VMs
// have no IPv4 address. ICMP errors are not rate-limited by the kernels.
type Topology struct {
	VMs                                   []*VM
	Hypervisor, Router, Server, Edge, Far *Host
	Resolver                              *Host // IPv6 only, like the VMs
}

// VM is a host with IPv6 only.
type VM struct {
	*Host
	Port     string     // the hypervisor's interface towards it
	Addr6    netip.Addr // its own address
	Addr4    netip.Addr // the IPv4 address that an explicit mapping gives it
	Gateway6 netip.Addr // the hypervisor's address on Port
}

// Translated is the IPv6 address of an IPv4 address in [Pool6]
// (RFC 6052 section 2.2, prefix length 96).
func Translated(v4 netip.Addr) netip.Addr {
	b, a := Pool6.Addr().As16(), v4.As4()
	copy(b[12:], a[:])
	return netip.AddrFrom16(b)
}

// Build makes the topology's hosts and links in the lab.
func (l *Lab) Build(c TopologyConfig) (*Topology, error) {
	if c.VMs == 0 {
		c.VMs = 1
	}
	if c.VMs < 0 || c.VMs > 200 {
		return nil, fmt.Errorf("%d VMs: 1 to 200 are possible", c.VMs)
	}
	t := &Topology{}
	b := &builder{lab: l, edge: LinkConfig{
		Queues: c.Queues, ChecksumOffload: c.ChecksumOffload, GRO: c.GRO,
	}}
	t.Hypervisor = b.host("hypervisor")
	b.forward(t.Hypervisor)
	for i := range c.VMs {
		edge := b.edge
		edge.MTU = c.VMMTU
		if i == 0 {
			edge.Impair = c.ImpairVM
		}
		t.VMs = append(t.VMs, b.vm(t.Hypervisor, i, edge))
	}

	if c.Resolver {
		t.Resolver = b.resolver(t.Hypervisor)
		for _, v := range t.VMs {
			b.do(func() error { return v.UseResolver(ResolverAddr6) })
		}
	}

	t.Router, t.Server = b.host4("router"), b.host4("server")
	b.forward(t.Router)
	wan := b.edge
	wan.NameA, wan.MTU, wan.Impair = WANPort, c.WANMTU, c.ImpairWAN
	b.link(t.Hypervisor, t.Router, wan)
	b.addr(t.Hypervisor, WANPort, HypervisorAddr4, 24)
	b.addr(t.Router, "eth0", RouterAddr4, 24)
	b.route(t.Hypervisor, "default4", RouterAddr4)
	b.route(t.Router, Mapped4.String(), HypervisorAddr4)

	inner := LinkConfig{ChecksumOffload: true, GRO: true}
	inner.NameA = "eth1"
	b.link(t.Router, t.Server, inner)
	b.addr(t.Router, "eth1", ServerAddr4.Prev(), 25)
	b.addr(t.Server, "eth0", ServerAddr4, 25)
	b.route(t.Server, "default4", ServerAddr4.Prev())

	if c.NarrowMTU > 0 {
		t.Edge, t.Far = b.host4("edge"), b.host4("far")
		b.forward(t.Edge)
		narrow := inner
		narrow.NameA, narrow.MTU = "eth2", c.NarrowMTU
		b.link(t.Router, t.Edge, narrow)
		b.link(t.Edge, t.Far, inner)
		b.addr(t.Router, "eth2", EdgeAddr4.Prev(), 30)
		b.addr(t.Edge, "eth0", EdgeAddr4, 30)
		b.addr(t.Edge, "eth1", FarAddr4.Prev(), 26)
		b.addr(t.Far, "eth0", FarAddr4, 26)
		b.route(t.Router, FarAddr4.Prev().String()+"/26", EdgeAddr4)
		b.route(t.Edge, "default4", EdgeAddr4.Prev())
		b.route(t.Far, "default4", FarAddr4.Prev())
	}
	if b.err != nil {
		return nil, b.err
	}
	return t, nil
}

// builder remembers the first error, so that the building reads as a list.
type builder struct {
	lab  *Lab
	edge LinkConfig // what all links of the hypervisor have in common
	err  error
}

func (b *builder) do(fn func() error) {
	if b.err == nil {
		b.err = fn()
	}
}

func (b *builder) host(name string) (h *Host) {
	b.do(func() (err error) { h, err = b.lab.Host(name); return err })
	return h
}

// host4 makes a host without IPv6.
func (b *builder) host4(name string) *Host {
	h := b.host(name)
	b.do(func() error { return h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1") })
	b.do(func() error { return h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1") })
	return h
}

// vm makes the i-th VM: 2001:db8:64:i::2, mapped to 192.0.2.(2+i).
func (b *builder) vm(hypervisor *Host, i int, c LinkConfig) *VM {
	name := fmt.Sprintf("vm%d", i)
	if i == 0 {
		name = "vm"
	}
	prefix := netip.MustParsePrefix(fmt.Sprintf("2001:db8:64:%x::/64", i))
	v := &VM{
		Port:     fmt.Sprintf("vm%d", i),
		Gateway6: prefix.Addr().Next(),
		Addr6:    prefix.Addr().Next().Next(),
		Addr4:    netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i)}),
	}
	v.Host = b.host(name)
	c.NameB = v.Port
	b.link(v.Host, hypervisor, c)
	b.addr(v.Host, "eth0", v.Addr6, 64)
	b.addr(hypervisor, v.Port, v.Gateway6, 64)
	b.route(v.Host, "default6", v.Gateway6)
	return v
}

func (b *builder) resolver(hypervisor *Host) *Host {
	h := b.host("resolver")
	c := b.edge
	c.NameB = "dns0"
	gateway := netip.MustParseAddr("2001:db8:53::1")
	b.link(h, hypervisor, c)
	b.addr(h, "eth0", ResolverAddr6, 64)
	b.addr(hypervisor, c.NameB, gateway, 64)
	b.route(h, "default6", gateway)
	return h
}

func (b *builder) forward(h *Host) {
	for _, s := range [][2]string{
		{"net.ipv4.ip_forward", "1"},
		{"net.ipv6.conf.all.forwarding", "1"},
		// Path-MTU discovery and traceroute ask for many errors at once.
		{"net.ipv4.icmp_ratelimit", "0"},
		{"net.ipv6.icmp.ratelimit", "0"},
	} {
		b.do(func() error { return h.Sysctl(s[0], s[1]) })
	}
}

func (b *builder) link(x, y *Host, c LinkConfig) {
	b.do(func() error { return b.lab.Link(x, y, c) })
}

func (b *builder) addr(h *Host, ifname string, a netip.Addr, bits int) {
	b.do(func() error { return h.Addr(ifname, netip.PrefixFrom(a, bits).String()) })
}

func (b *builder) route(h *Host, dst string, via netip.Addr) {
	b.do(func() error { return h.Route(dst, via.String(), "") })
}
