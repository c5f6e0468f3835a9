package proxiestab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labdns"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// Zones.
const (
	customers = "shop.example"
	operators = "infra.example"
)

// area is a part of the Internet: hosts have an IPv4 /30 and an IPv6 /64 of it each.
type area struct {
	v4, v6 string // its network's first parts
}

// Name servers are asked at public addresses only. These are for name servers that
// anybody may run, and so nobody's in particular (RFC 7534).
var (
	publicArea  = area{"192.175.48.", "2620:4f:8000:"}
	serverArea  = area{"198.51.100.", "2001:db8:b:"}
	visitorArea = area{"203.0.113.", ""} // without IPv6
)

// internet is a router and who is connected to it.
type internet struct {
	t      *testing.T
	lab    *lab.Lab
	router *lab.Host
	joined int

	visitor  *host
	resolver *host
	root     *host
	ns       []*host // name servers of the customer's zone

	zones   []*labdns.Authority // that zone on each of them
	records string              // what is in it
}

// host is somebody on the Internet.
type host struct {
	*lab.Host
	v4, v6 netip.Addr
}

// records are a name's addresses, as lines of a zone file.
func (h *host) records(name string) string {
	return fmt.Sprintf("%[1]s A %[2]v\n%[1]s AAAA %[3]v\n", name, h.v4, h.v6)
}

func newInternet(t *testing.T, l *lab.Lab) *internet {
	t.Helper()
	labtest.NeedProgram(t, labdns.Program, labdns.Program)
	labtest.NeedProgram(t, labdns.AuthorityProgram, labdns.AuthorityProgram)
	n := &internet{t: t, lab: l, router: labtest.Host(t, l, "internet")}
	must(t, n.router.Sysctl("net.ipv4.ip_forward", "1"))
	must(t, n.router.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	n.resolver = n.join(labtest.Host(t, l, "resolver"), serverArea)
	n.root = n.join(labtest.Host(t, l, "root"), publicArea)
	for _, name := range []string{"ns1", "ns2"} {
		n.ns = append(n.ns, n.join(labtest.Host(t, l, name), publicArea))
	}
	n.visitor = n.join(labtest.Host(t, l, "visitor"), visitorArea)
	must(t, n.visitor.UseResolver(n.resolver.v4))
	return n
}

// join connects a host, by its interface "wan".
func (n *internet) join(h *lab.Host, a area) *host {
	n.t.Helper()
	n.joined++
	port := fmt.Sprintf("h%d", n.joined)
	must(n.t, n.lab.Link(n.router, h, lab.LinkConfig{NameA: port, NameB: "wan", ChecksumOffload: true}))
	connect := func(router, here netip.Addr, bits int, all string) netip.Addr {
		n.t.Helper()
		must(n.t, n.router.Addr(port, netip.PrefixFrom(router, bits).String()))
		must(n.t, h.Addr("wan", netip.PrefixFrom(here, bits).String()))
		must(n.t, h.Route(all, router.String(), ""))
		return here
	}
	out := &host{Host: h}
	router := netip.MustParseAddr(fmt.Sprintf("%s%d", a.v4, 4*n.joined+1))
	out.v4 = connect(router, router.Next(), 30, "0.0.0.0/0")
	if a.v6 != "" {
		router = netip.MustParseAddr(fmt.Sprintf("%s%d::1", a.v6, n.joined))
		out.v6 = connect(router, router.Next(), 64, "::/0")
	}
	return out
}

// startDNS starts the name servers and the resolver. The root's has the operator's zone
// as well.
func (n *internet) startDNS(operatorRecords string) {
	n.t.Helper()
	serve := func(h *host, zones map[string]string) *labdns.Authority {
		n.t.Helper()
		a, err := labdns.StartAuthority(h.Host, zones)
		must(n.t, err)
		n.t.Cleanup(a.Stop)
		return a
	}
	for i, h := range n.ns {
		name := fmt.Sprintf("ns%d.%s.", i+1, customers)
		n.records += fmt.Sprintf("%s. NS %s\n", customers, name) + h.records(name)
	}
	const rootName = "a.root-servers.example."
	root := n.root.records(rootName)
	serve(n.root, map[string]string{
		".":       "@ NS " + rootName + "\n" + root + n.records,
		operators: "@ NS " + rootName + "\n" + operatorRecords,
	})
	for _, h := range n.ns {
		n.zones = append(n.zones, serve(h, map[string]string{customers: n.records}))
	}
	r, err := labdns.StartResolver(n.resolver.Host, labdns.Config{Roots: []netip.Addr{n.root.v4, n.root.v6}})
	must(n.t, err)
	n.t.Cleanup(r.Stop)
}

// publish adds records to the customer's zone.
func (n *internet) publish(lines ...string) {
	n.t.Helper()
	n.records += strings.Join(lines, "\n") + "\n"
	for _, z := range n.zones {
		must(n.t, z.Set(customers, n.records))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
