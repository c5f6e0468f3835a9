package nat44

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Bounds of Config.PortsPerVM.
const (
	MinPortsPerVM = 16
	MaxPortsPerVM = 16384
)

// maxSlices is how many elements the kernel keeps in the sets that limits are
// counted in (nft_dynset_init). Above, limits would silently not apply.
const maxSlices = 0xffff

const (
	firstUserPort = 1024 // RFC 6335 section 6: below are the system ports
	lastPort      = 65535
)

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

func (p Ports) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

// Errors of NewPlan, and of Table where a VM has no slice.
var (
	// ErrNoPorts: the host's own port range leaves no room for slices.
	ErrNoPorts = errors.New("too few ports are left for sharing")
	// ErrNoSlice: the mapped address lies beyond the last slice.
	ErrNoSlice = errors.New("no port slice is left")
)

// Plan tells which ports of which shared address belong to which mapped
// address, and back. It never changes, and knows nothing of what is in use.
//
// Blocks of PortsPerVM ports begin at multiples of PortsPerVM. The n-th address
// of the pool has the n-th usable block, counted from the first address
// upwards: further addresses add slices and move none.
type Plan struct {
	pool      netip.Prefix
	addresses []netip.Addr
	size      int   // ports per slice
	blocks    []int // usable blocks of an address, in units of size, ascending
	capacity  int   // slices altogether
}

// NewPlan divides the ports of the addresses into slices of size ports each. The
// ranges of host, see HostPorts, are in no slice.
func NewPlan(pool netip.Prefix, addresses []netip.Addr, size int, host ...Ports) (*Plan, error) {
	if !pool.IsValid() || !pool.Addr().Is4() || pool != pool.Masked() {
		return nil, fmt.Errorf("mapped pool %s: an IPv4 prefix without bits behind its length is needed", pool)
	}
	if size < MinPortsPerVM || size > MaxPortsPerVM {
		return nil, fmt.Errorf("%d ports for each VM: %d to %d are possible", size, MinPortsPerVM, MaxPortsPerVM)
	}
	for i, a := range addresses {
		switch {
		case !a.Is4() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
			return nil, fmt.Errorf("shared address %s: not the IPv4 address of an interface", a)
		case pool.Contains(a):
			return nil, fmt.Errorf("shared address %s: it lies in the mapped pool %s", a, pool)
		case slices.Contains(addresses[:i], a):
			return nil, fmt.Errorf("shared address %s: named twice", a)
		}
	}
	for _, r := range host {
		if r.First > r.Last {
			return nil, fmt.Errorf("port range %s of the host: it ends before it begins", r)
		}
	}
	p := &Plan{pool: pool, addresses: slices.Clone(addresses), size: size}
	for block := (firstUserPort + size - 1) / size; (block+1)*size-1 <= lastPort; block++ {
		first, last := block*size, (block+1)*size-1
		if !slices.ContainsFunc(host, func(r Ports) bool { return int(r.First) <= last && int(r.Last) >= first }) {
			p.blocks = append(p.blocks, block)
		}
	}
	if len(p.blocks) == 0 {
		return nil, fmt.Errorf("%w: the host's own ports are %s and a slice has %d (narrow them, as with `sysctl net.ipv4.ip_local_port_range=\"32768 60999\"`, or give each VM fewer ports)", ErrNoPorts, HostText(host), size)
	}
	p.capacity = min(len(p.blocks)*len(addresses), maxSlices)
	if bits := 32 - pool.Bits(); bits < 16 {
		p.capacity = min(p.capacity, 1<<bits)
	}
	return p, nil
}

// Capacity is the number of slices: the first Capacity addresses of the pool
// have one.
func (p *Plan) Capacity() int { return p.capacity }

// Slice is the shared address and the ports of a mapped address. ok is false
// where mapped lies outside of the pool or beyond the last slice.
func (p *Plan) Slice(mapped netip.Addr) (shared netip.Addr, ports Ports, ok bool) {
	if !p.pool.Contains(mapped) {
		return netip.Addr{}, Ports{}, false
	}
	n := number(mapped) - number(p.pool.Addr())
	if uint64(n) >= uint64(p.capacity) {
		return netip.Addr{}, Ports{}, false
	}
	first := p.blocks[int(n)%len(p.blocks)] * p.size
	return p.addresses[int(n)/len(p.blocks)], Ports{uint16(first), uint16(first + p.size - 1)}, true
}

// Owner is the mapped address whose slice has a port of a shared address: the
// inverse of Slice.
func (p *Plan) Owner(shared netip.Addr, port uint16) (mapped netip.Addr, ok bool) {
	i := slices.Index(p.addresses, shared)
	if i < 0 {
		return netip.Addr{}, false
	}
	block, ok := slices.BinarySearch(p.blocks, int(port)/p.size)
	if !ok {
		return netip.Addr{}, false
	}
	n := i*len(p.blocks) + block
	if n >= p.capacity {
		return netip.Addr{}, false
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], number(p.pool.Addr())+uint32(n))
	return netip.AddrFrom4(b), true
}

// noSlice is the error for a mapped address without a slice.
func (p *Plan) noSlice(mapped netip.Addr) error {
	if !p.pool.Contains(mapped) {
		return fmt.Errorf("share an address with %s: it is not in the mapped pool %s", mapped, p.pool)
	}
	return fmt.Errorf("share an address with %s: %w: %d shared addresses have %d slices of %d ports, for the first addresses of %s (give each VM fewer ports, share more addresses, or narrow net.ipv4.ip_local_port_range)",
		mapped, ErrNoSlice, len(p.addresses), p.capacity, p.size, p.pool)
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}
