package translate

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"aarch64.com/isthmus/translate/internal/lpm"
)

// UDPZero says what becomes of an unfragmented IPv4 UDP packet without a
// checksum (RFC 7915 4.5). IPv6 demands one.
type UDPZero uint8

const (
	UDPZeroCompute UDPZero = iota // compute it over the whole packet
	UDPZeroDrop                   // drop the packet
)

// Hairpin says how two nodes with mappings reach each other by their IPv4
// addresses (RFC 7757 4).
type Hairpin uint8

const (
	HairpinIntrinsic Hairpin = iota // translated back to IPv6 at once (4.2.2)
	HairpinSimple                   // the IPv4 packet comes back by IPv4 routing (4.2.1)
	HairpinOff
)

// TOS says what becomes of the traffic class: copied (the zero value), or set to
// a value, in both directions (RFC 7915 4.1, 5.1).
type TOS struct {
	Fixed bool
	Value uint8
}

// Config is what a Translator does. The zero value translates nothing.
type Config struct {
	Pool6           []netip.Prefix // RFC 6052; IPv4 sources are shown under the first one
	EAM             []EAM          // RFC 7757; beats Pool6
	LowestIPv6MTU   int            // bytes; IPv4 packets without DF are split to it; 0: 1280
	UDPZeroChecksum UDPZero
	TOS             TOS
	// ICMPSource4 and ICMPSource6 are the addresses shown as source of ICMP
	// errors: our own, and those of routers whose address can't be mapped
	// (RFC 6791). Without ICMPSource4, the latter are dropped.
	ICMPSource4, ICMPSource6 []netip.Prefix
	Deny4                    []netip.Prefix // IPv4 destinations never reached from IPv6
	AllowPrivate4            bool           // lifts RFC 6052 3.1 for 64:ff9b::/96
	Local4, Local6           []netip.Addr   // the host's own, never reached through translation
	Hairpin                  Hairpin
	// VMPrefixes are where IPv6 nodes are that may send to IPv4. A source outside
	// of them is as one without a mapping: only its ICMPv6 errors are translated,
	// as a router's (RFC 6791). None: all nodes may.
	VMPrefixes []netip.Prefix
	MSSClamp   MSSClamp
}

// MaySend gives a function that tells whether all nodes of an IPv6 prefix may send
// to IPv4.
func (c *Config) MaySend() func(six netip.Prefix) bool {
	if len(c.VMPrefixes) == 0 {
		return func(netip.Prefix) bool { return true }
	}
	known := map[netip.Prefix]bool{}
	var lengths []int
	for _, p := range c.VMPrefixes {
		known[p] = true
		if !slices.Contains(lengths, p.Bits()) {
			lengths = append(lengths, p.Bits())
		}
	}
	return func(six netip.Prefix) bool {
		return slices.ContainsFunc(lengths, func(n int) bool {
			return n <= six.Bits() && known[netip.PrefixFrom(six.Addr(), n).Masked()]
		})
	}
}

// Translator is a compiled Config: immutable, safe for concurrent use.
type Translator struct {
	// What the fast path reads comes first.
	simple       bool // HairpinSimple
	intrinsic    bool
	pool         pool   // pools[0]
	poolSum      uint64 // the prefix's share of a pseudo-header sum
	poolLess     uint64 // and the same taken away
	tosKeep      uint64 // and-mask and or-mask of the traffic class
	tosSet       uint64
	host4, host6 hosts // table's
	class        *[1 << 16]uint8
	lowest       int
	syn          uint64 // mask of the TCP flag that the fast path leaves alone, for MSSClamp

	table *table

	udpZeroDrop bool
	pools       []pool
	network     *pool // the first prefix that is not the well-known one, or nil
	deny        *lpm.Table
	local4      *lpm.Table
	local6      *lpm.Table
	vms         *lpm.Table // Config.VMPrefixes; nil: all
	config      Config
}

// New checks a Config and compiles it. Errors name the entry and its remedy.
func New(c Config) (*Translator, error) {
	t := &Translator{class: new([1 << 16]uint8), config: c}
	var err error

	for i, p := range c.Pool6 {
		pl, err := newPool(p)
		if err != nil {
			return nil, fmt.Errorf("pool6 entry %d: %w", i+1, err)
		}
		for j, q := range c.Pool6[:i] {
			if p.Overlaps(q) {
				return nil, fmt.Errorf("pool6 entries %d and %d overlap (%v, %v); remove one", j+1, i+1, q, p)
			}
		}
		t.pools = append(t.pools, pl)
	}
	for i := range t.pools {
		if !t.pools[i].wellKnown {
			t.network = &t.pools[i]
			break
		}
	}
	if t.table, err = newTable(c.EAM); err != nil {
		return nil, err
	}

	if t.lowest = c.LowestIPv6MTU; t.lowest == 0 {
		t.lowest = minMTU6
	}
	if t.lowest < minMTU6 || t.lowest > 65535 {
		return nil, fmt.Errorf("lowest IPv6 MTU %d is not between %d and 65535", c.LowestIPv6MTU, minMTU6)
	}
	if c.UDPZeroChecksum > UDPZeroDrop {
		return nil, errors.New("UDP zero checksum must be compute or drop")
	}
	if c.Hairpin > HairpinOff {
		return nil, errors.New("hairpin must be intrinsic, simple or off")
	}
	t.udpZeroDrop = c.UDPZeroChecksum == UDPZeroDrop
	t.simple = c.Hairpin == HairpinSimple
	t.intrinsic = c.Hairpin == HairpinIntrinsic
	t.tosKeep = 0xff
	if c.TOS.Fixed {
		t.tosKeep, t.tosSet = 0, uint64(c.TOS.Value)
	}
	if err := checkSources(c); err != nil {
		return nil, err
	}
	if err := c.MSSClamp.check(); err != nil {
		return nil, err
	}
	if c.MSSClamp.on() {
		t.syn = tcpSYN << 48 // in the word from byte 12 on
	}

	var deny []lpm.Entry
	for i, p := range c.Deny4 {
		switch {
		case !p.IsValid() || !p.Addr().Is4():
			return nil, fmt.Errorf("deny4 entry %d: %v is no IPv4 prefix", i+1, p)
		case slices.ContainsFunc(c.Deny4[:i], func(q netip.Prefix) bool { return q.Masked() == p.Masked() }):
			continue
		}
		deny = append(deny, lpm.Entry{Hi: toAddr(p.Masked().Addr()).hi, Bits: p.Bits()})
		t.mark(p, classDenied)
	}
	if t.deny, err = lpm.Build(deny); err != nil {
		return nil, fmt.Errorf("deny4: %w", err)
	}
	if t.vms, err = buildVMs(c.VMPrefixes); err != nil {
		return nil, err
	}
	if t.local4, err = buildLocal("local4", c.Local4, 32); err != nil {
		return nil, err
	}
	if t.local6, err = buildLocal("local6", c.Local6, 128); err != nil {
		return nil, err
	}
	for _, a := range c.Local4 {
		t.mark(netip.PrefixFrom(a, 32), classLocal)
	}
	for _, p := range martians4 {
		t.mark(p, classMartian)
	}
	wellKnown := slices.Contains(c.Pool6, wellKnownPrefix)
	for _, p := range private4 {
		if wellKnown && !c.AllowPrivate4 {
			t.mark(p, classPrivate)
		}
	}
	for _, e := range c.EAM {
		t.mark(e.IPv4, classEAM)
	}

	return t, t.planFastPath(c)
}

