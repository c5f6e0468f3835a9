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

// attachment is what holds the program at a device.
type attachment struct {
	mode   Mode
	link   link.Link
	nl     *netlink.Handle
	filter *netlink.BpfFilter
}

// Mode says how the program is attached to the TUN device.
func (p *Program) Mode() Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.device == nil {
		return Detached
	}
	return p.device.mode
}

// Attach puts the program at the egress of a TUN device, which is given by its
// index in the calling thread's network namespace. Fails with ErrDeviceGone,
// ErrPermission, ErrUnsupported. A program serves one device.
func (p *Program) Attach(ifindex int) error { return p.attach(ifindex, false) }

func (p *Program) attach(ifindex int, filter bool) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what := fmt.Sprintf("attach the fast path to interface %d", ifindex)
	switch {
	case p.closed:
		return fmt.Errorf("%s: %w", what, ErrClosed)
	case p.device != nil:
		return fmt.Errorf("%s: it is attached already", what)
	}
	if p.device, err = hang(p.prog, ifindex, ebpf.AttachTCXEgress, filter); err != nil {
		return explainAttach(what, err)
	}
	p.tun = ifindex
	return nil
}

var errNoDevice = errors.New("the fast path is not attached to a TUN device, which comes first")

// AttachInterface puts the program at the ingress of an Ethernet interface, too.
// What it translates there goes straight to its next hop: past netfilter (firewall,
// NAT, connection tracking) and rp_filter. Packets whose source is not where they
// come from, and those of hosts that are Routed, keep to the normal way. It takes
// an index in the calling thread's network namespace, which must be that of the
// TUN device. Fails with ErrNotEthernet, and as Attach does.
func (p *Program) AttachInterface(ifindex int) error { return p.attachInterface(ifindex, false) }

func (p *Program) attachInterface(ifindex int, filter bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	what := fmt.Sprintf("attach the fast path to the ingress of interface %d", ifindex)
	switch {
	case p.closed:
		return fmt.Errorf("%s: %w", what, ErrClosed)
	case p.device == nil:
		return fmt.Errorf("%s: %w", what, errNoDevice)
	case p.ports[ifindex] != nil:
		return fmt.Errorf("%s: it is attached already", what)
	}
	l, err := netlink.LinkByIndex(ifindex)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("%s: %w: %w", what, ErrDeviceGone, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if encap := l.Attrs().EncapType; encap != "ether" {
		return fmt.Errorf("%s: %w: its link layer is %q", what, ErrNotEthernet, encap)
	}
	prog, err := p.load(variant{tun: p.tun})
	if err != nil {
		return err
	}
	at, err := hang(prog, ifindex, ebpf.AttachTCXIngress, filter)
	if err != nil {
		return explainAttach(what, err)
	}
	p.ports[ifindex] = at
	return nil
}

// DetachInterface takes the program from an interface, which may have gone before;
// one where it isn't is no error.
func (p *Program) DetachInterface(ifindex int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.ports[ifindex]
	if at == nil {
		return nil
	}
	delete(p.ports, ifindex)
	return at.close()
}

func explainAttach(what string, err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%s: %w: %w", what, ErrDeviceGone, err)
	}
	return explain(what, err)
}

// hang attaches a program, by TCX where the kernel has it and filter doesn't say
// otherwise.
func hang(prog *ebpf.Program, ifindex int, where ebpf.AttachType, filter bool) (*attachment, error) {
	if !filter {
		l, err := link.AttachTCX(link.TCXOptions{Program: prog, Interface: ifindex, Attach: where})
		if err == nil {
			return &attachment{mode: TCX, link: l}, nil
		}
		if !errors.Is(err, ebpf.ErrNotSupported) {
			return nil, err
		}
	}
	parent := uint32(netlink.HANDLE_MIN_EGRESS)
	if where == ebpf.AttachTCXIngress {
		parent = netlink.HANDLE_MIN_INGRESS
	}
	return hangFilter(prog, ifindex, parent)
}

// hangFilter is for kernels without TCX. It leaves a clsact qdisc that is there
// already to its owner.
func hangFilter(prog *ebpf.Program, ifindex int, parent uint32) (*attachment, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: parent, Protocol: unix.ETH_P_ALL, Handle: 1, Priority: 1,
		},
		Fd: prog.FD(), Name: "isthmus", DirectAction: true,
	}
	if err = nl.QdiscAdd(qdisc); err == nil || errors.Is(err, unix.EEXIST) {
		err = nl.FilterAdd(filter)
	}
	if err != nil {
		nl.Close()
		if errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("another program has preference 1 of clsact there: %w", err)
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil, fmt.Errorf("%w: CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF are needed: %w", ebpf.ErrNotSupported, err)
		}
		return nil, err
	}
	return &attachment{mode: Filter, nl: nl, filter: filter}, nil
}

// close takes the program from its device, which may have gone before.
func (a *attachment) close() (err error) {
	switch a.mode {
	case TCX:
		err = a.link.Close()
	case Filter:
		if err = a.nl.FilterDel(a.filter); errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			err = nil
		}
		a.nl.Close()
	}
	if err != nil {
		return fmt.Errorf("detach the fast path: %w", err)
	}
	return nil
}

// detach takes the program from all devices.
func (p *Program) detach() (err error) {
	for index, at := range p.ports {
		err = errors.Join(err, at.close())
		delete(p.ports, index)
	}
	if p.device != nil {
		err = errors.Join(err, p.device.close())
		p.device = nil
	}
	return err
}
