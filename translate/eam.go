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
type hosts struct {
	lines []line // the last ones only take what overflows: a probe never wraps
	n     uint64 // lines that hashes lead to
}

// line is one 64-byte cache line with up to three mappings. Free places have
// four == 0, which no mapping has (0.0.0.0/8 is refused).
//
// Instead of an address's lower half, mix is kept: with hi it says the same, and
// unlike the lower half, which is ::1 for many, it alone tells addresses apart.
type line struct {
	hi, mix [3]uint64
	four    [3]uint32
	_       uint32
}

// mix turns (hi, lo) into (hi, mix) and back.
func mix(hi, lo uint64) uint64 { return hi*0x9e3779b97f4a7c15 ^ lo }

// Multiplying by an odd constant spreads addresses in a row evenly over the upper
// bits, which slot takes (Knuth, volume 3, 6.4: Fibonacci hashing).
func hash6(mix uint64) uint64 { return mix * 0xd6e8feb86659fd93 }
func hash4(v uint32) uint64   { return uint64(v) * 0x9e3779b97f4a7c15 }

// slot brings a hash down to a line's index without a division.
func (h *hosts) slot(hash uint64) uint64 {
	i, _ := bits.Mul64(hash, h.n)
	return i
}

// put adds a mapping.
func (h *hosts) put(hash uint64, a addr, v uint32) {
	for i := h.slot(hash); i < uint64(len(h.lines)); i++ {
		for j := range 3 {
			if l := &h.lines[i]; l.four[j] == 0 {
				l.hi[j], l.mix[j], l.four[j] = a.hi, mix(a.hi, a.lo), v
				return
			}
		}
	}
}

// place6 gives which place has an IPv6 address, and place4 an IPv4 address, if
// one has; else any. There is no branch, because which place it is can't be
// predicted.
func (l *line) place6(mix uint64) (i int) {
	if l.mix[1] == mix {
		i = 1
	}
	if l.mix[2] == mix {
		i = 2
	}
	return i
}

func (l *line) place4(v uint32) (i int) {
	if l.four[1] == v {
		i = 1
	}
	if l.four[2] == v {
		i = 2
	}
	return i
}

// find4 gives the IPv4 address of an IPv6 address, 0 if there is none.
func (h *hosts) find4(a addr) uint32 {
	m := mix(a.hi, a.lo)
	for i := h.slot(hash6(m)); i < uint64(len(h.lines)); i++ {
		l := &h.lines[i]
		for j, v := range l.four {
			if l.mix[j] == m && l.hi[j] == a.hi || v == 0 {
				return v
			}
		}
	}
	return 0
}

// find6 gives the IPv6 address of an IPv4 address, which is not 0.
func (h *hosts) find6(v uint32) (a addr, ok bool) {
	for i := h.slot(hash4(v)); i < uint64(len(h.lines)); i++ {
		l := &h.lines[i]
		if j := l.place4(v); l.four[j] == v {
			return addr{l.hi[j], mix(l.hi[j], l.mix[j])}, true
		}
		if l.four[2] == 0 {
			break
		}
	}
	return addr{}, false
}

// table is the explicit address mapping table.
type table struct {
	host6, host4 hosts  // IPv6 /128 by IPv6, IPv4 /32 by IPv4
	lines        []line // of host6, then of host4
	lpm4, lpm6   *lpm.Table
	prefixes     []mapping // what lpm4 and lpm6 point at
}

func newTable(eam []EAM) (*table, error) {
	t := &table{}
	maps := make([]mapping, len(eam))
	seen4 := make(map[netip.Prefix]int, len(eam))
	seen6 := make(map[netip.Prefix]int, len(eam))
	var four, six []lpm.Entry
	for i, e := range eam {
		m, err := newMapping(e)
		if err != nil {
			return nil, fmt.Errorf("eam entry %d: %w", i+1, err)
		}
		maps[i] = m
		if j, dup := seen4[e.IPv4]; dup {
			return nil, fmt.Errorf("eam entries %d and %d both map %v (to %v and %v); remove one", j+1, i+1, e.IPv4, eam[j].IPv6, e.IPv6)
		}
		if j, dup := seen6[e.IPv6]; dup {
			return nil, fmt.Errorf("eam entries %d and %d both map %v (to %v and %v); remove one", j+1, i+1, e.IPv6, eam[j].IPv4, e.IPv4)
		}
		seen4[e.IPv4], seen6[e.IPv6] = i, i
		value := uint32(len(t.prefixes))
		if m.bits4 != 32 {
			four = append(four, lpm.Entry{Hi: uint64(m.four) << 32, Bits: int(m.bits4), Value: value})
		}
		if m.bits6 != 128 {
			six = append(six, lpm.Entry{Hi: m.six.hi, Lo: m.six.lo, Bits: int(m.bits6), Value: value})
		}
		if m.bits4 != 32 || m.bits6 != 128 {
			t.prefixes = append(t.prefixes, m)
		}
	}
	t.fillHosts(maps)
	var err error
	if t.lpm4, err = lpm.Build(four); err != nil {
		return nil, fmt.Errorf("eam: %w", err)
	}
	if t.lpm6, err = lpm.Build(six); err != nil {
		return nil, fmt.Errorf("eam: %w", err)
	}
	return t, nil
}

// fillHosts makes the host tables. With 0.75 mappings to a line, one lookup in a
// hundred needs a second line; with 1.5, one in twenty does, and waits for memory
// twice. Behind the lines that hashes lead to there is room for everything, so
// that a probe needs not wrap around; untouched, it takes no memory.
func (t *table) fillHosts(maps []mapping) {
	if len(maps) == 0 {
		return
	}
	n := len(maps)*4/3 + 1
	size := n + len(maps)/3 + 1
	t.lines = make([]line, 2*size)
	t.host6 = hosts{t.lines[:size], uint64(n)}
	t.host4 = hosts{t.lines[size:], uint64(n)}
	for _, m := range maps {
		if m.bits4 == 32 {
			t.host4.put(hash4(m.four), m.six, m.four)
		}
		if m.bits6 == 128 {
			t.host6.put(hash6(mix(m.six.hi, m.six.lo)), m.six, m.four)
		}
	}
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
