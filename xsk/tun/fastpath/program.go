package fastpath

import (
	"errors"
	"fmt"
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
	trial  *ebpf.Program // the same for Try, or nil
	maps   fastMaps
	size   int // Config.Hosts
	attached

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
	p := &Program{spec: spec, prog: objs.Fast, maps: objs.fastMaps, size: c.Hosts, now: newImage()}
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
	if p.trial != nil {
		err = errors.Join(err, p.trial.Close())
	}
	return errors.Join(err, p.prog.Close(), p.maps.Close())
}

// ethernet is the header that a test run wants in front of the packet.
const ethernet = 14

// Try runs the program on an IP packet, without sending or counting it: out is
// what it makes of it, or nil if it would leave it to user space, and why. The
// kernel takes at most about 3,500 bytes.
func (p *Program) Try(packet []byte) (out []byte, why Reason, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, Off, fmt.Errorf("try a packet: %w", ErrClosed)
	}
	if p.trial == nil {
		if err := p.loadTrial(); err != nil {
			return nil, Off, explain("load the fast path for a trial", err)
		}
	}
	frame := make([]byte, ethernet, ethernet+len(packet))
	copy(frame[12:], []byte{0x08, 0x00})
	if len(packet) > 0 && packet[0]>>4 == 6 {
		copy(frame[12:], []byte{0x86, 0xdd})
	}
	run := ebpf.RunOptions{Data: append(frame, packet...), DataOut: make([]byte, len(packet)+256)}
	result, err := p.trial.Run(&run)
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

// loadTrial loads the program once more, on the same tables.
func (p *Program) loadTrial() error {
	spec := p.spec.Copy()
	if err := spec.Variables[fastVarL2].Set(uint32(ethernet)); err != nil {
		return err
	}
	var objs struct {
		Fast *ebpf.Program `ebpf:"fast"`
	}
	err := spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		fastMapCurrent: p.maps.Current, fastMapHosts6: p.maps.Hosts6, fastMapHosts4: p.maps.Hosts4,
		fastMapSpecial4: p.maps.Special4, fastMapNets4: p.maps.Nets4, fastMapCounters: p.maps.Counters,
	}})
	p.trial = objs.Fast
	return err
}