// planFastPath gives the fast path its tables, if the first pool is a /96 that
// alone decides about an IPv6 destination, and no translation can end at one of the host's own
// addresses. Without tables, the complete path takes the direction.
func (t *Translator) planFastPath(c Config) error {
	if len(t.pools) == 0 || t.pools[0].bits != 96 {
		return nil
	}
	t.pool = t.pools[0]
	t.poolSum = uint64(fold(t.pool.prefix.sum()))
	t.poolLess = bias - t.poolSum
	plain4, plain6 := true, true
	for _, e := range c.EAM {
		if e.IPv6.Overlaps(c.Pool6[0]) {
			plain6 = false
		}
	}
	for _, a := range c.Local6 {
		if c.Pool6[0].Contains(a) {
			plain6 = false
		}
		if _, ok := t.table.to4(toAddr(a)); ok {
			plain4 = false
		}
	}
	if plain4 {
		t.host4 = t.table.host4
	}
	if plain6 {
		t.host6 = t.table.host6
	}
	if !plain6 || t.vms == nil {
		return nil
	}
	// The fast path does not ask who may send: it knows only those who may.
	maySend := c.MaySend()
	inside := slices.DeleteFunc(slices.Clone(c.EAM), func(e EAM) bool { return !maySend(e.IPv6) })
	if len(inside) < len(c.EAM) {
		sources, err := newTable(inside)
		if err != nil {
			return err
		}
		t.host6 = sources.host6
	}
	return nil
}

func buildVMs(list []netip.Prefix) (*lpm.Table, error) {
	var entries []lpm.Entry
	for i, p := range list {
		switch {
		case !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() || p != p.Masked():
			return nil, fmt.Errorf("vm_prefixes entry %d: %v is no IPv6 prefix, or has bits behind its length", i+1, p)
		case slices.Contains(list[:i], p):
			continue
		}
		x := toAddr(p.Addr())
		entries = append(entries, lpm.Entry{Hi: x.hi, Lo: x.lo, Bits: p.Bits()})
	}
	t, err := lpm.Build(entries)
	if err != nil {
		return nil, fmt.Errorf("vm_prefixes: %w", err)
	}
	return t, nil
}

func buildLocal(name string, list []netip.Addr, bits int) (*lpm.Table, error) {
	var entries []lpm.Entry
	for i, a := range list {
		if a.BitLen() != bits || a.Is4In6() || a.Zone() != "" {
			return nil, fmt.Errorf("%s entry %d: %v is no %d-bit address", name, i+1, a, bits)
		}
		if slices.Contains(list[:i], a) {
			continue
		}
		x := toAddr(a)
		entries = append(entries, lpm.Entry{Hi: x.hi, Lo: x.lo, Bits: bits})
	}
	t, err := lpm.Build(entries)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

func checkSources(c Config) error {
	for i, p := range c.ICMPSource4 {
		if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() {
			return fmt.Errorf("icmp_source4 entry %d: %v is no IPv4 prefix, or has bits behind its length", i+1, p)
		}
		for _, m := range martians4 {
			if m.Overlaps(p) {
				return fmt.Errorf("icmp_source4 entry %d: %v overlaps %v, which nobody accepts as a source", i+1, p, m)
			}
		}
	}
	for i, p := range c.ICMPSource6 {
		if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() || p != p.Masked() {
			return fmt.Errorf("icmp_source6 entry %d: %v is no IPv6 prefix, or has bits behind its length", i+1, p)
		}
		if martian6(toAddr(p.Addr())) {
			return fmt.Errorf("icmp_source6 entry %d: %v lies in loopback, link-local or multicast space", i+1, p)
		}
	}
	return nil
}

// trafficClass is what becomes of a traffic class.
func (t *Translator) trafficClass(x uint8) uint8 { return uint8(uint64(x)&t.tosKeep | t.tosSet) }

// Config gives what New was given.
func (t *Translator) Config() Config { return t.config }
