package fastpath

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// Both include folders are Debian's; the one of the other architecture is
// simply not there.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -go-package fastpath -type settings fast fast.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu

// Config says how much the program can hold.
type Config struct {
	// Hosts is the most host mappings; those beyond it stay with user space.
	// The kernel takes 16 bytes for each that could be, and about 100 more for
	// each that is. 0: 65536.
	Hosts int
}

const (
	defaultHosts = 1 << 16
	// specials is the most IPv4 prefixes with a rule of their own. The kernel
	// allocates per entry.
	specials = 1 << 20
)

// Program is the fast path. Without tables and without a device, as Load makes
// it, it does nothing.
type Program struct {
	mu     sync.Mutex // guards everything
	closed bool
	spec   *ebpf.CollectionSpec
	prog   *ebpf.Program
	maps   fastMaps
	size   int // Config.Hosts

	variants map[variant]*ebpf.Program // on the same tables
	tun      int                       // index of the device
	device   *attachment               // at the device's egress; nil: not attached
	ports    map[int]*attachment       // at the ingress of interfaces, by index

	off *ebpf.Map // settings that switch everything off
	now image     // what the kernel's tables hold
	on  bool      // and that they do so completely
}

// Load checks that the kernel can run the program and hands it over. Fails with
// ErrPermission or ErrUnsupported.
func Load(c Config) (*Program, error) {
	// Kernels that charge maps to the locked-memory limit are too old anyhow,
	// but some backport one and not the other.
	_ = rlimit.RemoveMemlock()
	if c.Hosts == 0 {
		c.Hosts = defaultHosts
	}
	if c.Hosts < 0 || c.Hosts > 1<<24 {
		return nil, fmt.Errorf("load the fast path: room for %d mappings: 1 to %d are possible", c.Hosts, 1<<24)
	}
	spec, err := loadFast()
	if err != nil {
		return nil, fmt.Errorf("load the fast path: %w", err)
	}
	spec.Maps[fastMapHosts6].MaxEntries = uint32(c.Hosts)
	spec.Maps[fastMapHosts4].MaxEntries = uint32(c.Hosts)
	spec.Maps[fastMapSpecial4].MaxEntries = specials
	var objs struct {
		Fast *ebpf.Program `ebpf:"fast"`
		fastMaps
	}
	if err := spec.LoadAndAssign(&objs, nil); err != nil {
		return nil, explain("load the fast path", err)
	}
	p := &Program{
		spec: spec, prog: objs.Fast, maps: objs.fastMaps, size: c.Hosts, now: newImage(),
		variants: map[variant]*ebpf.Program{}, ports: map[int]*attachment{},
	}
	if p.off, err = p.newSettings(fastSettings{}); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close detaches the program: every packet goes to user space again.
func (p *Program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	err := p.detach()
	if p.off != nil {
		err = errors.Join(err, p.off.Close())
	}
	for _, v := range p.variants {
		err = errors.Join(err, v.Close())
	}
	return errors.Join(err, p.prog.Close(), p.maps.Close())
}

// ethernet is the length of the header in front of the packet, at an interface and
// in a test run.
const ethernet = 14

// variant is what sets one loaded program apart from another (tables.h).
type variant struct {
	tun   int
	trial bool
}

// load gives the program for Ethernet frames, on the same tables.
func (p *Program) load(v variant) (*ebpf.Program, error) {
	if prog := p.variants[v]; prog != nil {
		return prog, nil
	}
	spec := p.spec.Copy()
	trial := uint32(0)
	if v.trial {
		trial = 1
	}
	for name, value := range map[string]uint32{fastVarL2: ethernet, fastVarTun: uint32(v.tun), fastVarTrial: trial} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s of the fast path: %w", name, err)
		}
	}
	var objs struct {
		Fast *ebpf.Program `ebpf:"fast"`
	}
	err := spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		fastMapCurrent: p.maps.Current, fastMapHosts6: p.maps.Hosts6, fastMapHosts4: p.maps.Hosts4,
		fastMapSpecial4: p.maps.Special4, fastMapNets4: p.maps.Nets4, fastMapCounters: p.maps.Counters,
	}})
	if err != nil {
		return nil, explain("load the fast path for Ethernet frames", err)
	}
	p.variants[v] = objs.Fast
	return objs.Fast, nil
}

// Try runs the program on an IP packet, without sending or counting it, as at the
// device: out is what it makes of it, or nil if it would leave it to user space,
// and why. The kernel takes at most about 3,500 bytes.
func (p *Program) Try(packet []byte) (out []byte, why Reason, err error) {
	return p.try(packet, net.HardwareAddr{0, 0, 0, 0, 0, 0}, 0, variant{trial: true})
}

// TryAt is Try as at the ingress of an interface, with the Ethernet address that
// the frame is sent to. It asks the routing tables of the calling thread's network
// namespace; the program must be attached to the TUN device.
func (p *Program) TryAt(ifindex int, to net.HardwareAddr, packet []byte) (out []byte, why Reason, err error) {
	return p.try(packet, to, ifindex, variant{p.index(), true})
}

func (p *Program) index() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tun
}

// runContext is the beginning of struct __sk_buff (linux/bpf.h).
type runContext struct {
	_       [10]uint32
	Ifindex uint32
}

func (p *Program) try(packet []byte, to net.HardwareAddr, ifindex int, v variant) (out []byte, why Reason, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, Off, fmt.Errorf("try a packet: %w", ErrClosed)
	}
	if v.tun == 0 && ifindex != 0 {
		return nil, Off, errNoDevice
	}
	prog, err := p.load(v)
	if err != nil {
		return nil, Off, err
	}
	frame := make([]byte, ethernet, ethernet+len(packet))
	copy(frame, to)
	copy(frame[12:], []byte{0x08, 0x00})
	if len(packet) > 0 && packet[0]>>4 == 6 {
		copy(frame[12:], []byte{0x86, 0xdd})
	}
	run := ebpf.RunOptions{Data: append(frame, packet...), DataOut: make([]byte, len(packet)+256)}
	if ifindex != 0 {
		run.Context = runContext{Ifindex: uint32(ifindex)}
	}
	result, err := prog.Run(&run)
	switch why = Reason(result); {
	case err != nil:
		return nil, Off, explain("try a packet", err)
	case result >= uint32(NumReasons):
		return nil, Off, fmt.Errorf("try a packet: the program returned %d", result)
	case why != Forwarded:
		return nil, why, nil
	}
	return run.DataOut[ethernet:], Forwarded, nil
}
