package translate

import (
	"fmt"
	"math/bits"
	"net/netip"

	"aarch64.com/isthmus/translate/internal/lpm"
)

// EAM is an explicit address mapping (RFC 7757): an IPv6 and an IPv4 prefix
// whose suffixes translate into each other. The IPv4 suffix may be the shorter
// one: then it stands at the front of the IPv6 suffix, and the rest is zero when
// written and ignored when read. The longest prefix wins on both sides.
type EAM struct{ IPv6, IPv4 netip.Prefix }

// mapping is a compiled EAM.
type mapping struct {
	six        addr
	four       uint32
	bits6      uint
	bits4      uint
	suffix4    uint // 32 - bits4
	suffixMask uint32
}

func newMapping(e EAM) (mapping, error) {
	six, four := e.IPv6, e.IPv4
	switch {
	case !six.IsValid() || !six.Addr().Is6() || six.Addr().Is4In6():
		return mapping{}, fmt.Errorf("%v is no IPv6 prefix", six)
	case !four.IsValid() || !four.Addr().Is4():
		return mapping{}, fmt.Errorf("%v is no IPv4 prefix", four)
	case six != six.Masked():
		return mapping{}, fmt.Errorf("%v has bits behind its length; write %v", six, six.Masked())
	case four != four.Masked():
		return mapping{}, fmt.Errorf("%v has bits behind its length; write %v", four, four.Masked())
	case 32-four.Bits() > 128-six.Bits():
		return mapping{}, fmt.Errorf("%v leaves %d bits for the %d bits that %v leaves (RFC 7757 3.1); lengthen %v to /%d or more",
			six, 128-six.Bits(), 32-four.Bits(), four, four, six.Bits()-96)
	}
	for _, m := range martians6 {
		if m.Overlaps(six) {
			return mapping{}, fmt.Errorf("%v overlaps %v, which is never translated", six, m)
		}
	}
	for _, m := range martians4 {
		if m.Overlaps(four) {
			return mapping{}, fmt.Errorf("%v overlaps %v, which is never translated", four, m)
		}
	}
	return mapping{
		six:        toAddr(six.Addr()),
		four:       toAddr(four.Addr()).v4(),
		bits6:      uint(six.Bits()),
		bits4:      uint(four.Bits()),
		suffix4:    uint(32 - four.Bits()),
		suffixMask: uint32(uint64(1)<<(32-four.Bits()) - 1),
	}, nil
}

// to6 writes the IPv4 suffix right behind the IPv6 prefix (RFC 7757 3.3.1).
func (m *mapping) to6(v uint32) addr {
	suffix := uint64(v & m.suffixMask)
	// The suffix's lowest bit is bit bits6+suffix4 of the address, counted from
	// the front, so it is shifted left by 128 minus that.
	shift := 128 - m.bits6 - m.suffix4
	if shift >= 64 {
		return addr{m.six.hi | suffix<<(shift-64), m.six.lo}
	}
	return addr{m.six.hi | suffix>>(64-shift), m.six.lo | suffix<<shift}
}

// to4 reads it back (RFC 7757 3.3.2).
func (m *mapping) to4(a addr) uint32 {
	shift := 128 - m.bits6 - m.suffix4
	var suffix uint64
	if shift >= 64 {
		suffix = a.hi >> (shift - 64)
	} else {
		suffix = a.hi<<(64-shift) | a.lo>>shift
	}
	return m.four | uint32(suffix)&m.suffixMask
}

// hosts holds the mappings of single addresses, which is what large tables
// consist of, in a hash table of cache lines: a probe touches one line and finds
// key and value together. Two of them are made from the same mappings, one keyed
// by each family.
type hosts struct{ lines []line }

// line is one 64-byte cache line with up to three mappings. Free places have
// four == 0, which no mapping has (0.0.0.0/8 is refused).
type line struct {
	hi, lo [3]uint64
	four   [3]uint32
	_      uint32
}

// perLine is how full lines are on average; the fuller, the smaller the table
// and the more lookups that need the next line.
const perLine = 1.5

func newHosts(count int) hosts {
	return hosts{lines: make([]line, int(float64(count)/perLine)+1)}
}

func hash6(a addr) uint64 {
	h := (a.hi^a.hi>>29)*0x9e3779b97f4a7c15 ^ a.lo
	return (h ^ h>>32) * 0xbf58476d1ce4e5b9
}

func hash4(v uint32) uint64 {
	h := uint64(v) * 0x9e3779b97f4a7c15
	return (h ^ h>>32) * 0xbf58476d1ce4e5b9
}

// slot brings a hash down to a line's index without a division.
func (h *hosts) slot(hash uint64) uint64 {
	i, _ := bits.Mul64(hash, uint64(len(h.lines)))
	return i
}

func (h *hosts) put(hash uint64, a addr, v uint32) {
	for i := h.slot(hash); ; i++ {
		if i >= uint64(len(h.lines)) {
			i = 0
		}
		for j := range 3 {
			if l := &h.lines[i]; l.four[j] == 0 {
				l.hi[j], l.lo[j], l.four[j] = a.hi, a.lo, v
				return
			}
		}
	}
}

