package l2fwd

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// What an XDP program returns, as in linux/bpf.h.
const (
	xdpDrop = 1
	xdpPass = 2
)

// rxQueueIndex is the offset of rx_queue_index in struct xdp_md.
const rxQueueIndex = 16

func load(name string, ins asm.Instructions) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.XDP, License: "Apache-2.0", Instructions: ins})
	if err != nil {
		return nil, fmt.Errorf("load program %s: %w", name, err)
	}
	return p, nil
}

// source sends every frame it is run on out of an interface of the namespace it
// is run in: return bpf_redirect(ifindex, 0).
func source(ifindex int) (*ebpf.Program, error) {
	return load("source", asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	})
}

// attached is a program on an interface, with its map.
type attached struct {
	prog *ebpf.Program
	data *ebpf.Map
	link link.Link
}

func attach(m *ebpf.MapSpec, name string, ifindex int, ins func(m *ebpf.Map) asm.Instructions) (a *attached, err error) {
	a = &attached{}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	if a.data, err = ebpf.NewMap(m); err != nil {
		return nil, fmt.Errorf("make the map of %s: %w", name, err)
	}
	if a.prog, err = load(name, ins(a.data)); err != nil {
		return nil, err
	}
	a.link, err = link.AttachXDP(link.XDPOptions{Program: a.prog, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", name, err)
	}
	return a, nil
}

func (a *attached) close() error {
	var errs []error
	if a.link != nil {
		errs = append(errs, a.link.Close())
	}
	if a.prog != nil {
		errs = append(errs, a.prog.Close())
	}
	if a.data != nil {
		errs = append(errs, a.data.Close())
	}
	return errors.Join(errs...)
}

// attachRedirect gives all frames of a queue to the socket in the map:
// return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS).
func attachRedirect(ifindex int) (*attached, error) {
	spec := &ebpf.MapSpec{Name: "sockets", Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	return attach(spec, "redirect", ifindex, func(m *ebpf.Map) asm.Instructions {
		return asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, rxQueueIndex, asm.Word),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Imm(asm.R3, xdpPass),
			asm.FnRedirectMap.Call(),
			asm.Return(),
		}
	})
}

// attachSink counts and drops: (*bpf_map_lookup_elem(&count, 0))++; return XDP_DROP.
func attachSink(ifindex int) (*attached, error) {
	spec := &ebpf.MapSpec{Name: "count", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1}
	return attach(spec, "sink", ifindex, func(m *ebpf.Map) asm.Instructions {
		return asm.Instructions{
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "drop"),
			asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
			asm.Add.Imm(asm.R1, 1),
			asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, xdpDrop).WithSymbol("drop"),
			asm.Return(),
		}
	})
}

// counted adds up a sink's counters.
func (a *attached) counted() (n uint64, err error) {
	var perCPU []uint64
	if err := a.data.Lookup(uint32(0), &perCPU); err != nil {
		return 0, fmt.Errorf("read the sink's counter: %w", err)
	}
	for _, v := range perCPU {
		n += v
	}
	return n, nil
}

// Live frames: the kernel makes the frames and runs the program on each as if a
// driver had received it (BPF_F_TEST_XDP_LIVE_FRAMES), in batches. Around each
// call it waits for RCU to set up and tear down (some 10 ms with nothing on the
// wire), so a call is long: about half a second.
const (
	liveBatch  = 256
	liveRepeat = 1 << 20
)

// generate runs src until stop is closed.
func generate(src *ebpf.Program, frame []byte, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		_, err := src.Run(&ebpf.RunOptions{Data: frame, Repeat: liveRepeat, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES, BatchSize: liveBatch})
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("generate frames: %w", err)
		}
	}
}
