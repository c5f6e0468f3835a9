package nexthop

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/translate"
)

var (
	macNIC  = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	macVM   = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	macGate = net.HardwareAddr{2, 0, 0, 0, 0, 3}
)

func device(index int, name string) *netlink.Device {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{
		Index: index, Name: name, MTU: 1500, HardwareAddr: macNIC, OperState: netlink.OperUp,
	}}
}

func addr(t *testing.T, index int, cidr string) netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	a.LinkIndex = index
	return *a
}

func unicast(index int, dst, gw string) netlink.Route {
	r := netlink.Route{LinkIndex: index, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Gw: net.ParseIP(gw), Family: netlink.FAMILY_V6}
	if _, n, err := net.ParseCIDR(dst); err == nil {
		r.Dst = n
	}
	if dst == "default4" || (r.Dst != nil && r.Dst.IP.To4() != nil) {
		r.Family = netlink.FAMILY_V4
	}
	return r
}

func with(r netlink.Route, f func(*netlink.Route)) netlink.Route {
	f(&r)
	return r
}

func neigh(index int, ip string, mac net.HardwareAddr, state int) netlink.Neigh {
	return netlink.Neigh{LinkIndex: index, IP: net.ParseIP(ip), HardwareAddr: mac, State: state}
}

// base is a host with two ports: nic0 towards the Internet, nic1 towards VMs,
// and a bridge that is no port.
func base(t *testing.T) kernelState {
	bridge := device(9, "br0")
	return kernelState{
		links: []netlink.Link{device(2, "nic0"), device(3, "nic1"), bridge,
			&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Index: 4, Name: "nic1.7", MTU: 1496, HardwareAddr: macNIC, ParentIndex: 3, OperState: netlink.OperUp}, VlanId: 7}},
		addrs: []netlink.Addr{addr(t, 1, "127.0.0.1/8"), addr(t, 2, "203.0.113.1/24"), addr(t, 3, "2001:db8::1/64"), addr(t, 3, "fe80::1/64")},
		routes: []netlink.Route{
			unicast(2, "203.0.113.0/24", ""), unicast(2, "default4", "203.0.113.2"),
			unicast(3, "2001:db8::/64", ""), unicast(9, "2001:db8:9::/64", ""), unicast(4, "2001:db8:7::/64", ""),
		},
		neighs: []netlink.Neigh{
			neigh(2, "203.0.113.2", macGate, netlink.NUD_STALE),
			neigh(3, "2001:db8::2", macVM, netlink.NUD_REACHABLE),
			neigh(3, "2001:db8::3", macVM, netlink.NUD_FAILED),
			neigh(4, "2001:db8:7::2", macVM, netlink.NUD_PERMANENT),
			neigh(9, "2001:db8:9::2", macVM, netlink.NUD_REACHABLE),
		},
		rules: []netlink.Rule{{Priority: 0}, {Priority: 32766}, {Priority: 32767}, {Priority: -1}},
	}
}

