package proof

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labdns"
	"aarch64.com/isthmus/perf/lab/labtest"
)

const challenge = "23c6a6wcunctvbrniksubboeee"

var servers = []string{"192.0.2.1", resolverAddress, "192.0.2.11", "192.0.2.12", "2001:db8:53::12", "192.0.2.21", "192.0.2.31", "192.0.2.32", "192.0.2.33", "192.0.2.66"}

func TestLook(t *testing.T) {
	n := newInternet(t, "proof", servers...)
	const record = "_isthmus-challenge.www TXT " + challenge + "\n"
	const missing = "TXT missing: add _isthmus-challenge.www.shop.example TXT \"" + challenge + `"`
	all := []string{"192.0.2.11", "192.0.2.12", "2001:db8:53::12"}
	for _, c := range []struct {
		name    string
		host    string // "": www.shop.example
		records string
		more    func()
		want    string // found, gone or neither
		problem string
	}{
		{name: "there", records: record, want: "found"},
		{name: "among others", records: record + "_isthmus-challenge.www TXT other\n_isthmus-challenge.www TXT \"v=spf1 -all\"\n", want: "found"},
		{name: "spaces", records: "_isthmus-challenge.www TXT \" " + challenge + " \"", want: "found"},
		{name: "in parts", records: "_isthmus-challenge.www TXT 23c6a6wcunct vbrniksubboeee", want: "found"},
		{name: "wildcard", host: "*.www.shop.example", records: record, want: "found"},
		{name: "too long for UDP", records: record + "_isthmus-challenge.www TXT " + long(10) + "\n", want: "found"},

		{name: "no such name", want: "gone", problem: missing},
		{name: "no such record", records: "_isthmus-challenge.www A 192.0.2.9", want: "gone", problem: missing},
		{name: "names below only", records: "a._isthmus-challenge.www A 192.0.2.9", want: "gone", problem: missing},
		{name: "another text", records: "_isthmus-challenge.www TXT \"evil \x1b[2J \\\"\"", want: "gone", problem: missing + `; there is "evil \\027[2J \\\""`},
		{name: "at the name itself", records: "www TXT " + challenge, want: "gone", problem: missing},
		{name: "not registered", host: "www.nothing.example", want: "gone", problem: strings.ReplaceAll(missing, "shop", "nothing")},
		{name: "no such top-level domain", host: "www.shop.nowhere", want: "gone", problem: strings.ReplaceAll(missing, "shop.example", "shop.nowhere")},

		{name: "at one server only", records: record, more: func() { n.shop("", "192.0.2.11") }, want: "neither",
			problem: "not all name servers of shop.example have the TXT record yet: ns1.shop.example does not"},
		{name: "at one address only", more: func() { n.shop(record, "192.0.2.11") }, want: "neither",
			problem: "not all name servers of shop.example have the TXT record yet: ns2.shop.example does not"},
		{name: "one silent", records: record, more: func() { n.fault(silent, "192.0.2.11") }, want: "found"},
		{name: "one broken", records: record, more: func() { n.fault(broken, "192.0.2.11") }, want: "found"},
		{name: "one lame", records: record, more: func() { n.shop("", "192.0.2.11"); n.fault(lame, "192.0.2.11") }, want: "found"},
		{name: "one silent, none has it", more: func() { n.fault(silent, "192.0.2.11") }, want: "gone", problem: missing},
		{name: "all silent", records: record, more: func() { n.fault(silent, all...) }, want: "neither", problem: "the name servers of shop.example do not answer"},
		{name: "all refuse", records: record, more: func() { n.fault(refusing, all...) }, want: "neither",
			problem: `the name servers of shop.example do not answer as they should: ns1.shop.example says "REFUSED"`},
		{name: "all lame", records: record, more: func() { n.fault(lame, all...) }, want: "neither",
			problem: `the name servers of shop.example do not answer as they should: ns1.shop.example says "not authoritative"`},
		{name: "all cut off", records: record, more: func() { n.fault(cut, all...) }, want: "found"},
		{name: "all in lower case", records: record, more: func() { n.fault(lowerCase, all...) }, want: "found"},
		{name: "all without EDNS", records: record, more: func() { n.fault(oldest, all...) }, want: "found"},
		{name: "all give another question back", records: record, more: func() { n.fault(forging, all...) }, want: "neither",
			problem: `the name servers of shop.example do not answer as they should: ns1.shop.example says "the answer is to another question"`},
		{name: "resolver broken", records: record, more: func() { n.fault(broken, resolverAddress) }, want: "neither",
			problem: "_isthmus-challenge.www.shop.example can't be looked up: its name servers do not answer, or DNSSEC is broken"},
		{name: "resolver silent", records: record, more: func() { n.fault(silent, resolverAddress) }, want: "neither",
			problem: "the DNS can't be asked right now; that is not your fault"},

		{name: "alias", records: "_isthmus-challenge.www CNAME shop.acme.dns.example.",
			more: func() { n.set("dns.example.", "@ NS ns\nns A 192.0.2.21\nshop.acme TXT "+challenge, "192.0.2.21") }, want: "found"},
		{name: "alias to nothing", records: "_isthmus-challenge.www CNAME shop.acme.dns.example.", want: "gone", problem: missing},
		{name: "alias at one server only", records: record, more: func() { n.shop("_isthmus-challenge.www CNAME x.dns.example.", "192.0.2.11") }, want: "neither",
			problem: "the name servers differ about a CNAME; wait until they agree"},
		{name: "aliases in a circle", records: "_isthmus-challenge.www CNAME a\na CNAME b\nb CNAME _isthmus-challenge.www", want: "neither", problem: "_isthmus-challenge.www.shop.example: more than 5 CNAMEs in a row"},

		{name: "zone of its own", records: "_isthmus-challenge.www NS ns.dns.example.",
			more: func() {
				n.set("_isthmus-challenge.www.shop.example.", "@ NS ns.dns.example.\n@ TXT "+challenge, "192.0.2.21")
			}, want: "found"},
		{name: "zone that the resolver has not heard of", records: "www NS ns.dns.example.", more: func() {
			n.set("www.shop.example.", "@ NS ns.dns.example.\n_isthmus-challenge TXT "+challenge, "192.0.2.21")
			n.mu.Lock()
			n.unknown["www.shop.example."] = true
			n.mu.Unlock()
		}, want: "found"},
		{name: "zone below that the resolver has not heard of, by glue", records: "www NS ns.www\nns.www A 192.0.2.21", more: func() {
			n.set("www.shop.example.", "@ NS ns\nns A 192.0.2.21\n_isthmus-challenge TXT "+challenge, "192.0.2.21")
			n.mu.Lock()
			n.unknown["www.shop.example."] = true
			n.mu.Unlock()
		}, want: "found"},
		{name: "zone that delegates to itself", records: "www NS ns1", want: "neither",
			problem: `the name servers of www.shop.example do not answer as they should: ns1.shop.example says "not authoritative"`},
		{name: "zones below zones", host: "www.d.c.b.a.shop.example", records: "a NS ns.dns.example.", more: func() {
			n.set("a.shop.example.", "b NS n1.dns.example.", "192.0.2.21")
			n.set("b.a.shop.example.", "c NS n2.dns.example.", "192.0.2.31")
			n.set("c.b.a.shop.example.", "d NS n3.dns.example.", "192.0.2.32")
			n.set("d.c.b.a.shop.example.", "www NS n1.dns.example.", "192.0.2.33")
			n.set("dns.example.", "@ NS ns\nns A 192.0.2.21\nn1 A 192.0.2.31\nn2 A 192.0.2.32\nn3 A 192.0.2.33\n", "192.0.2.21")
			n.mu.Lock()
			for _, z := range []string{"a.shop.example.", "b.a.shop.example.", "c.b.a.shop.example.", "d.c.b.a.shop.example."} {
				n.unknown[z] = true
			}
			n.mu.Unlock()
		}, want: "neither", problem: "_isthmus-challenge.www.d.c.b.a.shop.example: more than 3 zones below what the resolver knows"},

		{name: "name servers that are not asked", records: "", more: func() {
			n.set("shop.example.", "@ NS ns1\n@ NS ns2\n@ NS ns3\n@ NS ns4\nns1 A 127.0.0.1\nns2 A 10.0.0.1\nns3 A "+hypervisor+"\nns4 A 192.0.2.66\n"+record, append(all, "192.0.2.66")...)
		}, want: "neither", problem: "the name server ns4.shop.example of shop.example has the address 192.0.2.66, which is not asked: no public address"},
		{name: "some name servers are not asked", records: "", more: func() {
			n.set("shop.example.", "@ NS ns1\n@ NS ns4\nns1 A 192.0.2.11\nns4 A 192.0.2.66\n"+record, append(all, "192.0.2.66")...)
		}, want: "found"},
		{name: "name servers not asked by glue", records: "www NS ns.www\nns.www A 192.0.2.66\n", more: func() {
			n.set("www.shop.example.", "@ NS ns\nns A 192.0.2.66\n_isthmus-challenge TXT "+challenge, "192.0.2.66")
			n.mu.Lock()
			n.unknown["www.shop.example."] = true
			n.mu.Unlock()
		}, want: "neither", problem: "the name server ns.www.shop.example of www.shop.example has the address 192.0.2.66, which is not asked: no public address"},
		{name: "name servers without address", more: func() { n.set("shop.example.", "@ NS ns1\n", all...) }, want: "neither",
			problem: "the name servers of shop.example have no addresses"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n.usual(c.records)
			if c.more != nil {
				c.more()
			}
			if c.host == "" {
				c.host = "www.shop.example"
			}
			d := n.dns(resolverAddress)
			f := d.Look(t.Context(), c.host, challenge)
			got := map[bool]string{true: "found", false: "neither"}[f.Found]
			if f.Gone {
				got = "gone"
			}
			if got != c.want || f.Problem != c.problem || f.Found && f.Gone || f.At.IsZero() {
				t.Errorf("got  %s, %s\nwant %s, %s", got, f.Problem, c.want, c.problem)
			}
			if again := d.Look(t.Context(), c.host, challenge); again.Problem != f.Problem {
				t.Errorf("the words change: %s", again.Problem)
			}
			if asked := n.asked("192.0.2.66") + n.asked("127.0.0.1") + n.asked(hypervisor) + n.asked("10.0.0.1"); asked > 0 {
				t.Errorf("%d connections to addresses that may not be asked", asked)
			}
			// What a request for a taken name goes by says the same.
			texts, err := d.Texts(t.Context(), c.host)
			if slices.Contains(texts, challenge) != f.Found || (err == nil) != (f.Found || f.Gone || strings.HasPrefix(f.Problem, "not all")) {
				t.Errorf("texts: %q, %v", texts, err)
			}
		})
	}
}

