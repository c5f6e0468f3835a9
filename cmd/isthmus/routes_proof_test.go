package main

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"aarch64.com/isthmus/perf/lab"
)

// zone is the name server of a customer's zone, and the resolver of everybody.
type zone struct {
	mu      sync.Mutex
	records map[string][]dns.RR // by lower-case name
}

const customersZone = "shop.example."

func serveZone(t *testing.T, h *lab.Host, at string) *zone {
	t.Helper()
	z := &zone{records: map[string][]dns.RR{}}
	host, _, _ := net.SplitHostPort(at)
	z.set(t, customersZone+" SOA ns.shop.example. root.shop.example. 1 2 3 4 5", customersZone+" NS ns.shop.example.", "ns.shop.example. A "+host)
	packets, err := h.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := h.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: z}, {Listener: listener, Handler: z}} {
		go func() { _ = s.ActivateAndServe() }()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return z
}

// set adds records, as in a zone file.
func (z *zone) set(t *testing.T, lines ...string) {
	t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ToLower(rr.Header().Name)
		z.records[name] = append(z.records[name], rr)
	}
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	r := new(dns.Msg)
	r.SetReply(q)
	r.Authoritative = true
	all := z.records[strings.ToLower(q.Question[0].Name)]
	for _, rr := range all {
		if k := rr.Header().Rrtype; k == q.Question[0].Qtype || k == dns.TypeCNAME {
			r.Answer = append(r.Answer, rr)
		}
	}
	if len(r.Answer) == 0 {
		r.Ns = z.records[customersZone][:1] // the SOA: there is none (RFC 2308)
		if all == nil {
			r.Rcode = dns.RcodeNameError
		}
	}
	_ = w.WriteMsg(r)
}

// A name is served once its owner has shown that it is theirs, and only then.
func TestRoutesProof(t *testing.T) {
	r := newRoutesLab(t)
	z := serveZone(t, r.visitor, "192.0.2.9:53")
	r.configure("engine = 'bolt'\nresolvers = ['192.0.2.9:53']\nname_servers = ['192.0.2.0/24']")
	r.start()
	r.says("project add shop --prefix 2001:db8:64::/64")
	out := r.says("routes add www.shop.example "+shopAddr+" --project shop", "it is not served before this record is in the DNS")
	r.says("routes add other.shop.example " + shopAddr + " --project shop")
	status, said, errs := r.cli("routes", "check", "other.shop.example", "--no-dial")
	for _, want := range []string{"proof        pending", "the project's right to the name is not shown (TXT missing: add _isthmus-challenge.other.shop.example TXT", "the name does not lead here"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	if status != 1 || !strings.Contains(errs, "other.shop.example is not served as it should be") {
		t.Errorf("status %d, %s", status, errs)
	}
	r.gets("http://www.shop.example/", "There is no site here by this name")

	_, record, _ := strings.Cut(out, "in the DNS:\n  ")
	record, _, _ = strings.Cut(record, "\n")
	z.set(t, strings.Replace(record, " TXT ", ". TXT ", 1), "www.shop.example. CNAME dfw.proxy.infra.example.com.")
	eventually(t, "the proof", func() (bool, string) {
		status, said, _ := r.cli("routes", "check", "www.shop.example", "--no-dial")
		return status == 0 && strings.Contains(said, "visitors are served") && strings.Contains(said, "leads here"), said
	})
	r.gets("http://www.shop.example/", "shop for www.shop.example")
	r.says("routes list", "proven", "pending")
	r.says("routes audit", "proxy.proof", "dns")
}
