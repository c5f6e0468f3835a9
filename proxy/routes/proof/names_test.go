package proof

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// A small Internet: one host with the name servers of all zones, each at an address
// of its own, and the hypervisor.
//
//	hypervisor 192.0.2.100 --- 192.0.2.1 root and "example", .2 a resolver, .11 and .12 shop.example, ...
const hypervisor = "192.0.2.100"

// fault is how a name server does not do what it should.
type fault string

const (
	silent    fault = "silent"
	broken    fault = "SERVFAIL"
	refusing  fault = "REFUSED"
	lame      fault = "lame"      // answers, without authority
	cut       fault = "cut"       // cuts off all over UDP
	lowerCase fault = "lowercase" // gives names back in lower case over UDP
	forging   fault = "forging"   // gives back another question
	oldest    fault = "no EDNS"
)

// zone is a part of the name space, in the form of a zone file.
type zone struct {
	origin  string
	records []dns.RR
}

// internet is all zones, by the address of a name server.
type internet struct {
	t  testing.TB
	hv *lab.Host

	mu      sync.Mutex
	zones   map[string][]zone
	faults  map[string]fault
	unknown map[string]bool // origins that the resolver has not heard of yet
	dialled map[string]int  // by address: what the hypervisor has asked
}

// newInternet starts the name servers.
func newInternet(t testing.TB, name string, addresses ...string) *internet {
	t.Helper()
	l := labtest.New(t, name)
	n := &internet{t: t, hv: labtest.Host(t, l, "hv")}
	far := labtest.Host(t, l, "net")
	must(t, l.Link(n.hv, far, lab.LinkConfig{}))
	must(t, n.hv.Addr("eth0", hypervisor+"/24"))
	must(t, n.hv.Addr("eth0", "2001:db8:53::100/64"))
	n.reset()
	for _, a := range addresses {
		length := "/24"
		if strings.Contains(a, ":") {
			length = "/64"
		}
		must(t, far.Addr("eth0", a+length))
		n.listen(far, a)
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (n *internet) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.zones, n.faults, n.unknown, n.dialled = map[string][]zone{}, map[string]fault{}, map[string]bool{}, map[string]int{}
}

func (n *internet) listen(h *lab.Host, address string) {
	n.t.Helper()
	at := net.JoinHostPort(address, "53")
	udp, err := h.ListenPacket("udp", at)
	must(n.t, err)
	tcp, err := h.Listen("tcp", at)
	must(n.t, err)
	for _, s := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { n.serve(address, w, q) })
		go func() { _ = s.ActivateAndServe() }()
		n.t.Cleanup(func() { _ = s.Shutdown() })
	}
}

// set puts a zone on name servers. SOA and NS records of theirs are made.
func (n *internet) set(origin, file string, servers ...string) {
	n.t.Helper()
	p := dns.NewZoneParser(strings.NewReader("$ORIGIN "+origin+"\n$TTL 60\n@ SOA ns hostmaster 1 60 60 60 0\n"+file), origin, "")
	z := zone{origin: origin}
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		z.records = append(z.records, rr)
	}
	must(n.t, p.Err())
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range servers {
		list := slices.DeleteFunc(slices.Clone(n.zones[s]), func(x zone) bool { return x.origin == origin })
		n.zones[s] = append(list, z)
	}
}

// usual is the root, a top-level domain, and shop.example with records at two servers.
func (n *internet) usual(records string) {
	n.reset()
	n.set(".", "@ NS a.root.example.\nexample. NS a.root.example.\na.root.example. A 192.0.2.1\n", "192.0.2.1")
	n.set("example.", `
@ NS a.root
a.root A 192.0.2.1
shop NS ns1.shop
shop NS ns2.shop
ns1.shop A 192.0.2.11
ns2.shop A 192.0.2.12
ns2.shop AAAA 2001:db8:53::12
dns NS ns.dns
ns.dns A 192.0.2.21
`, "192.0.2.1")
	n.shop(records, "192.0.2.11", "192.0.2.12", "2001:db8:53::12")
	n.set("dns.example.", "@ NS ns\nns A 192.0.2.21\n", "192.0.2.21")
}

func (n *internet) shop(records string, servers ...string) {
	n.set("shop.example.", `
@ NS ns1
@ NS ns2
ns1 A 192.0.2.11
ns2 A 192.0.2.12
ns2 AAAA 2001:db8:53::12
`+records, servers...)
}

func (n *internet) fault(f fault, servers ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range servers {
		n.faults[s] = f
	}
}

const resolverAddress = "192.0.2.2" // of the one that is made from all zones

