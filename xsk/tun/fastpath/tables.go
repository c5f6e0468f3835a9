package fastpath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// Tables is what the fast path needs to know of a translator's configuration,
// by the names it has there. Give it all of that: what the program can't do, it
// leaves out by itself.
type Tables struct {
	Pool6         []netip.Prefix // the first one is served if it has 96 bits
	EAM           []EAM
	LowestIPv6MTU int // bytes; 0: 1280
	TOS           TOS
	AllowPrivate4 bool
	// Blocked4 are IPv4 addresses to be left to user space whenever they would
	// stand under the pool: Deny4, and whatever else has a rule of its own.
	Blocked4       []netip.Prefix
	Local4, Local6 []netip.Addr // the host's own
	// SafeMTU4 and SafeMTU6 are sizes in bytes that fit every link that
	// translated packets may leave by. For larger ones the program asks the
	// routing table, which costs some 100 ns per packet. 0: the smallest that
	// IP allows.
	SafeMTU4, SafeMTU6 int
	// ClampMSS leaves TCP segments with SYN to user space, which changes
	// their MSS option.
	ClampMSS bool
}

// EAM is an explicit address mapping (RFC 7757). Those of single addresses are
// served, the others left to user space.
type EAM struct {
	IPv6, IPv4 netip.Prefix
	// Routed keeps packets of this host from being translated at an interface:
	// NAT44 or a firewall has to see them on their way through the TUN device.
	Routed bool
}

// TOS is the traffic class to set; if not Fixed, it is copied.
type TOS struct {
	Fixed bool
	Value uint8
}

const (
	minMTU4, minMTU6 = 68, 1280 // RFC 791 3.2, RFC 8200 5
	poolBits         = 96
)

var (
	wellKnown = netip.MustParsePrefix("64:ff9b::/96")

	// martians4 are never translated (RFC 1812 5.3.7).
	martians4 = prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
	// private4 must not stand under the well-known prefix (RFC 6052 3.1).
	private4 = prefixes("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15")
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// host is the IPv4 side of a mapping of single addresses.
type host struct {
	four   netip.Addr
	routed bool
}

// image is what the kernel's tables hold, or shall hold.
type image struct {
	settings fastSettings

	hosts   map[netip.Addr]host       // by IPv6: both host tables
	taken   map[netip.Addr]netip.Addr // IPv6 by IPv4
	special map[netip.Prefix]bool
	rows    map[uint32]fastRow
}

func newImage() image {
	return image{
		hosts: map[netip.Addr]host{}, taken: map[netip.Addr]netip.Addr{},
		special: map[netip.Prefix]bool{}, rows: map[uint32]fastRow{},
	}
}

// compile makes an image of tables, with room for size hosts.
func compile(t Tables, size int) (image, error) {
	m := newImage()
	if err := t.check(); err != nil {
		return m, err
	}
	m.settings = t.settings()
	for _, p := range slices.Concat(martians4, t.Blocked4) {
		m.block(p)
	}
	if len(t.Pool6) > 0 && t.Pool6[0] == wellKnown && !t.AllowPrivate4 {
		for _, p := range private4 {
			m.block(p)
		}
	}
	local := map[netip.Addr]bool{}
	for _, a := range t.Local6 {
		local[a] = true
	}
	for _, a := range t.Local4 {
		local[a] = true
		m.block(netip.PrefixFrom(a, 32))
	}
	for _, e := range t.EAM {
		if !e.IPv6.IsSingleIP() || !e.IPv4.IsSingleIP() {
			m.block(e.IPv4)
			continue
		}
		six, four := e.IPv6.Addr(), e.IPv4.Addr()
		switch {
		case m.hosts[six].four.IsValid():
			return m, fmt.Errorf("fast path: %v is mapped to %v and to %v", six, m.hosts[six].four, four)
		case m.taken[four].IsValid():
			return m, fmt.Errorf("fast path: %v is mapped to %v and to %v", four, m.taken[four], six)
		// Where there is no room, or where packets are for the host that we
		// run on, user space gets them.
		case len(m.hosts) >= size || local[four] || local[six]:
			m.block(e.IPv4)
		default:
			m.hosts[six], m.taken[four] = host{four, e.Routed}, six
			m.mark(e.IPv4)
		}
	}
	return m, nil
}

func (t *Tables) check() error {
	for _, p := range t.Pool6 {
		if !is6(p.Addr()) || p != p.Masked() {
			return fmt.Errorf("fast path: pool6 entry %v is no IPv6 prefix", p)
		}
	}
	for _, e := range t.EAM {
		if !is6(e.IPv6.Addr()) || !e.IPv4.Addr().Is4() || e.IPv6 != e.IPv6.Masked() || e.IPv4 != e.IPv4.Masked() {
			return fmt.Errorf("fast path: eam entry %v, %v is no IPv6 and IPv4 prefix", e.IPv6, e.IPv4)
		}
	}
	for _, p := range t.Blocked4 {
		if !p.IsValid() || !p.Addr().Is4() {
			return fmt.Errorf("fast path: %v is no IPv4 prefix", p)
		}
	}
	for _, a := range t.Local4 {
		if !a.Is4() {
			return fmt.Errorf("fast path: %v is no IPv4 address", a)
		}
	}
	if n := t.LowestIPv6MTU; n != 0 && (n < minMTU6 || n > 65535) {
		return fmt.Errorf("fast path: lowest IPv6 MTU %d is not between %d and 65535", n, minMTU6)
	}
	return nil
}

func is6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() && a.Zone() == "" }

func (t *Tables) settings() (s fastSettings) {
	s.Lowest = uint32(max(t.LowestIPv6MTU, minMTU6))
	s.Safe = [2]uint32{uint32(max(t.SafeMTU4, minMTU4)), uint32(max(t.SafeMTU6, minMTU6))}
	s.TosKeep = 0xff
	if t.TOS.Fixed {
		s.TosKeep, s.TosSet = 0, t.TOS.Value
	}
	if t.ClampMSS {
		s.Clamp = 1
	}
	if len(t.Pool6) == 0 || t.Pool6[0].Bits() != poolBits {
		return s
	}
	pool := t.Pool6[0]
	b := pool.Addr().As16()
	for i := range s.Pool {
		s.Pool[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	s.On = [2]uint8{1, 1}
	// An IPv6 destination under the pool must be nothing else besides.
	for _, e := range t.EAM {
		if e.IPv6.Overlaps(pool) {
			s.On[0] = 0
		}
	}
	if slices.ContainsFunc(t.Local6, pool.Contains) {
		s.On[0] = 0
	}
	return s
}

// block leaves IPv4 addresses to user space where they would stand under the pool.
func (m *image) block(p netip.Prefix) {
	p = p.Masked()
	m.special[p] = true
	m.mark(p)
}

// mark tells of every /16 that p touches that there is something.
func (m *image) mark(p netip.Prefix) {
	first := uint32(binary.BigEndian.Uint16(p.Addr().AsSlice()))
	for i := range uint32(1) << max(0, 16-p.Bits()) {
		row := m.rows[(first+i)/rowLen]
		row.Of[(first+i)%rowLen] = 1
		m.rows[(first+i)/rowLen] = row
	}
}

const rowLen = uint32(len(fastRow{}.Of))

// Keys and values are as they lie in packets.

func key4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

func key6(a netip.Addr) (k fastAddr6) {
	b := a.As16()
	for i := range k.Word {
		k.Word[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return k
}

func keyLPM(p netip.Prefix) fastLpm4 { return fastLpm4{Bits: uint32(p.Bits()), Addr: key4(p.Addr())} }
