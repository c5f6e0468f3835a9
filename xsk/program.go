package xsk

import (
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Attach is how to attach the steering program.
type Attach uint8

const (
	AttachAuto    Attach = iota // in the driver if it can, else generic
	AttachDriver                // in the driver or an error
	AttachGeneric               // in the network stack, any device, slow
)

// AttachMode is where the program runs.
type AttachMode uint8

const (
	Driver  AttachMode = iota // in the driver's receive path
	Generic                   // in the network stack, after an skb was made
)

func (m AttachMode) String() string {
	if m == Generic {
		return "generic"
	}
	return "driver"
}

// Program is the steering program on one interface. It is attached by a BPF
// link, which the kernel removes when this process ends, however it ends.
type Program struct {
	ifindex int
	name    string
	mode    AttachMode
	refused error
	prog    *ebpf.Program
	maps    steerMaps
	link    link.Link
}

// ProgramConfig says where to attach.
type ProgramConfig struct {
	Ifindex int // in the calling thread's network namespace
	Attach  Attach
	// Room is how many bytes of frame the sockets take: ChunkSize minus
	// RxHeadroom. 0: of Chunk2K. Larger frames pass to the kernel.
	Room int
}

// AttachProgram attaches the steering program to an interface, with no sockets
// yet: all frames pass to the kernel. It takes frames to the address that the
// interface has now; after a change of that, attach anew. Fails with ErrProgramPresent,
// ErrPermission, ErrUnsupported, ErrDeviceGone.
func AttachProgram(t *Tables, c ProgramConfig) (p *Program, err error) {
	if c.Room == 0 {
		c.Room = Chunk2K - RxHeadroom
	}
	err = onDevice(c.Ifindex, func(fd int, name string) error {
		mac, err := hardwareAddress(fd, name)
		if err != nil {
			return fmt.Errorf("read the address of %s: %w", name, err)
		}
		made := &Program{ifindex: c.Ifindex, name: name}
		if err := made.load(t, maxQueues(fd, name), mac, c.Room); err != nil {
			return explainBPF("load steering program for "+name, err)
		}
		if err := made.attach(c.Attach); err != nil {
			made.unload()
			return err
		}
		p = made
		return nil
	})
	return p, err
}

// maxQueues is how many queues the device can have, so that the socket map
// needn't be made anew when their number is changed.
func maxQueues(fd int, name string) int {
	ch, _ := getChannels(fd, name)
	n, _ := queueCount(fd, name)
	return max(n, int(ch.maxCombined+ch.maxRx), 64)
}

// load loads the program that takes frames in several buffers, and where the
// kernel has none of that, the plain one.
func (p *Program) load(t *Tables, queues int, mac [6]byte, room int) error {
	spec, err := loadSteer()
	if err != nil {
		return err
	}
	spec.Maps[steerMapPool6].MaxEntries = t.size
	spec.Maps[steerMapMapped4].MaxEntries = t.size
	spec.Maps[steerMapSockets].MaxEntries = uint32(queues)
	if err := errors.Join(spec.Variables["mac"].Set(mac), spec.Variables["room"].Set(uint32(room))); err != nil {
		return err
	}
	shared := &ebpf.CollectionOptions{
		MapReplacements: map[string]*ebpf.Map{steerMapPool6: t.pool6, steerMapMapped4: t.mapped},
	}
	if p.loadOne(spec, steerFrags, shared) == nil {
		return nil
	}
	return p.loadOne(spec, steerPlain, shared)
}

// The two programs of steer.c, which share their maps.
const (
	steerFrags = "steer_frags"
	steerPlain = "steer"
)

func (p *Program) loadOne(spec *ebpf.CollectionSpec, name string, opts *ebpf.CollectionOptions) error {
	spec = spec.Copy()
	maps.DeleteFunc(spec.Programs, func(n string, _ *ebpf.ProgramSpec) bool { return n != name })
	c, err := ebpf.NewCollectionWithOptions(spec, *opts)
	if err != nil {
		return err
	}
	defer c.Close()
	p.prog = c.DetachProgram(name)
	return c.Assign(&p.maps)
}

func (p *Program) attach(a Attach) error {
	var err error
	if a != AttachGeneric {
		if err = p.tryAttach(link.XDPDriverMode); err == nil {
			p.mode = Driver
			return nil
		}
		if a == AttachDriver || !worthFallback(err) {
			return p.explain("driver", err)
		}
		p.refused = err
	}
	if err = p.tryAttach(link.XDPGenericMode); err != nil {
		return p.explain("generic", err)
	}
	p.mode = Generic
	return nil
}

func (p *Program) tryAttach(flags link.XDPAttachFlags) (err error) {
	p.link, err = link.AttachXDP(link.XDPOptions{Program: p.prog, Interface: p.ifindex, Flags: flags})
	return err
}

// worthFallback: everything but what would stop generic mode as well is the
// driver's way to say no (no XDP at all, MTU, too few queues, ...).
func worthFallback(err error) bool {
	for _, e := range []error{unix.EBUSY, unix.EEXIST, unix.EPERM, unix.ENODEV} {
		if errors.Is(err, e) {
			return false
		}
	}
	return true
}

func (p *Program) explain(mode string, err error) error {
	what := fmt.Sprintf("attach steering program to %s in %s mode", p.name, mode)
	switch {
	case errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%s: %w; find it with `ip link show dev %s`, stop its owner or remove it with `ip link set dev %s xdp off`: %w", what, ErrProgramPresent, p.name, p.name, err)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%s: %w: %w", what, ErrDeviceGone, err)
	case mode == "driver" && !errors.Is(err, unix.EPERM):
		return fmt.Errorf(`%s: the driver refuses it; use attach = "auto" or "generic", or see whether MTU and queue count are within what the driver allows with XDP: %w`, what, err)
	}
	return explainBPF(what, err)
}