func (n *internet) serve(address string, w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	f := n.faults[address]
	if f == silent {
		return
	}
	m := new(dns.Msg).SetReply(q)
	question := q.Question[0]
	switch {
	case f == broken:
		m.Rcode = dns.RcodeServerFailure
	case f == refusing:
		m.Rcode = dns.RcodeRefused
	case f == oldest && q.IsEdns0() != nil:
		m.Rcode = dns.RcodeFormatError
	case address == resolverAddress:
		n.recurse(m, question.Name, question.Qtype, 0)
	default:
		answer(m, n.zones[address], question.Name, question.Qtype, true)
	}
	switch {
	case f == lame:
		m.Authoritative = false
	case f == forging:
		m.Question[0].Name = "other.example."
	case f == lowerCase && !tcp:
		m.Question[0].Name = strings.ToLower(question.Name)
	}
	if !tcp {
		if m.Truncate(dns.MinMsgSize); f == cut {
			m.Truncated, m.Answer, m.Ns = true, nil, nil
		}
	}
	_ = w.WriteMsg(m)
}

// answer is what a name server with these zones says.
func answer(m *dns.Msg, zones []zone, name string, kind uint16, referrals bool) {
	var z *zone
	for i := range zones {
		if dns.IsSubDomain(zones[i].origin, name) && (z == nil || dns.IsSubDomain(z.origin, zones[i].origin)) {
			z = &zones[i]
		}
	}
	if z == nil {
		m.Rcode = dns.RcodeRefused
		return
	}
	for _, rr := range z.records {
		if owner := rr.Header().Name; referrals && rr.Header().Rrtype == dns.TypeNS && !strings.EqualFold(owner, z.origin) && dns.IsSubDomain(owner, name) {
			m.Ns = append(m.Ns, rr)
			for _, glue := range z.records {
				if strings.EqualFold(glue.Header().Name, rr.(*dns.NS).Ns) {
					m.Extra = append(m.Extra, glue)
				}
			}
		}
	}
	if m.Ns != nil {
		return
	}
	m.Authoritative = true
	there := false
	for _, rr := range z.records {
		there = there || dns.IsSubDomain(name, rr.Header().Name)
		if k := rr.Header().Rrtype; strings.EqualFold(rr.Header().Name, name) && (k == kind || k == dns.TypeCNAME) {
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(m.Answer) == 0 {
		m.Ns = z.records[:1]
		if !there {
			m.Rcode = dns.RcodeNameError
		}
	}
}

// recurse is what a resolver says that knows all zones at once, but for those that
// it has not heard of.
func (n *internet) recurse(m *dns.Msg, name string, kind uint16, depth int) {
	var all []zone
	for _, zones := range n.zones {
		for _, z := range zones {
			if !n.unknown[z.origin] {
				all = append(all, z)
			}
		}
	}
	before := len(m.Answer)
	answer(m, all, name, kind, false)
	m.Authoritative, m.RecursionAvailable = false, true
	if len(m.Answer) == before+1 && depth < 8 {
		if c, ok := m.Answer[before].(*dns.CNAME); ok && kind != dns.TypeCNAME {
			n.recurse(m, c.Target, kind, depth+1)
		}
	}
}

// allow is for the addresses of this Internet, but for two.
func allow(a netip.Addr) error {
	switch {
	case a == netip.MustParseAddr(hypervisor):
		return errOwn
	case a == netip.MustParseAddr("192.0.2.66"), a.IsLoopback(), a.IsPrivate():
		return errPrivate
	}
	return nil
}

func (n *internet) dns(resolver string) *DNS {
	return New(Config{
		Resolvers: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(resolver), port)},
		Allow:     allow,
		Timeout:   5 * time.Second,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			at := netip.MustParseAddrPort(address).Addr().String()
			n.mu.Lock()
			n.dialled[at]++
			quiet := n.faults[at] == silent
			n.mu.Unlock()
			c, err := n.hv.Dial(ctx, network, address)
			if quiet && err == nil {
				c = impatient{c.(*net.UDPConn)}
			}
			return c, err
		},
	})
}

// impatient does not wait long for an answer that does not come, so that the tests
// can be patient with those that do. It stays a packet connection, by which the
// library tells UDP from TCP.
type impatient struct{ *net.UDPConn }

const briefly = 50 * time.Millisecond

func (c impatient) SetReadDeadline(time.Time) error {
	return c.UDPConn.SetReadDeadline(time.Now().Add(briefly))
}

func (c impatient) SetDeadline(time.Time) error {
	return c.UDPConn.SetDeadline(time.Now().Add(briefly))
}

func (n *internet) asked(address string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialled[address]
}

// long is a text for a TXT record of several parts.
func long(parts int) string {
	var list []string
	for i := range parts {
		list = append(list, fmt.Sprintf("%q", strings.Repeat(string(rune('a'+i%26)), 200)))
	}
	return strings.Join(list, " ")
}
