package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LinkConfig describes a veth pair. The zero value of each field but the names
// is usable.
type LinkConfig struct {
	NameA, NameB string // interface names; "" means eth0
	Queues       int    // receive and transmit queues of either end; 0 means 1
	MTU          int    // bytes of the IP layer; 0 means 1500. At most about 3500 where XDP is attached

	// ChecksumOffload leaves the kernel's default: packets cross the link
	// without a computed checksum and as superpackets of up to 64 KB. False
	// turns transmit checksums, TSO, GSO and scatter/gather off at both ends,
	// so that what crosses is what would be on a wire. AF_XDP needs that.
	ChecksumOffload bool

	// GRO turns receive offload on at both ends. It also makes veth receive
	// through NAPI, which is what XDP_REDIRECT and XDP_TX towards an end that
	// has no XDP program of its own need.
	GRO bool

	// Impair puts a host between the ends that loses and reorders packets; nil
	// means none. An Impairer serves one link.
	Impair *Impairer
}

// carrierTimeout bounds the wait for a fresh link; it takes milliseconds.
const carrierTimeout = 5 * time.Second

// Link connects two hosts with a veth pair. Both ends are up and have their
// carrier when it returns.
func (l *Lab) Link(a, b *Host, c LinkConfig) error {
	if c.NameA == "" {
		c.NameA = "eth0"
	}
	if c.NameB == "" {
		c.NameB = "eth0"
	}
	c.Queues = max(c.Queues, 1)
	if c.MTU == 0 {
		c.MTU = 1500
	}
	connect := link
	if c.Impair != nil {
		connect = l.impairedLink
	}
	if err := connect(a, b, c); err != nil {
		return fmt.Errorf("link %s %s - %s %s: %w", a.name, c.NameA, b.name, c.NameB, err)
	}
	return nil
}

