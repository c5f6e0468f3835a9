package fastpath

import "fmt"

// Reason says why a packet was left to user space. The order is that of enum
// reason in fast.c.
type Reason uint8

const (
	Forwarded Reason = iota // it wasn't
	Off                     // no tables, or none for this direction
	Kind                    // options, extension headers, fragments, other protocols
	Broken                  // lengths or the IPv4 header checksum don't add up
	HopLimit                // 1 or less
	Address                 // not under the pool, or private, denied, mapped, the host's
	NoMapping               // no host mapping
	Checksum                // UDP without one, or a partial one of a tunnel's inside
	Offload                 // a superpacket of another kind than plain TCP or UDP
	Size                    // too large for the egress link, or to be fragmented
	NoMemory                // the kernel had none to change it with
	Lost                    // the kernel failed halfway, and the packet was dropped

	// At interfaces only.
	Foreign   // nothing that is translated
	LinkLayer // another station's, or with a VLAN tag or a mark
	NAT       // a host whose packets NAT44 has to see
	NoRoute   // routing doesn't lead it to the TUN device, or not on from there
	Source    // doesn't come from where its source is

	NumReasons
)

var reasons = [NumReasons]struct{ label, doc string }{
	Forwarded: {"forwarded", "Translated inside the kernel."},
	Off:       {"off", "The fast path has no tables at the moment, or the configuration leaves this direction to user space."},
	Kind:      {"kind", "Not plain: options, extension headers, fragments, ICMP other than echo, other protocols."},
	Broken:    {"broken", "Lengths or the IPv4 header checksum do not add up."},
	HopLimit:  {"hop_limit", "The hop limit ends here."},
	Address:   {"address", "The address is not under the first pool6 prefix, or is mapped, private, denied or the host's own."},
	NoMapping: {"no_mapping", "There is no mapping of the single address."},
	Checksum:  {"checksum", "UDP without a checksum, or a partial checksum inside a tunnel."},
	Offload:   {"offload", "A superpacket of another kind than plain TCP or UDP."},
	Size:      {"size", "Too large for the egress link, or to be fragmented."},
	NoMemory:  {"no_memory", "The kernel had no memory to change the packet."},
	Lost:      {"lost", "The kernel failed halfway, and the packet was dropped."},
	Foreign:   {"foreign", "At an interface: neither under the first pool6 prefix nor for a mapped host's IPv4 address, so not for the translator."},
	LinkLayer: {"link_layer", "At an interface: for another station, or with a VLAN tag or a packet mark."},
	NAT:       {"nat", "At an interface: the host shares an address ([router.share]), which takes the kernel's NAT."},
	NoRoute:   {"no_route", "At an interface: this host does not forward it, does not lead it to the TUN device, or is where it goes."},
	Source:    {"source", "At an interface: the route back to its source leaves by another one."},
}

// String is the reason's metric label.
func (r Reason) String() string {
	if r >= NumReasons {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return reasons[r].label
}

// Doc says in a sentence what the reason means.
func (r Reason) Doc() string { return reasons[r].doc }

// Point is where packets meet the program. The order is that of enum point in
// tables.h.
type Point uint8

const (
	AtDevice    Point = iota // the egress of the TUN device
	AtInterface              // the ingress of an Ethernet interface
	NumPoints
)

// String is the point's metric label.
func (p Point) String() string { return [...]string{"device", "interface"}[p] }

// Counters are what the program has counted since Load. Superpackets count once.
type Counters [NumPoints]Count

// Count is the part of one point.
type Count struct {
	// Packets and Bytes were translated: index 0 for those that came as IPv6,
	// 1 for IPv4. Bytes are of IP packets as they came.
	Packets, Bytes [2]uint64
	// Fell counts packets left to the kernel's way, which leads to user space,
	// by reason; Lost ones are dropped.
	Fell [NumReasons]uint64
}

// Counters adds up the counters of all CPUs.
func (p *Program) Counters() (c Counters, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return c, fmt.Errorf("read fast path counters: %w", ErrClosed)
	}
	var cpus []fastCounters
	if err := p.maps.Counters.Lookup(uint32(0), &cpus); err != nil {
		return c, fmt.Errorf("read fast path counters: %w", err)
	}
	for i := range cpus {
		for at := range c {
			c[at].add(cpus[i].At[at].Packets, cpus[i].At[at].Bytes, cpus[i].At[at].Fell)
		}
	}
	return c, nil
}

func (c *Count) add(packets, bytes [2]uint64, fell [NumReasons]uint64) {
	for d := range c.Packets {
		c.Packets[d] += packets[d]
		c.Bytes[d] += bytes[d]
	}
	for r := range c.Fell {
		c.Fell[r] += fell[r]
	}
}
