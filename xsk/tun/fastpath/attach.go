package fastpath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mode is how the program hangs at the device.
type Mode uint8

const (
	Detached Mode = iota
	TCX           // by a BPF link (Linux 6.6)
	Filter        // by a filter of a clsact qdisc
)

func (m Mode) String() string {
	return [...]string{"detached", "tcx", "clsact"}[m]
}

// attached is what holds the program at a device.
type attached struct {
	mode   Mode
	link   link.Link
	nl     *netlink.Handle
	filter *netlink.BpfFilter
}

// Mode says how the program is attached.
func (p *Program) Mode() Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// Attach puts the program at the egress of a TUN device, which is given by its
// index in the calling thread's network namespace. Fails with ErrDeviceGone,
// ErrPermission, ErrUnsupported. A program serves one device.
func (p *Program) Attach(ifindex int) error { return p.attach(ifindex, false) }

func (p *Program) attach(ifindex int, filter bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	what := fmt.Sprintf("attach the fast path to interface %d", ifindex)
	switch {
	case p.closed:
		return fmt.Errorf("%s: %w", what, ErrClosed)
	case p.mode != Detached:
		return fmt.Errorf("%s: it is attached already", what)
	}
	if !filter {
		l, err := link.AttachTCX(link.TCXOptions{Program: p.prog, Interface: ifindex, Attach: ebpf.AttachTCXEgress})
		if err == nil {
			p.link, p.mode = l, TCX
			return nil
		}
		if !errors.Is(err, ebpf.ErrNotSupported) {
			return explainAttach(what, err)
		}
	}
	if err := p.attachFilter(ifindex); err != nil {
		return explainAttach(what, err)
	}
	return nil
}

func explainAttach(what string, err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%s: %w: %w", what, ErrDeviceGone, err)
	}
	return explain(what, err)
}

// attachFilter is for kernels without TCX. It leaves a clsact qdisc that is
// there already to its owner.
func (p *Program) attachFilter(ifindex int) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: netlink.HANDLE_MIN_EGRESS, Protocol: unix.ETH_P_ALL, Handle: 1, Priority: 1,
		},
		Fd: p.prog.FD(), Name: "isthmus", DirectAction: true,
	}
	if err = nl.QdiscAdd(qdisc); err == nil || errors.Is(err, unix.EEXIST) {
		err = nl.FilterAdd(filter)
	}
	if err != nil {
		nl.Close()
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("another program has preference 1 of clsact egress: %w", err)
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("%w: CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF are needed: %w", ebpf.ErrNotSupported, err)
		}
		return err
	}
	p.nl, p.filter, p.mode = nl, filter, Filter
	return nil
}

// detach takes the program from its device, which may have gone before.
func (p *Program) detach() (err error) {
	switch p.mode {
	case TCX:
		err = p.link.Close()
	case Filter:
		if err = p.nl.FilterDel(p.filter); errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			err = nil
		}
		p.nl.Close()
	}
	p.mode = Detached
	if err != nil {
		return fmt.Errorf("detach the fast path: %w", err)
	}
	return nil
}
