package main

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

type advertisement struct {
	hopLimit int
	message  []byte
}

// advertise answers router solicitations on eth0 with these, until the function
// it returns is called.
func advertise(t *testing.T, h *lab.Host, list ...advertisement) (stop func()) {
	t.Helper()
	conn, err := h.ListenPacket("ip6:ipv6-icmp", "::")
	noError(t, err)
	p := ipv6.NewPacketConn(conn)
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	noError(t, p.SetICMPFilter(&only))
	index, err := h.Ifindex("eth0")
	noError(t, err)
	noError(t, p.JoinGroup(&net.Interface{Index: index}, &net.IPAddr{IP: net.ParseIP("ff02::2")}))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 1500)
		for {
			if _, _, _, err := p.ReadFrom(b); err != nil {
				return
			}
			for _, a := range list {
				_, _ = p.WriteTo(a.message, &ipv6.ControlMessage{IfIndex: index, HopLimit: a.hopLimit}, &net.IPAddr{IP: net.IPv6linklocalallnodes})
			}
		}
	}()
	return func() {
		conn.Close()
		<-ended
	}
}

// waitLinkLocal waits for the address that the kernel gives an interface some
// time after it is up.
func waitLinkLocal(t *testing.T, h *lab.Host, ifname string) {
	t.Helper()
	nl, err := h.Netlink()
	noError(t, err)
	defer nl.Close()
	link, err := nl.LinkByName(ifname)
	noError(t, err)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		list, err := nl.AddrList(link, netlink.FAMILY_V6)
		noError(t, err)
		if slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s of %s gets no link-local address", ifname, h.Name())
		}
	}
}

// TestHostsAdvertised finds the prefix in a router advertisement (RFC 8781),
// and only in those of the link that the default route leads to.
func TestHostsAdvertised(t *testing.T) {
	r := newRunner(t, "2001:db8:122:344::/64")
	r.resolve("64:ff9b::/96", guide)
	router, stranger := labtest.Host(t, r.lab, "router"), labtest.Host(t, r.lab, "stranger")
	for i, h := range []*lab.Host{router, stranger} {
		port := []string{"eth0", "eth1"}[i]
		noError(t, r.lab.Link(r.Host, h, lab.LinkConfig{NameA: port, NameB: "eth0"}))
		noError(t, r.Addr(port, []string{"2001:db8:1::2/64", "2001:db8:2::2/64"}[i]))
	}
	noError(t, r.Route("default6", "2001:db8:1::1", ""))
	for _, h := range []*lab.Host{r.Host, router, stranger} {
		waitLinkLocal(t, h, "eth0")
	}
	waitLinkLocal(t, r.Host, "eth1")

	bare := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	// Option 38: lifetime 1800 s, prefix length code 1, which is 64 bits.
	with := func(prefix string) []byte {
		a := netip.MustParseAddr(prefix).As16()
		return append(append(bytes.Clone(bare), 38, 2, 0x07, 0x09), a[:12]...)
	}
	const (
		byRouter = "2001:db8:122:344:8c:5279:400:0 github.com\n"
		byDNS    = "64:ff9b::8c52:7904 github.com\n"
	)
	t.Cleanup(advertise(t, stranger, advertisement{255, with("2001:db8:bad:1::")}))

	stop := advertise(t, router, advertisement{255, with("2001:db8:122:344::")})
	r.want("github.com", 0, byRouter, "prefix 2001:db8:122:344::/64, by the router advertisement of fe80::", "%eth0 (PREF64, RFC 8781)")
	r.want("github.com --prefix 64:ff9b::/96", 0, byDNS, "by --prefix")
	r.want("github.com --interface eth1 --no-probe", 0, "2001:db8:bad:1:8c:5279:400:0 github.com\n", "%eth1 (PREF64, RFC 8781)")
	stop()

	stop = advertise(t, router, advertisement{255, bare})
	r.want("github.com", 0, byDNS, "by ipv4only.arpa (RFC 7050)")
	stop()

	// One from behind another router does not count (RFC 4861 section 6.1.2), nor
	// does one that is no message of its kind.
	stop = advertise(t, router, advertisement{64, with("2001:db8:bad:2::")}, advertisement{255, append(with("2001:db8:bad:3::"), 38, 0)},
		advertisement{255, with("2001:db8:122:344::")})
	r.want("github.com", 0, byRouter)
	stop()
}