// Mode says where the program runs.
func (p *Program) Mode() AttachMode { return p.mode }

// Refused is why the driver didn't take the program when Mode is Generic by
// falling back, else nil.
func (p *Program) Refused() error { return p.refused }

// Register sends a queue's frames to a socket. The socket must be bound to this
// interface and queue, or the kernel drops what it is sent.
func (p *Program) Register(queue int, s *Socket) error {
	if s.cfg.Ifindex != p.ifindex || s.cfg.Queue != queue {
		return fmt.Errorf("register queue %d of %s: the socket serves %s", queue, p.name, s.where())
	}
	if p.mode == Generic && s.mode == ZeroCopyMode {
		return fmt.Errorf("register queue %d of %s: a zero-copy socket gets nothing from a generic-mode program; open it with ZeroCopyOff", queue, p.name)
	}
	if err := p.maps.Sockets.Put(uint32(queue), uint32(s.fd)); err != nil {
		return fmt.Errorf("register queue %d of %s: %w", queue, p.name, err)
	}
	return nil
}

// Unregister lets a queue's frames pass to the kernel again.
func (p *Program) Unregister(queue int) error {
	if err := p.maps.Sockets.Delete(uint32(queue)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("unregister queue %d of %s: %w", queue, p.name, err)
	}
	return nil
}

// SteerCounters count frames by where the program sent them, in the order of
// enum outcome in steer.c.
type SteerCounters struct {
	Redirected uint64 // to a socket (which may still drop them: see Stats)
	NoSocket   uint64 // for a translated prefix, but on a queue without socket: kernel
	Other      uint64 // not for a translated prefix: kernel
	Group      uint64 // broadcast or multicast: kernel
	ND         uint64 // neighbour discovery for a pool6 address: kernel
	Malformed  uint64 // too short or not the IP version its type says: kernel
	OtherHost  uint64 // for another station's address, seen in promiscuous mode: kernel
	Oversize   uint64 // larger than ProgramConfig.Room: kernel
}

// Counters adds up the counters of all CPUs.
func (p *Program) Counters() (SteerCounters, error) {
	var c SteerCounters
	for i, n := range []*uint64{&c.Redirected, &c.NoSocket, &c.Other, &c.Group, &c.ND, &c.Malformed, &c.OtherHost, &c.Oversize} {
		var perCPU []uint64
		if err := p.maps.Counters.Lookup(uint32(i), &perCPU); err != nil {
			return c, fmt.Errorf("read steering counters of %s: %w", p.name, err)
		}
		for _, v := range perCPU {
			*n += v
		}
	}
	return c, nil
}

// Close detaches the program: every frame goes to the kernel again.
func (p *Program) Close() error {
	return errors.Join(p.link.Close(), p.unload())
}

func (p *Program) unload() error { return errors.Join(p.prog.Close(), p.maps.Close()) }
