package translate

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// addr is an address as two words: IPv6 in full, IPv4 in the upper half of hi.
type addr struct{ hi, lo uint64 }

func from4(v uint32) addr { return addr{hi: uint64(v) << 32} }

func (a addr) v4() uint32 { return uint32(a.hi >> 32) }

// sum is the address's share of a pseudo-header sum, not folded. It is the same
// expression for both families, because IPv4 leaves the other words zero.
func (a addr) sum() uint64 { return sum64(a.hi) + sum64(a.lo) }

func load6(b *[16]byte) addr {
	return addr{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func toAddr(a netip.Addr) addr {
	if a.Is4() {
		b := a.As4()
		return from4(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return load6(&b)
}

// pool is one RFC 6052 prefix.
//
//	     0            32    40    48    56    64  72    80    88    96   104       128
//	/32  |   prefix   |        v4       | u | suffix                              |
//	/40  |   prefix         |    v4 24  | u | v4 8| suffix                         |
//	/48  |   prefix               |v4 16| u |  v4 16    | suffix                   |
//	/56  |   prefix                     |8| u |   v4 24       | suffix              |
//	/64  |   prefix                       | u |      v4 32        | suffix          |
//	/96  |   prefix                                           |         v4 32       |
//
// u (bits 64 to 71) and the suffix are zero when written, ignored when read.
type pool struct {
	prefix    addr
	mask      addr
	bits      uint
	wellKnown bool // 64:ff9b::/96: no non-global IPv4 (RFC 6052 3.1), no IPv6 nodes (3.3)
}

var wellKnownPrefix = netip.MustParsePrefix("64:ff9b::/96")

func newPool(p netip.Prefix) (pool, error) {
	switch {
	case !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6():
		return pool{}, fmt.Errorf("%v is no IPv6 prefix", p)
	case p != p.Masked():
		return pool{}, fmt.Errorf("%v has bits behind its length; write %v", p, p.Masked())
	}
	switch p.Bits() {
	case 32, 40, 48, 56, 64, 96:
	default:
		return pool{}, fmt.Errorf("%v has length %d; RFC 6052 allows 32, 40, 48, 56, 64 and 96", p, p.Bits())
	}
	if p.Addr().As16()[8] != 0 {
		return pool{}, fmt.Errorf("%v has non-zero bits 64 to 71, which RFC 6052 2.2 reserves; choose another prefix", p)
	}
	if martian6(toAddr(p.Addr())) {
		return pool{}, fmt.Errorf("%v lies in loopback, link-local or multicast space", p)
	}
	return pool{
		prefix:    toAddr(p.Addr()),
		mask:      prefixMask(p.Bits()),
		bits:      uint(p.Bits()),
		wellKnown: p == wellKnownPrefix,
	}, nil
}

func prefixMask(bits int) addr {
	switch {
	case bits == 0:
		return addr{}
	case bits <= 64:
		return addr{^uint64(0) << (64 - bits), 0}
	}
	return addr{^uint64(0), ^uint64(0) << (128 - bits)}
}

func (p *pool) contains(a addr) bool {
	return a.hi&p.mask.hi == p.prefix.hi && a.lo&p.mask.lo == p.prefix.lo
}

// embed writes an IPv4 address behind the prefix.
func (p *pool) embed(v uint32) addr {
	if p.bits == 96 {
		return addr{p.prefix.hi, p.prefix.lo | uint64(v)}
	}
	behind := p.bits - 32 // bits of v that lie behind u
	return addr{
		p.prefix.hi | uint64(v)>>behind,
		uint64(v) & (1<<behind - 1) << (56 - behind),
	}
}

// extract reads the IPv4 address behind the prefix.
func (p *pool) extract(a addr) uint32 {
	if p.bits == 96 {
		return uint32(a.lo)
	}
	behind := p.bits - 32
	return uint32(a.hi<<behind | a.lo>>(56-behind)&(1<<behind-1))
}

var martians6 = []netip.Prefix{
	netip.MustParsePrefix("::/127"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// martian6 tells addresses that no router forwards: ::, ::1, fe80::/10, ff00::/8.
func martian6(a addr) bool {
	return a.hi == 0 && a.lo <= 1 || a.hi>>54 == 0xfe80>>6 || a.hi>>56 == 0xff
}

// The classes of an IPv4 address, kept per /16: a cleared bit is certain, a set
// one means "look closer". One load answers for nearly all of the Internet.
const (
	classMartian uint8 = 1 << iota // RFC 1812 5.3.7: 0/8, 127/8, 169.254/16, 224/4, 240/4
	classPrivate                   // banned under the well-known prefix (RFC 6052 3.1)
	classDenied                    // Config.Deny4
	classLocal                     // Config.Local4
	classEAM                       // RFC 7757
)

var martians4 = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("240.0.0.0/4"),
}

// private4 is what RFC 6052 3.1 calls non-global: RFC 1918 and the blocks of
// RFC 6890 that carry real traffic within one network. The documentation blocks
// are left out: RFC 6052 2.4 itself writes 64:ff9b::192.0.2.33.
var private4 = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
}

// class4 gives the exact class of v: the /16's, with what needs a closer look
// looked up. classEAM stays "maybe".
func (t *Translator) class4(v uint32) uint8 {
	c := t.class[v>>16]
	if c&classPrivate != 0 && v>>16 == 0xc000 && v>>8 != 0xc00000 {
		c &^= classPrivate // 192.0.0.0/24 is private, its /16 is not
	}
	if c&classDenied != 0 {
		if _, ok := t.deny.Lookup(uint64(v)<<32, 0); !ok {
			c &^= classDenied
		}
	}
	if c&classLocal != 0 {
		if _, ok := t.local4.Lookup(uint64(v)<<32, 0); !ok {
			c &^= classLocal
		}
	}
	return c
}

// mark sets a class on every /16 that p touches.
func (t *Translator) mark(p netip.Prefix, class uint8) {
	first := toAddr(p.Masked().Addr()).v4() >> 16
	for i := range uint32(1) << max(0, 16-p.Bits()) {
		t.class[first+i] |= class
	}
}
