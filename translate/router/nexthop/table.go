package nexthop

import (
	"net/netip"
	"slices"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/internal/lpm"
)

// Kind says who takes a packet next.
type Kind uint8

// The kinds of next hop. The zero value hands the packet to the kernel.
const (
	Kernel Kind = iota // the route leaves by no port of ours, or there is none
	Miss               // leaves by a port of ours, but the neighbour is not known yet
	Port               // leaves by a port of ours, with the Ethernet header at hand
	Local              // an address of this host, broadcast or multicast
)

var kindNames = [...]string{"kernel", "miss", "port", "local"}

func (k Kind) String() string { return kindNames[k] }

// MaxEthernetHeader is the length in bytes of an Ethernet header with one
// 802.1Q tag.
const MaxEthernetHeader = 18

// Hop is where a packet goes next. Shared and read-only.
type Hop struct {
	Kind   Kind
	Port   int                // index into Config.Ports, for kind Port and Miss
	Source *translate.Sources // addresses of this host for errors that leave this way

	header    [MaxEthernetHeader]byte
	headerLen int
}

// PutHeader writes the Ethernet header so that it ends right before start, and
// returns where it begins. The hop must be of kind Port, and start at least
// MaxEthernetHeader.
func (h *Hop) PutHeader(buf []byte, start int) int {
	at := start - h.headerLen
	copy(buf[at:start], h.header[:h.headerLen])
	return at
}

// Table answers next-hop lookups. The zero Table sends everything to the kernel.
type Table struct {
	fib     [2]family
	links   []link
	unknown Hop // no route
	local4  []netip.Addr
	nearby6 []netip.Prefix
	policy  bool // rules that only the kernel understands
}

type family struct {
	lpm    *lpm.Table
	routes []route
}

// route is one prefix: one target, or several of a multipath route.
type route struct {
	targets []target
}

// target is a fixed hop, or the link on which the destination itself is the
// neighbour.
type target struct {
	hop    *Hop  // onLink < 0: the hop; else what to use while the neighbour is unknown
	onLink int32 // index into Table.links, or -1
	mtu    int32 // bytes of IP packet that fit
}

type link struct {
	neighbours [2]*lpm.Table // value: index into hops
	hops       []Hop
}

func familyIndex(f translate.Family) int {
	if f == translate.V6 {
		return 1
	}
	return 0
}

// Lookup finds the next hop of a destination and the number of bytes of IP
// packet that fit there. hi and lo are the address as translate.Plan gives it.
// The hop is never nil; no allocation, no lock.
func (t *Table) Lookup(f translate.Family, hi, lo uint64) (*Hop, int) {
	fi := familyIndex(f)
	fib := &t.fib[fi]
	v, ok := fib.lpm.Lookup(hi, lo)
	if !ok {
		return &t.unknown, maxMTU
	}
	targets := fib.routes[v].targets
	tg := &targets[0]
	if len(targets) > 1 {
		tg = &targets[spread(hi, lo)%uint64(len(targets))]
	}
	if tg.onLink < 0 {
		return tg.hop, int(tg.mtu)
	}
	l := &t.links[tg.onLink]
	n, ok := l.neighbours[fi].Lookup(hi, lo)
	if !ok {
		return tg.hop, int(tg.mtu)
	}
	return &l.hops[n], int(tg.mtu)
}

// spread maps a destination to one of several equal paths, always the same.
func spread(hi, lo uint64) uint64 {
	x := (hi ^ lo) * 0x9e3779b97f4a7c15
	return x >> 32
}

// Policy tells that the host has routing rules besides the three built-in ones,
// so that the table sends everything to the kernel.
func (t *Table) Policy() bool { return t.policy }

// Local4 are the host's own IPv4 addresses, sorted.
func (t *Table) Local4() []netip.Addr { return t.local4 }

// Nearby6 are the IPv6 prefixes, sorted, whose hosts this one reaches otherwise
// than as it does the Internet: on a link, or by a gateway on another link than
// that of the default route. Link-local and multicast prefixes are not among them.
func (t *Table) Nearby6() []netip.Prefix { return t.nearby6 }

// Own4 tells whether an IPv4 address is the host's own.
func (t *Table) Own4(a [4]byte) bool {
	_, own := slices.BinarySearchFunc(t.local4, netip.AddrFrom4(a), netip.Addr.Compare)
	return own
}

// key is an address in the form that lpm and translate use.
func key(a netip.Addr) (hi, lo uint64) {
	if a.Is4() {
		b := a.As4()
		return uint64(b[0])<<56 | uint64(b[1])<<48 | uint64(b[2])<<40 | uint64(b[3])<<32, 0
	}
	b := a.As16()
	for i := range 8 {
		hi = hi<<8 | uint64(b[i])
		lo = lo<<8 | uint64(b[8+i])
	}
	return hi, lo
}

// Source are the addresses of this host that errors are sent from where the way
// out has none of its own; zero where the host has none.
func (t *Table) Source() translate.Sources { return *t.unknown.Source }