func lookup(tb *Table, dst string) (*Hop, int) {
	a := netip.MustParseAddr(dst)
	hi, lo := key(a)
	if a.Is4() {
		return tb.Lookup(translate.V4, hi, lo)
	}
	return tb.Lookup(translate.V6, hi, lo)
}

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*kernelState)
		dst    string
		kind   Kind
		port   int
		mtu    int
		header []byte // of a hop of kind Port
	}{
		{"gateway", nil, "198.51.100.7", Port, 0, 1500, frame(macGate, 0x08, 0x00)},
		{"on link", nil, "2001:db8::2", Port, 1, 1500, frame(macVM, 0x86, 0xdd)},
		{"on link, unresolved", nil, "2001:db8::99", Miss, 1, 1500, nil},
		{"on link, failed", nil, "2001:db8::3", Miss, 1, 1500, nil},
		{"on link IPv4, unresolved", nil, "203.0.113.77", Miss, 0, 1500, nil},
		{"VLAN on a port", nil, "2001:db8:7::2", Port, 1, 1496, frame(macVM, 0x81, 0x00, 0, 7, 0x86, 0xdd)},
		{"no port", nil, "2001:db8:9::2", Kernel, 0, 1500, nil},
		{"no route", nil, "2001:db9::1", Kernel, 0, maxMTU, nil},
		{"gateway unresolved", func(s *kernelState) { s.neighs[0].State = netlink.NUD_INCOMPLETE }, "198.51.100.7", Miss, 0, 1500, nil},
		{"proxy neighbour", func(s *kernelState) { s.neighs[1].Flags = netlink.NTF_PROXY }, "2001:db8::2", Miss, 1, 1500, nil},
		{"route with an MTU", func(s *kernelState) { s.routes[1].MTU = 1400 }, "198.51.100.7", Port, 0, 1400, frame(macGate, 0x08, 0x00)},
		{"on-link route with an MTU", func(s *kernelState) { s.routes[2].MTU = 1300 }, "2001:db8::2", Port, 1, 1300, frame(macVM, 0x86, 0xdd)},
		{"port without carrier", func(s *kernelState) { s.links[0].Attrs().OperState = netlink.OperDown }, "198.51.100.7", Kernel, 0, 1500, nil},
		{"port in a bridge", func(s *kernelState) { s.links[0].Attrs().MasterIndex = 9 }, "198.51.100.7", Kernel, 0, 1500, nil},
		{"policy rule", func(s *kernelState) { s.rules = append(s.rules, netlink.Rule{Priority: 1000}) }, "198.51.100.7", Kernel, 0, 1500, nil},
		{"better metric wins", func(s *kernelState) {
			s.routes[1].Priority = 100
			s.routes = append(s.routes, with(unicast(9, "default4", "203.0.113.3"), func(r *netlink.Route) { r.Priority = 50 }))
		}, "198.51.100.7", Kernel, 0, 1500, nil},
		{"main before default table", func(s *kernelState) {
			s.routes = append(s.routes, with(unicast(9, "default4", ""), func(r *netlink.Route) { r.Table = unix.RT_TABLE_DEFAULT }))
		}, "198.51.100.7", Port, 0, 1500, frame(macGate, 0x08, 0x00)},
		{"other tables are not asked", func(s *kernelState) {
			s.routes = append(s.routes, with(unicast(9, "198.51.100.0/24", ""), func(r *netlink.Route) { r.Table = 77 }))
		}, "198.51.100.7", Port, 0, 1500, frame(macGate, 0x08, 0x00)},
		{"own address", func(s *kernelState) { s.routes = append(s.routes, local("203.0.113.1/32")) }, "203.0.113.1", Local, 0, maxMTU, nil},
		{"local covers a longer main prefix", func(s *kernelState) {
			s.routes = append(s.routes, local("203.0.112.0/20"))
		}, "203.0.113.9", Local, 0, maxMTU, nil},
		{"subnet anycast does not hide its prefix", func(s *kernelState) {
			s.routes = append(s.routes, with(local("2001:db8::/128"), func(r *netlink.Route) { r.Type = unix.RTN_ANYCAST }))
		}, "2001:db8::2", Port, 1, 1500, frame(macVM, 0x86, 0xdd)},
		{"subnet anycast", func(s *kernelState) {
			s.routes = append(s.routes, with(local("2001:db8::/128"), func(r *netlink.Route) { r.Type = unix.RTN_ANYCAST }))
		}, "2001:db8::", Local, 0, maxMTU, nil},
		{"broadcast", func(s *kernelState) {
			s.routes = append(s.routes, with(local("203.0.113.255/32"), func(r *netlink.Route) { r.Type = unix.RTN_BROADCAST }))
		}, "203.0.113.255", Local, 0, maxMTU, nil},
		{"unreachable", func(s *kernelState) {
			s.routes = append(s.routes, with(unicast(1, "198.51.100.0/24", ""), func(r *netlink.Route) { r.Type = unix.RTN_UNREACHABLE }))
		}, "198.51.100.7", Kernel, 0, maxMTU, nil},
		{"IPv4 over an IPv6 gateway (RFC 8950)", func(s *kernelState) {
			s.routes[1] = with(unicast(3, "default4", ""), func(r *netlink.Route) {
				r.Via = &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: net.ParseIP("2001:db8::2")}
			})
		}, "198.51.100.7", Port, 1, 1500, frame(macVM, 0x08, 0x00)},
		{"multipath without a live path", func(s *kernelState) {
			s.routes[1].MultiPath = []*netlink.NexthopInfo{{LinkIndex: 2, Flags: unix.RTNH_F_LINKDOWN}}
		}, "198.51.100.7", Kernel, 0, maxMTU, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := base(t)
			if c.change != nil {
				c.change(&s)
			}
			tb, err := build(&s, []string{"nic0", "nic1"})
			if err != nil {
				t.Fatal(err)
			}
			h, mtu := lookup(tb, c.dst)
			if h.Kind != c.kind || mtu != c.mtu || (c.kind == Port || c.kind == Miss) && h.Port != c.port {
				t.Fatalf("got %v by port %d, MTU %d; want %v, %d, %d", h.Kind, h.Port, mtu, c.kind, c.port, c.mtu)
			}
			if c.kind != Port {
				return
			}
			buf := make([]byte, 40)
			at := h.PutHeader(buf, 20)
			if !bytes.Equal(buf[at:20], c.header) {
				t.Errorf("header %x, want %x", buf[at:20], c.header)
			}
		})
	}
}

func frame(dst net.HardwareAddr, rest ...byte) []byte {
	return append(append(append([]byte(nil), dst...), macNIC...), rest...)
}

func local(dst string) netlink.Route {
	return with(unicast(2, dst, ""), func(r *netlink.Route) {
		r.Table, r.Type = unix.RT_TABLE_LOCAL, unix.RTN_LOCAL
	})
}

