package nat44

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// addLocal makes all addresses of a prefix the host's own ("ip route add local").
func addLocal(h *lab.Host, p netip.Prefix) error {
	nl, err := h.Netlink()
	if err != nil {
		return err
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return err
	}
	return nl.RouteReplace(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Scope: netlink.SCOPE_HOST, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL,
		Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)},
	})
}

// nft lets do change the hypervisor's tables.
func (w *world) nft(do func(*nftables.Conn)) {
	w.t.Helper()
	err := w.hypervisor.Do(func() error {
		ns, err := netns.Get()
		if err != nil {
			return err
		}
		defer ns.Close()
		c, err := nftables.New(nftables.WithNetNSFd(int(ns)))
		if err != nil {
			return err
		}
		do(c)
		return c.Flush()
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// tables are the names of the hypervisor's tables.
func (w *world) tables() (names []string) {
	w.t.Helper()
	w.nft(func(c *nftables.Conn) {
		tables, err := c.ListTables()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, t := range tables {
			names = append(names, t.Name)
		}
	})
	return names
}

// elements are the addresses in a set of the default table, in order.
func (w *world) elements(set string) (out []netip.Addr) {
	w.t.Helper()
	w.nft(func(c *nftables.Conn) {
		table := &nftables.Table{Name: DefaultTable, Family: nftables.TableFamilyIPv4}
		elements, err := c.GetSetElements(&nftables.Set{Table: table, Name: set})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range elements {
			a, _ := netip.AddrFromSlice(e.Key)
			out = append(out, a)
		}
	})
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func vmRange(n int) (out []netip.Addr) {
	for i := range n {
		out = append(out, vm(i))
	}
	return out
}

// loadConntrack has the hypervisor's kernel track connections without a table
// of ours: any rule about them does.
func loadConntrack(w *world) error {
	w.nft(func(c *nftables.Conn) {
		table := c.AddTable(&nftables.Table{Name: "tracking", Family: nftables.TableFamilyIPv4})
		chain := c.AddChain(&nftables.Chain{
			Table: table, Name: "forward", Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(state(expr.CtStateBitINVALID), &expr.Counter{})})
	})
	return nil
}

// flood sends UDP packets number first to first+n-1 of a VM: n connections.
func (w *world) flood(from netip.Addr, first, n int) {
	w.t.Helper()
	f := w.newFlood()
	defer f.close()
	for i := first; i < first+n; i++ {
		if err := f.send(from, i); err != nil {
			w.t.Fatal(err)
		}
	}
}

// flooder is a raw socket on the VMs' host.
type flooder struct {
	fd     int
	packet [28]byte
}

func (w *world) newFlood() *flooder {
	w.t.Helper()
	f := &flooder{}
	err := w.vms.Do(func() (err error) {
		f.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	p := f.packet[:]
	p[0], p[3], p[8], p[9] = 0x45, 28, 64, unix.IPPROTO_UDP
	copy(p[16:], serverAddr.AsSlice())
	p[25] = 8 // UDP length; no checksum
	return f
}

func (f *flooder) close() { unix.Close(f.fd) }

// send sends packet i of a VM: from one of 15 ports of its own, towards ports
// that nobody listens on, 15 packets each.
func (f *flooder) send(from netip.Addr, i int) error {
	source := from.As4()
	copy(f.packet[12:], source[:])
	binary.BigEndian.PutUint16(f.packet[20:], uint16(0x8000+i%15))
	binary.BigEndian.PutUint16(f.packet[22:], uint16(10000+i/15%50000))
	return unix.Sendto(f.fd, f.packet[:], 0, &unix.SockaddrInet4{Addr: serverAddr.As4()})
}

// ping sends an echo request, and returns the source and identifier that the
// server has seen once the answer is back with the VM's own.
func (w *world) ping(from netip.Addr) (got netip.AddrPort, err error) {
	var here, there *icmp.PacketConn
	err = w.vms.Do(func() (err error) { here, err = icmp.ListenPacket("ip4:icmp", from.String()); return err })
	if err != nil {
		return got, err
	}
	defer here.Close()
	err = w.server.Do(func() (err error) { there, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0"); return err })
	if err != nil {
		return got, err
	}
	defer there.Close()
	id := int(time.Now().UnixNano()>>10) & 0xffff
	data := from.String()
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: 1, Data: []byte(data)}}
	b, err := m.Marshal(nil)
	if err != nil {
		return got, err
	}
	if _, err := here.WriteTo(b, &net.IPAddr{IP: serverAddr.AsSlice()}); err != nil {
		return got, err
	}
	peer, echo, err := read(there, ipv4.ICMPTypeEcho, data)
	if err != nil {
		return got, err
	}
	got = netip.AddrPortFrom(peer, uint16(echo.ID))
	_, echo, err = read(here, ipv4.ICMPTypeEchoReply, data)
	if err == nil && echo.ID != id {
		err = errors.New("the answer has another identifier")
	}
	return got, err
}

// read waits for an echo message with the data.
func read(c *icmp.PacketConn, kind icmp.Type, data string) (netip.Addr, *icmp.Echo, error) {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 512)
	for {
		n, peer, err := c.ReadFrom(b)
		if err != nil {
			return netip.Addr{}, nil, err
		}
		m, err := icmp.ParseMessage(1, b[:n])
		if err != nil || m.Type != kind {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && string(e.Data) == data {
			a, _ := netip.AddrFromSlice(peer.(*net.IPAddr).IP)
			return a.Unmap(), e, nil
		}
	}
}
