package equivalence

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"aarch64.com/isthmus/translate"
)

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func addrs(list ...string) (as []netip.Addr) {
	for _, s := range list {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func eams(list ...string) (es []translate.EAM) {
	for i := 0; i < len(list); i += 2 {
		es = append(es, translate.EAM{IPv6: netip.MustParsePrefix(list[i]), IPv4: netip.MustParsePrefix(list[i+1])})
	}
	return es
}

// Addresses that packets are made of: mapped ones in hosts, others around them.
var (
	vm6   = []string{"2001:db8:a::1", "2001:db8:a::2", "2001:db8:a:ffff::3", "2001:db8:c::9", "2001:db8:b::7", "64:ff9b::c000:280", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"}
	vm4   = []string{"192.0.2.1", "100.64.0.2", "203.0.113.3", "198.51.100.9", "198.51.101.7", "192.0.2.128"}
	hosts = eams("2001:db8:a::1/128", "192.0.2.1/32", "2001:db8:a::2/128", "100.64.0.2/32", "2001:db8:a:ffff::3/128", "203.0.113.3/32")
	mixed = append(eams("2001:db8:c::/64", "198.51.100.0/24", "2001:db8:c::9/128", "198.51.100.9/32", "2001:db8:b::/120", "198.51.101.7/32"), hosts...)
	far4  = []string{"8.8.8.8", "198.51.100.9", "198.51.100.77", "192.0.2.1", "192.0.2.2", "203.0.113.99", "203.0.114.1", "198.20.0.0", "1.0.0.0", "223.255.255.255", "255.254.0.1"}
	odd4  = []string{"10.0.0.1", "11.0.0.1", "100.63.255.255", "100.64.0.1", "100.128.0.1", "172.15.255.255", "172.16.0.1", "172.32.0.0",
		"192.0.0.1", "192.0.1.1", "192.167.255.255", "192.168.0.1", "198.17.255.255", "198.18.0.1", "0.0.0.1", "127.0.0.1", "128.0.0.1",
		"169.253.255.255", "169.254.1.1", "169.255.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "203.0.113.2", "203.0.113.64", "203.0.113.63"}
)

// configurations cover what the tables are compiled from, and sizes.
func configurations(t testing.TB) []*pair {
	known, network := prefixes("64:ff9b::/96"), prefixes("2001:db8:64::/96")
	pairs := []*pair{
		newPair(t, translate.Config{Pool6: known, EAM: hosts}, 1500, 1500),
		newPair(t, translate.Config{Pool6: network, EAM: mixed}, 1400, 1400),
		newPair(t, translate.Config{Pool6: known, EAM: mixed, AllowPrivate4: true, LowestIPv6MTU: 1500}, 576, 1500),
		newPair(t, translate.Config{Pool6: append(known[:1:1], network...), EAM: mixed, TOS: translate.TOS{Fixed: true, Value: 0xb8},
			Deny4: prefixes("203.0.113.64/26", "8.8.8.8/32", "1.0.0.0/9"), Hairpin: translate.HairpinSimple,
			Local4: addrs("203.0.113.2", "203.0.113.3"), Local6: addrs("2001:db8::2", "2001:db8:a::2")}, 9000, 9000),
		newPair(t, translate.Config{Pool6: network, EAM: hosts, Hairpin: translate.HairpinOff, TOS: translate.TOS{Fixed: true}, LowestIPv6MTU: 3000}, 3000, 3000),
		newPair(t, translate.Config{Pool6: known, EAM: append(eams("64:ff9b::c000:280/121", "192.0.2.128/25"), hosts...)}, 1500, 1280),
		newPair(t, translate.Config{Pool6: network, EAM: hosts, Local6: addrs("2001:db8:64::808:808")}, 1280, 1500),
		newPair(t, translate.Config{Pool6: prefixes("2001:db8:64::/64", "64:ff9b::/96"), EAM: hosts}, 1500, 1500),
		newPair(t, translate.Config{EAM: hosts}, 1500, 1500),
		newPair(t, translate.Config{Pool6: known, EAM: hosts, VMPrefixes: prefixes("2001:db8:a::/64")}, 1500, 1500),
		newPair(t, translate.Config{Pool6: known, EAM: hosts, MSSClamp: translate.MSSClamp{Max: 1200}}, 1500, 1500),
	}
	// A destination that is a mapping and under the pool at once, or the
	// host's own; a pool of another length, or none.
	pairs[5].serves, pairs[6].serves = [2]bool{false, true}, [2]bool{false, true}
	pairs[7].serves, pairs[8].serves = [2]bool{}, [2]bool{}
	return pairs
}

// maker makes packets for a pair.
type maker struct {
	*rand.Rand
	pair *pair
}

func (r *maker) chance(percent int) bool { return r.IntN(100) < percent }

func pick[T any](r *maker, list ...T) T { return list[r.IntN(len(list))] }

func (r *maker) far4() []byte {
	if r.chance(20) {
		return netip.MustParseAddr(pick(r, odd4...)).AsSlice()
	}
	if r.chance(30) {
		return binary.BigEndian.AppendUint32(nil, r.Uint32())
	}
	return netip.MustParseAddr(pick(r, far4...)).AsSlice()
}

func (r *maker) vm6() []byte {
	n := 3
	if r.chance(15) {
		n = len(vm6)
	}
	return netip.MustParseAddr(pick(r, vm6[:n]...)).AsSlice()
}

// pool6 puts an IPv4 address under one of the prefixes.
func (r *maker) pool6(four []byte) []byte {
	list := prefixes("64:ff9b::/96", "2001:db8:64::/96", "64:ff9b:1::/96")
	p := pick(r, list...)
	if len(r.pair.config.Pool6) > 0 && r.chance(90) {
		p = r.pair.config.Pool6[0]
	}
	b := p.Addr().As16()
	copy(b[12:], four)
	return b[:]
}

// length is that of a transport payload: many around the sizes that matter.
func (r *maker) length() int {
	switch x := r.IntN(100); {
	case x < 50:
		return r.IntN(80)
	case x < 85:
		edge := pick(r, r.pair.mtu4, r.pair.mtu6, 1260, 1280, max(r.pair.config.LowestIPv6MTU, 1280))
		return min(longest-60, max(0, edge-pick(r, 20, 40)-pick(r, 0, 8, 20)+r.IntN(7)-3))
	}
	return r.IntN(longest - 60)
}

// transport makes a plain transport header with payload, and its protocol.
// Checksums are random: translation carries over what was wrong with them.
func (r *maker) transport(six bool) (proto byte, b []byte) {
	proto = pick[byte](r, 6, 6, 17, 17, 1)
	least := map[byte]int{6: 20, 17: 8, 1: 8}[proto]
	b = make([]byte, least+r.length())
	if !r.chance(10) {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	at := map[byte]int{6: 16, 17: 6, 1: 2}[proto]
	switch {
	case r.chance(5):
		b[at], b[at+1] = 0, 0
	case r.chance(5):
		b[at], b[at+1] = 0xff, 0xff
	}
	switch proto {
	case 17:
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	case 1:
		b[0] = pick[byte](r, 0, 8)
		if six {
			proto, b[0] = 58, pick[byte](r, 128, 129)
		}
		if r.chance(80) {
			b[1] = 0
		}
	}
	return proto, b
}

func (r *maker) ttl() byte { return pick[byte](r, 64, 64, 64, 255, 2, 2, 3, 1, 0) }

// any makes a packet: plain, and in a third of the cases with something wrong.
func (r *maker) any() []byte {
	var p []byte
	if r.chance(50) {
		proto, body := r.transport(true)
		p = binary.BigEndian.AppendUint32(nil, 6<<28|r.Uint32()>>4)
		p = binary.BigEndian.AppendUint16(p, uint16(len(body)))
		p = append(p, proto, r.ttl())
		p = append(append(append(p, r.vm6()...), r.pool6(r.far4())...), body...)
	} else {
		proto, body := r.transport(false)
		p = binary.BigEndian.AppendUint16(nil, 0x4500|uint16(r.Uint32()&0xff))
		p = binary.BigEndian.AppendUint16(p, uint16(20+len(body)))
		p = binary.BigEndian.AppendUint16(p, uint16(r.Uint32()))
		p = binary.BigEndian.AppendUint16(p, pick[uint16](r, 0, 0x4000, 0x4000, 0x8000, 0xc000))
		p = append(p, r.ttl(), proto, 0, 0)
		to := netip.MustParseAddr(vm4[r.IntN(3)]).AsSlice()
		if r.chance(15) {
			to = netip.MustParseAddr(pick(r, vm4...)).AsSlice()
		}
		p = append(append(append(p, r.far4()...), to...), body...)
		binary.BigEndian.PutUint16(p[10:], ^translate.Sum(p[:20]))
	}
	if !r.chance(33) {
		return p
	}
	return r.spoil(p)
}

// spoil makes a plain packet one that is not, or not quite.
func (r *maker) spoil(p []byte) []byte {
	six := p[0]>>4 == 6
	switch r.IntN(8) {
	case 0: // cut short, or longer than it says
		p = p[:20+r.IntN(len(p)-19)]
		if r.chance(30) {
			p = append(p, make([]byte, r.IntN(40))...)
		}
	case 1:
		p = append(p, make([]byte, 1+r.IntN(40))...)
	case 2: // another protocol
		if proto := pick[byte](r, 0, 1, 2, 4, 33, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 136, 255); six {
			p[6] = proto
		} else {
			p[9] = proto
			p = mended(p)
		}
	case 3: // options, or a fragment
		if six {
			p = append(p[:40:40], append([]byte{p[6], 0, 0, 0, 0, 0, 0, 0}, p[40:]...)...)
			p[6] = pick[byte](r, 0, 43, 44, 60)
			return mended(p)
		}
		if r.chance(50) {
			p[6], p[7] = p[6]|0x20, byte(r.Uint32())
			return mended(p)
		}
		p = append(p[:20:20], append([]byte{1, 1, 1, 0}, p[20:]...)...)
		p[0] = 0x46
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], ^translate.Sum(p[:24]))
	case 4: // ICMP of another kind
		at := 20
		if six {
			at = 40
		}
		p[at] = byte(r.Uint32())
	case 5: // bits of the headers
		p[r.IntN(min(len(p), 60))] ^= 1 << r.IntN(8)
	case 6: // the same, and the lengths right after it
		for range 1 + r.IntN(3) {
			p[r.IntN(min(len(p), 60))] = byte(r.Uint32())
		}
		if len(p) >= 40 {
			p = mended(p)
		}
	case 7: // header checksum
		p[10+r.IntN(2)] ^= byte(1 + r.IntN(255))
	}
	return p
}