func link(a, b *Host, c LinkConfig) error {
	veth := netlink.NewVeth(netlink.LinkAttrs{
		Name: c.NameA, MTU: c.MTU, NumTxQueues: c.Queues, NumRxQueues: c.Queues, TxQLen: -1,
	})
	veth.PeerName = c.NameB
	veth.PeerMTU = uint32(c.MTU)
	veth.PeerNumTxQueues = uint32(c.Queues)
	veth.PeerNumRxQueues = uint32(c.Queues)
	peer, err := b.dupNS()
	if err != nil {
		return err
	}
	defer unix.Close(peer)
	veth.PeerNamespace = netlink.NsFd(peer)
	err = a.netlink(func(nl *netlink.Handle) error { return nl.LinkAdd(veth) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errors.New("the kernel has no veth devices: run `modprobe veth`, or enable CONFIG_VETH")
	}
	if err != nil {
		return fmt.Errorf("make a veth pair: %w", err)
	}
	ends := [2]struct {
		h    *Host
		name string
	}{{a, c.NameA}, {b, c.NameB}}
	for _, e := range ends {
		if err := e.h.Offload(e.name, c.ChecksumOffload, c.GRO); err != nil {
			return err
		}
		if err := e.h.Up(e.name); err != nil {
			return err
		}
	}
	for _, e := range ends {
		if err := e.h.waitUp(e.name); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) dupNS() (int, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return unix.FcntlInt(uintptr(h.ns), unix.F_DUPFD_CLOEXEC, 0)
}

// waitUp waits until packets can leave: the kernel attaches the queue and tells
// IPv6 about the link some time after the carrier is there.
func (h *Host) waitUp(ifname string) error {
	deadline := time.Now().Add(carrierTimeout)
	for {
		var state netlink.LinkOperState
		err := h.withLink(ifname, "read", func(_ *netlink.Handle, l netlink.Link) error {
			state = l.Attrs().OperState
			return nil
		})
		if err != nil || state == netlink.OperUp {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %s is %s after %v", h.name, ifname, state, carrierTimeout)
		}
		time.Sleep(time.Millisecond)
	}
}

// Up brings an interface up.
func (h *Host) Up(ifname string) error {
	return h.withLink(ifname, "bring up", (*netlink.Handle).LinkSetUp)
}

// Down takes an interface down.
func (h *Host) Down(ifname string) error {
	return h.withLink(ifname, "take down", (*netlink.Handle).LinkSetDown)
}

// MTU sets an interface's MTU in bytes.
func (h *Host) MTU(ifname string, mtu int) error {
	return h.withLink(ifname, fmt.Sprintf("set MTU %d on", mtu), func(nl *netlink.Handle, l netlink.Link) error {
		return nl.LinkSetMTU(l, mtu)
	})
}

// MAC is an interface's Ethernet address.
func (h *Host) MAC(ifname string) (mac net.HardwareAddr, err error) {
	err = h.withLink(ifname, "read", func(_ *netlink.Handle, l netlink.Link) error {
		mac = l.Attrs().HardwareAddr
		return nil
	})
	return mac, err
}

// Ifindex is an interface's number in the namespace.
func (h *Host) Ifindex(ifname string) (index int, err error) {
	err = h.withLink(ifname, "read", func(_ *netlink.Handle, l netlink.Link) error {
		index = l.Attrs().Index
		return nil
	})
	return index, err
}

// Addr gives an interface an address with its prefix length, as in
// Addr("eth0", "192.0.2.1/24"). An IPv6 address is usable at once: there is no
// duplicate address detection.
func (h *Host) Addr(ifname, cidr string) error {
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return fmt.Errorf("address %q for %s: %w", cidr, ifname, err)
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	return h.withLink(ifname, "give "+cidr+" to", func(nl *netlink.Handle, l netlink.Link) error {
		return nl.AddrReplace(l, addr)
	})
}

// Route adds or replaces a route. dst is a prefix, an address, or "default4" or
// "default6"; of via (an address) and dev (an interface) one may be "".
func (h *Host) Route(dst, via, dev string) error {
	err := h.withRoute(dst, via, dev, (*netlink.Handle).RouteReplace)
	if err != nil {
		return fmt.Errorf("%s: route %s via %q dev %q: %w", h.name, dst, via, dev, err)
	}
	return nil
}

// DelRoute removes a route that [Host.Route] added.
func (h *Host) DelRoute(dst, via, dev string) error {
	err := h.withRoute(dst, via, dev, (*netlink.Handle).RouteDel)
	if err != nil {
		return fmt.Errorf("%s: remove route %s via %q dev %q: %w", h.name, dst, via, dev, err)
	}
	return nil
}

func (h *Host) withRoute(dst, via, dev string, fn func(*netlink.Handle, *netlink.Route) error) error {
	return h.netlink(func(nl *netlink.Handle) error {
		r, err := route(nl, dst, via, dev)
		if err != nil {
			return err
		}
		return fn(nl, r)
	})
}

func route(nl *netlink.Handle, dst, via, dev string) (*netlink.Route, error) {
	switch dst {
	case "default4":
		dst = "0.0.0.0/0"
	case "default6":
		dst = "::/0"
	}
	prefix, err := netip.ParsePrefix(dst)
	if err != nil {
		addr, addrErr := netip.ParseAddr(dst)
		if addrErr != nil {
			return nil, err
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	r := &netlink.Route{Dst: &net.IPNet{
		IP:   prefix.Masked().Addr().AsSlice(),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}}
	if via != "" {
		gw, err := netip.ParseAddr(via)
		if err != nil {
			return nil, err
		}
		r.Gw = gw.AsSlice()
	}
	if dev != "" {
		link, err := nl.LinkByName(dev)
		if err != nil {
			return nil, err
		}
		r.LinkIndex = link.Attrs().Index
		if via == "" && prefix.Addr().Is4() {
			r.Scope = netlink.SCOPE_LINK
		}
	}
	return r, nil
}

// Neighbour pins the Ethernet address of a neighbour.
func (h *Host) Neighbour(ifname, ip, mac string) error {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return err
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	return h.withLink(ifname, "pin neighbour "+ip+" on", func(nl *netlink.Handle, l netlink.Link) error {
		return nl.NeighSet(&netlink.Neigh{
			LinkIndex: l.Attrs().Index, IP: addr.AsSlice(), HardwareAddr: hw, State: netlink.NUD_PERMANENT,
		})
	})
}

func (h *Host) withLink(ifname, what string, fn func(*netlink.Handle, netlink.Link) error) error {
	err := h.netlink(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName(ifname)
		if err != nil {
			return err
		}
		return fn(nl, l)
	})
	if err != nil {
		return fmt.Errorf("%s: %s %s: %w", h.name, what, ifname, err)
	}
	return nil
}