// find4 gives the IPv4 address of an IPv6 address, 0 if there is none.
func (h *hosts) find4(a addr) uint32 {
	if len(h.lines) == 0 {
		return 0
	}
	for i := h.slot(hash6(a)); ; i++ {
		if i >= uint64(len(h.lines)) {
			i = 0
		}
		l := &h.lines[i]
		if l.lo[0] == a.lo && l.hi[0] == a.hi {
			return l.four[0]
		}
		if l.lo[1] == a.lo && l.hi[1] == a.hi {
			return l.four[1]
		}
		if l.lo[2] == a.lo && l.hi[2] == a.hi {
			return l.four[2]
		}
		if l.four[2] == 0 {
			return 0
		}
	}
}

// find6 gives the IPv6 address of an IPv4 address.
func (h *hosts) find6(v uint32) (a addr, ok bool) {
	if len(h.lines) == 0 {
		return addr{}, false
	}
	for i := h.slot(hash4(v)); ; i++ {
		if i >= uint64(len(h.lines)) {
			i = 0
		}
		l := &h.lines[i]
		if l.four[0] == v {
			return addr{l.hi[0], l.lo[0]}, true
		}
		if l.four[1] == v {
			return addr{l.hi[1], l.lo[1]}, true
		}
		if l.four[2] == v {
			return addr{l.hi[2], l.lo[2]}, true
		}
		if l.four[2] == 0 {
			return addr{}, false
		}
	}
}

// table is the explicit address mapping table.
type table struct {
	host4, host6 hosts // IPv4 /32 by IPv4, IPv6 /128 by IPv6
	lpm4, lpm6   *lpm.Table
	prefixes     []mapping // what lpm4 and lpm6 point at
}

func newTable(eam []EAM) (*table, error) {
	t := &table{}
	maps := make([]mapping, len(eam))
	count4, count6 := 0, 0
	for i, e := range eam {
		m, err := newMapping(e)
		if err != nil {
			return nil, fmt.Errorf("eam entry %d: %w", i+1, err)
		}
		maps[i] = m
		if m.bits4 == 32 {
			count4++
		}
		if m.bits6 == 128 {
			count6++
		}
	}
	if count4 > 0 {
		t.host4 = newHosts(count4)
	}
	if count6 > 0 {
		t.host6 = newHosts(count6)
	}
	var four, six []lpm.Entry
	seen4 := make(map[netip.Prefix]int, len(eam))
	seen6 := make(map[netip.Prefix]int, len(eam))
	for i, m := range maps {
		if j, dup := seen4[eam[i].IPv4]; dup {
			return nil, fmt.Errorf("eam entries %d and %d both map %v (to %v and %v); remove one", j+1, i+1, eam[i].IPv4, eam[j].IPv6, eam[i].IPv6)
		}
		if j, dup := seen6[eam[i].IPv6]; dup {
			return nil, fmt.Errorf("eam entries %d and %d both map %v (to %v and %v); remove one", j+1, i+1, eam[i].IPv6, eam[j].IPv4, eam[i].IPv4)
		}
		seen4[eam[i].IPv4], seen6[eam[i].IPv6] = i, i
		if m.bits4 == 32 {
			t.host4.put(hash4(m.four), m.six, m.four)
		} else {
			four = append(four, lpm.Entry{Hi: uint64(m.four) << 32, Bits: int(m.bits4), Value: uint32(len(t.prefixes))})
		}
		if m.bits6 == 128 {
			t.host6.put(hash6(m.six), m.six, m.four)
		} else {
			six = append(six, lpm.Entry{Hi: m.six.hi, Lo: m.six.lo, Bits: int(m.bits6), Value: uint32(len(t.prefixes))})
		}
		if m.bits4 != 32 || m.bits6 != 128 {
			t.prefixes = append(t.prefixes, m)
		}
	}
	var err error
	if t.lpm4, err = lpm.Build(four); err != nil {
		return nil, fmt.Errorf("eam: %w", err)
	}
	if t.lpm6, err = lpm.Build(six); err != nil {
		return nil, fmt.Errorf("eam: %w", err)
	}
	return t, nil
}

// to4 maps an IPv6 address by the longest IPv6 prefix.
func (t *table) to4(a addr) (uint32, bool) {
	if v := t.host6.find4(a); v != 0 {
		return v, true
	}
	if t.lpm6 == nil {
		return 0, false
	}
	i, ok := t.lpm6.Lookup(a.hi, a.lo)
	if !ok {
		return 0, false
	}
	return t.prefixes[i].to4(a), true
}

// to6 maps an IPv4 address by the longest IPv4 prefix.
func (t *table) to6(v uint32) (addr, bool) {
	if v == 0 {
		return addr{}, false // marks a free place
	}
	if a, ok := t.host4.find6(v); ok {
		return a, true
	}
	if t.lpm4 == nil {
		return addr{}, false
	}
	i, ok := t.lpm4.Lookup(uint64(v)<<32, 0)
	if !ok {
		return addr{}, false
	}
	return t.prefixes[i].to6(v), true
}