// The owner of a zone decides whom we ask, but not how often.
func TestQuestions(t *testing.T) {
	n := newInternet(t, "questions", servers...)
	n.usual("")
	// Many servers, each of which answers with an alias into a zone of many more.
	ns, names := "", ""
	for i := range 40 {
		ns += fmt.Sprintf("@ NS n%d.dns.example.\n", i)
		names += fmt.Sprintf("n%d A 192.0.2.%d\nn%[1]d AAAA 2001:db8:53::%x\n", i, 31+i%3, 0x1000+i)
	}
	n.set("dns.example.", "@ NS ns\nns A 192.0.2.21\n"+names, "192.0.2.21")
	n.set("shop.example.", ns+"_isthmus-challenge.www CNAME b\nb CNAME c\nc CNAME d\nd CNAME e\ne CNAME f\nf CNAME g\n", "192.0.2.11", "192.0.2.12", "2001:db8:53::12", "192.0.2.31", "192.0.2.32", "192.0.2.33")
	d := n.dns(resolverAddress)
	d.c.Timeout = 200 * time.Millisecond // half of the servers are not there
	f := d.Look(t.Context(), "www.shop.example", challenge)
	sum := 0
	for _, asked := range n.dialled {
		sum += asked
	}
	if f.Found || f.Gone || sum > maxQuestions || sum < maxServers {
		t.Errorf("%d questions: %+v", sum, f)
	}
}

