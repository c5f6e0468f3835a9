// Package lpm finds the longest prefix that covers an address.
//
// A Table has one hash table per prefix length. A lookup probes the longest
// length first, because tables of host entries answer there; if that fails, it
// searches the other lengths by halving (Waldvogel et al., "Scalable High Speed
// IP Routing Lookups", SIGCOMM 1997): a marker in the table of a middle length
// says that something longer exists, and carries the best match so far, so that
// a wrong turn costs nothing. 129 lengths take 8 probes, two lengths take 2.
//
// A Table is immutable after Build and safe for concurrent use.
package lpm

import (
	"fmt"
	"math/bits"
	"net/netip"
	"sort"
)

// Entry is one prefix. IPv6: Hi and Lo are the address, Bits <= 128. IPv4: Hi is
// uint64(addr)<<32, Lo is 0, Bits <= 32. Bits behind the prefix must be zero.
type Entry struct {
	Hi, Lo uint64
	Bits   int
	Value  uint32
}

// Table maps prefixes to values.
type Table struct {
	longest level
	rest    []level // the other lengths, ascending
}

// level holds the prefixes (and markers) of one length, open addressing.
type level struct {
	maskHi, maskLo uint64
	shift          uint // 64 - log2(len(slots))
	slots          []slot
	bits           int
}

type slot struct {
	hi, lo uint64
	value  uint32
	kind   kind
}

type kind uint32

const (
	empty  kind = iota
	marker      // something longer exists; nothing covers this one
	match       // value is the longest match up to this length
)

func mask(bits int) (hi, lo uint64) {
	switch {
	case bits <= 0:
		return 0, 0
	case bits < 64:
		return ^uint64(0) << (64 - bits), 0
	case bits < 128:
		return ^uint64(0), ^(^uint64(0) >> (bits - 64))
	}
	return ^uint64(0), ^uint64(0)
}

func hash(hi, lo uint64) uint64 {
	// Two odd constants (golden ratio, and one of splitmix64); the product's
	// upper bits depend on all bits of both words.
	h := hi*0x9e3779b97f4a7c15 ^ lo
	return (h ^ h>>32) * 0xbf58476d1ce4e5b9
}

func (l *level) find(hi, lo uint64) *slot {
	hi &= l.maskHi
	lo &= l.maskLo
	last := uint64(len(l.slots) - 1)
	for i := hash(hi, lo) >> (l.shift & 63); ; i++ {
		s := &l.slots[i&last]
		if s.kind == empty || s.hi == hi && s.lo == lo {
			return s
		}
	}
}

// Lookup gives the value of the longest prefix that covers the address. A nil
// table covers nothing.
func (t *Table) Lookup(hi, lo uint64) (value uint32, ok bool) {
	if t == nil {
		return 0, false
	}
	if s := t.longest.find(hi, lo); s.kind == match {
		return s.value, true
	}
	for low, high := 0, len(t.rest); low < high; {
		mid := int(uint(low+high) >> 1)
		s := t.rest[mid].find(hi, lo)
		if s.kind == empty {
			high = mid
			continue
		}
		if s.kind == match {
			value, ok = s.value, true
		}
		low = mid + 1
	}
	return value, ok
}

type key struct{ hi, lo uint64 }

// Build makes a table. Two entries with the same prefix, a length out of range
// and bits behind the prefix are errors. No entries: a nil table.
func Build(entries []Entry) (*Table, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	byLen := map[int]map[key]uint32{}
	var lens []int
	for i, e := range entries {
		if e.Bits < 0 || e.Bits > 128 {
			return nil, fmt.Errorf("prefix %d has length %d, not 0 to 128", i, e.Bits)
		}
		if hi, lo := mask(e.Bits); e.Hi&^hi != 0 || e.Lo&^lo != 0 {
			return nil, fmt.Errorf("prefix %d (%s) has bits behind its length", i, e)
		}
		m := byLen[e.Bits]
		if m == nil {
			m = map[key]uint32{}
			byLen[e.Bits] = m
			lens = append(lens, e.Bits)
		}
		k := key{e.Hi, e.Lo}
		if old, dup := m[k]; dup {
			return nil, fmt.Errorf("prefix %s is there twice, with values %d and %d", e, old, e.Value)
		}
		m[k] = e.Value
	}
	sort.Ints(lens)

	// marks[i] are the keys of level i that are no prefixes themselves.
	rest := lens[:len(lens)-1]
	marks := make([]map[key]bool, len(rest))
	for i := range marks {
		marks[i] = map[key]bool{}
	}
	for i, n := range rest {
		for k := range byLen[n] {
			for low, high := 0, len(rest); low < high; {
				mid := int(uint(low+high) >> 1)
				if mid > i {
					high = mid
					continue
				}
				if mid == i {
					break
				}
				hi, lo := mask(rest[mid])
				m := key{k.hi & hi, k.lo & lo}
				if _, real := byLen[rest[mid]][m]; !real {
					marks[mid][m] = true
				}
				low = mid + 1
			}
		}
	}

	t := &Table{}
	n := lens[len(lens)-1]
	t.longest = newLevel(n, len(byLen[n]))
	for k, v := range byLen[n] {
		t.longest.put(slot{k.hi, k.lo, v, match})
	}
	for i, n := range rest {
		l := newLevel(n, len(byLen[n])+len(marks[i]))
		for k, v := range byLen[n] {
			l.put(slot{k.hi, k.lo, v, match})
		}
		for k := range marks[i] {
			s := slot{hi: k.hi, lo: k.lo, kind: marker}
			for j := i - 1; j >= 0; j-- {
				hi, lo := mask(rest[j])
				if v, ok := byLen[rest[j]][key{k.hi & hi, k.lo & lo}]; ok {
					s.value, s.kind = v, match
					break
				}
			}
			l.put(s)
		}
		t.rest = append(t.rest, l)
	}
	return t, nil
}

func newLevel(n, count int) level {
	l := level{bits: n}
	l.maskHi, l.maskLo = mask(n)
	log := uint(bits.Len(uint(count*2 - 1))) // at most half full, so find ends
	l.slots = make([]slot, 1<<log)
	l.shift = 64 - log
	return l
}

func (l *level) put(s slot) { *l.find(s.hi, s.lo) = s }

// String gives the prefix as text, IPv4 if it can be one.
func (e Entry) String() string {
	if e.Bits <= 32 && e.Lo == 0 && e.Hi<<32 == 0 {
		v4 := netip.AddrFrom4([4]byte{byte(e.Hi >> 56), byte(e.Hi >> 48), byte(e.Hi >> 40), byte(e.Hi >> 32)})
		return fmt.Sprintf("%s/%d", v4, e.Bits)
	}
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(e.Hi>>(56-8*i)), byte(e.Lo>>(56-8*i))
	}
	return fmt.Sprintf("%s/%d", netip.AddrFrom16(b), e.Bits)
}