func TestMultipathSpreadsByWeight(t *testing.T) {
	s := base(t)
	s.neighs = append(s.neighs, neigh(3, "203.0.113.3", macVM, netlink.NUD_REACHABLE))
	s.routes[1].MultiPath = []*netlink.NexthopInfo{
		{LinkIndex: 2, Gw: net.ParseIP("203.0.113.2"), Hops: 2}, // weight 3
		{LinkIndex: 3, Gw: net.ParseIP("203.0.113.3")},
	}
	tb, err := build(&s, []string{"nic0", "nic1"})
	if err != nil {
		t.Fatal(err)
	}
	var byPort [2]int
	for i := range 4000 {
		a := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
		h, _ := lookup(tb, a.String())
		again, _ := lookup(tb, a.String())
		if h != again {
			t.Fatal("one destination took two paths")
		}
		byPort[h.Port]++
	}
	if byPort[0] < 2700 || byPort[0] > 3300 {
		t.Errorf("paths of weight 3 and 1 took %v of 4000 destinations", byPort)
	}
}

func TestSources(t *testing.T) {
	s := base(t)
	tb, err := build(&s, []string{"nic0", "nic1"})
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")
	for _, dst := range []string{"198.51.100.7", "2001:db8::2", "2001:db8:9::2", "2001:db9::1"} {
		h, _ := lookup(tb, dst)
		if netip.AddrFrom4(h.Source.V4) != v4 || netip.AddrFrom16(h.Source.V6) != v6 {
			t.Errorf("towards %s: sources %v and %v", dst, netip.AddrFrom4(h.Source.V4), netip.AddrFrom16(h.Source.V6))
		}
	}
}

func TestZeroTable(t *testing.T) {
	if h, _ := lookup(&Table{}, "2001:db8::1"); h.Kind != Kernel {
		t.Errorf("got %v, want kernel", h.Kind)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	s := base(t)
	tb, err := build(&s, []string{"nic0", "nic1"})
	if err != nil {
		t.Fatal(err)
	}
	hi, lo := key(netip.MustParseAddr("2001:db8::2"))
	if n := testing.AllocsPerRun(100, func() { tb.Lookup(translate.V6, hi, lo) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNearby6(t *testing.T) {
	multipath := func(index ...int) netlink.Route {
		r := unicast(0, "2001:db8:5::/48", "")
		for _, i := range index {
			r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: i, Gw: net.ParseIP("fe80::1")})
		}
		return r
	}
	toInternet := unicast(1, "::/0", "fe80::1")
	for _, tt := range []struct {
		name   string
		routes []netlink.Route
		want   string
	}{
		{"on a link", []netlink.Route{toInternet, unicast(2, "2001:db8:1::/64", ""), unicast(3, "2001:db8:2::7/128", "")}, "[2001:db8:1::/64 2001:db8:2::7/128]"},
		{"on the link to the Internet, where a bridge may have VMs", []netlink.Route{toInternet, unicast(1, "2001:db8:1::/64", "")}, "[2001:db8:1::/64]"},
		{"behind a gateway", []netlink.Route{toInternet, unicast(2, "2001:db8:3::/48", "fe80::2")}, "[2001:db8:3::/48]"},
		{"behind a gateway of the Internet's link", []netlink.Route{toInternet, unicast(1, "2001:db8:3::/48", "fe80::2")}, "[]"},
		{"behind a gateway, no default route", []netlink.Route{unicast(2, "2001:db8:3::/48", "fe80::2")}, "[]"},
		{"several ways, one of them ours", []netlink.Route{toInternet, multipath(1, 2)}, "[2001:db8:5::/48]"},
		{"several ways, none ours", []netlink.Route{toInternet, multipath(1, 1)}, "[]"},
		{"another table", []netlink.Route{toInternet, with(unicast(2, "2001:db8:1::/64", ""), func(r *netlink.Route) { r.Table = 100 })}, "[2001:db8:1::/64]"},
		{"twice", []netlink.Route{unicast(2, "2001:db8:1::/64", ""), unicast(3, "2001:db8:1::/64", "")}, "[2001:db8:1::/64]"},
		{"own address", []netlink.Route{with(unicast(2, "2001:db8:1::1/128", ""), func(r *netlink.Route) { r.Table, r.Type = unix.RT_TABLE_LOCAL, unix.RTN_LOCAL })}, "[]"},
		{"link-local, multicast, loopback", []netlink.Route{unicast(2, "fe80::/64", ""), unicast(2, "ff00::/8", ""), unicast(1, "::1/128", "")}, "[]"},
		{"blackhole", []netlink.Route{with(unicast(0, "2001:db8:1::/64", ""), func(r *netlink.Route) { r.Type = unix.RTN_BLACKHOLE })}, "[]"},
		{"IPv4", []netlink.Route{unicast(2, "192.0.2.0/24", "")}, "[]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := fmt.Sprint(nearby6(tt.routes)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