// The same with the resolver that operators run, which walks down from the root.
func TestUnbound(t *testing.T) {
	labtest.NeedProgram(t, labdns.Program, labdns.Program)
	n := newInternet(t, "unbound", servers...)
	n.usual("")
	u, err := labdns.StartResolver(n.hv, labdns.Config{Roots: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	must(t, err)
	d := n.dns("127.0.0.1")
	for _, c := range []struct{ name, host, records, want string }{
		{"nothing", "www.shop.example", "", "gone"},
		{"there", "www.shop.example", "_isthmus-challenge.www TXT " + challenge, "found"},
		{"alias", "www.shop.example", "_isthmus-challenge.www CNAME acme.dns.example.", "found"},
		{"zone of its own", "www.shop.example", "_isthmus-challenge.www NS ns.dns.example.", "found"},
		{"wildcard", "*.shop.example", "_isthmus-challenge TXT " + challenge, "found"},
		{"not registered", "www.nothing.example", "", "gone"},
		{"no such top-level domain", "www.shop.nowhere", "", "gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n.usual(c.records)
			n.set("dns.example.", "@ NS ns\nns A 192.0.2.21\nacme TXT "+challenge, "192.0.2.21")
			n.set("_isthmus-challenge.www.shop.example.", "@ NS ns.dns.example.\n@ TXT "+challenge, "192.0.2.21")
			f := d.Look(t.Context(), c.host, challenge)
			if got := map[[2]bool]string{{true, false}: "found", {false, true}: "gone"}[[2]bool{f.Found, f.Gone}]; got != c.want {
				t.Errorf("got %+v, want %s\n%s", f, c.want, u.Log())
			}
		})
	}
}
