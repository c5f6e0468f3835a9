package fastpath

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

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

// Counters are what the program has counted since Load. Superpackets count once.
type Counters struct {
	// Packets and Bytes were translated: index 0 for those that came as IPv6,
	// 1 for IPv4. Bytes are those of the IP packet as it came.
	Packets, Bytes [2]uint64
	// Fell counts packets left to user space, by reason; Lost ones are dropped.
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
		for d := range c.Packets {
			c.Packets[d] += cpus[i].Packets[d]
			c.Bytes[d] += cpus[i].Bytes[d]
		}
		for r := range c.Fell {
			c.Fell[r] += cpus[i].Fell[r]
		}
	}
	return c, nil
}

// tick is the unit in which the program notes when a mapping was used.
const tick = 1 << 30 * time.Nanosecond

// Idle tells how long ago the program last used each mapping, to about a second,
// until yield returns false. Mappings that it has not used are left out, so that
// expiry goes by what else is known of them.
func (p *Program) Idle(yield func(Host, time.Duration) bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("read use of mappings: %w", ErrClosed)
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return fmt.Errorf("read the clock: %w", err)
	}
	now := uint32(ts.Nano() / int64(tick))
	for six, four := range p.now.hosts {
		var used uint32
		var h6 fastHost6
		var h4 fastHost4
		// Of two uses the younger counts. A host that is in neither table
		// has not been used.
		if err := p.maps.Hosts6.Lookup(key6(six), &h6); err == nil {
			used = h6.Used
		} else if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read use of %v: %w", six, err)
		}
		if err := p.maps.Hosts4.Lookup(key4(four), &h4); err == nil {
			used = max(used, h4.Used)
		} else if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read use of %v: %w", four, err)
		}
		if used == 0 {
			continue
		}
		if !yield(Host{six, four}, time.Duration(now-min(used, now))*tick) {
			return nil
		}
	}
	return nil
}
