package hosts_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"aarch64.com/isthmus/cmd/internal/hosts"
)

// nameServer answers on a port of its own, over UDP and TCP.
func nameServer(t *testing.T, handle func(network string, q, answer *dns.Msg)) netip.AddrPort {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	for { // a port that is free for both
		var err error
		tcp, err = net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		if udp, err = net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			break
		}
		must(t, tcp.Close())
	}
	for _, s := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		network := "udp"
		if s.Listener != nil {
			network = "tcp"
		}
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg)
			m.SetReply(q)
			if handle(network, q, m); m.Id != 0 {
				_ = w.WriteMsg(m)
			}
		})
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return netip.MustParseAddrPort(udp.LocalAddr().String())
}

func record(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	must(t, err)
	return rr
}

func TestLookup(t *testing.T) {
	long := "" // more than fits a datagram
	for i := range 100 {
		long += fmt.Sprintf("big.example. A 192.0.2.%d\n", i)
	}
	for _, c := range []struct {
		name, question string
		records        string // one to a line; "NAME!" has no such name, "NAME?" cannot be told
		want           string
	}{
		{"one", "a.example", "a.example. A 192.0.2.1", "192.0.2.1 a.example"},
		{"in order, each once", "a.example", "a.example. A 192.0.2.9\na.example. A 192.0.2.1\na.example. A 192.0.2.9", "192.0.2.1 192.0.2.9 a.example"},
		{"any case", "A.Example", "a.EXAMPLE. A 192.0.2.1", "192.0.2.1 a.example"},
		{"none", "a.example", "", "a.example"},
		{"another type", "a.example", "a.example. AAAA 2001:db8::1", "a.example"},
		{"another name", "a.example", "b.example. A 192.0.2.1", "a.example"},
		{"another class", "a.example", "a.example. CH A 192.0.2.1", "a.example"},
		{"no such name", "a.example", "a.example!", "! no such name"},
		{"refused", "a.example", "a.example?", "! SERVFAIL"},
		{"a chain", "a.example", "a.example. CNAME b.example.\nb.example. CNAME c.example.\nc.example. A 192.0.2.3\nx.example. A 192.0.2.4", "192.0.2.3 c.example"},
		{"a chain out of order", "a.example", "c.example. A 192.0.2.3\nb.example. CNAME c.example.\na.example. CNAME b.example.", "192.0.2.3 c.example"},
		{"a chain to nothing", "a.example", "a.example. CNAME b.example.", "b.example"},
		{"a loop", "a.example", "a.example. CNAME b.example.\nb.example. CNAME a.example.", "! without an end"},
		{"cut off", "big.example", long, "100 big.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, piecemeal := range []bool{false, true} {
				server := nameServer(t, func(network string, q, m *dns.Msg) {
					for line := range strings.FieldsFuncSeq(c.records, func(r rune) bool { return r == '\n' }) {
						switch {
						case strings.HasSuffix(line, "!"):
							m.Rcode = dns.RcodeNameError
							continue
						case strings.HasSuffix(line, "?"):
							m.Rcode = dns.RcodeServerFailure
							continue
						}
						rr := record(t, line)
						// Some servers give the records of one name, and leave aliases to us.
						if !piecemeal || strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
							m.Answer = append(m.Answer, rr)
						}
					}
					if network == "udp" {
						m.Truncate(1232)
					}
				})
				r := &hosts.Resolver{Servers: []netip.AddrPort{server}, Timeout: 5 * time.Second}
				list, canonical, err := r.Lookup(t.Context(), c.question, dns.TypeA)
				got := canonical
				for i := len(list) - 1; i >= 0 && len(list) < 100; i-- {
					got = list[i].String() + " " + got
				}
				if len(list) == 100 {
					got = "100 " + got
				}
				if err != nil {
					got = "! " + err.Error()
				}
				if got != c.want && (c.want[0] != '!' || !strings.Contains(got, c.want[2:])) {
					t.Errorf("piecemeal %v: %s, want %s", piecemeal, got, c.want)
				}
			}
		})
	}
}

// Servers that know nothing, say nothing, or say something else.
func TestLookupServers(t *testing.T) {
	good := func(_ string, _, m *dns.Msg) { m.Answer = []dns.RR{record(t, "a.example. A 192.0.2.1")} }
	var noEDNS atomic.Int32
	servers := map[string]func(network string, q, m *dns.Msg){
		"silent":   func(_ string, _, m *dns.Msg) { m.Id = 0 },
		"refusing": func(_ string, _, m *dns.Msg) { m.Rcode = dns.RcodeRefused },
		"another question": func(_ string, q, m *dns.Msg) {
			good("", q, m)
			m.Question[0].Name = "b.example."
		},
		"a question": func(_ string, q, m *dns.Msg) {
			good("", q, m)
			m.Response = false
		},
	}
	last := nameServer(t, good)
	for name, handle := range servers {
		first := nameServer(t, handle)
		r := &hosts.Resolver{Servers: []netip.AddrPort{first, last}, Timeout: 200 * time.Millisecond}
		list, _, err := r.Lookup(t.Context(), "a.example", dns.TypeA)
		if err != nil || len(list) != 1 {
			t.Errorf("%s, then a good one: %v, %v", name, list, err)
		}
		r.Servers = r.Servers[:1]
		list, _, err = r.Lookup(t.Context(), "a.example", dns.TypeA)
		if err == nil || errors.Is(err, hosts.ErrNoName) || !strings.Contains(err.Error(), first.String()) {
			t.Errorf("%s alone: %v, %v", name, list, err)
		}
	}
	old := nameServer(t, func(_ string, q, m *dns.Msg) {
		if q.IsEdns0() != nil {
			noEDNS.Add(1)
			m.Rcode = dns.RcodeFormatError
			return
		}
		good("", q, m)
	})
	r := &hosts.Resolver{Servers: []netip.AddrPort{old}, Timeout: 5 * time.Second}
	if list, _, err := r.Lookup(t.Context(), "a.example", dns.TypeA); err != nil || len(list) != 1 || noEDNS.Load() != 1 {
		t.Errorf("a server without EDNS: %v, %v", list, err)
	}
	r.Servers = nil
	if _, _, err := r.Lookup(t.Context(), "a.example", dns.TypeA); err == nil || !strings.Contains(err.Error(), "--server") {
		t.Errorf("no server: %v", err)
	}
}

func TestSystemServers(t *testing.T) {
	for _, c := range []struct{ conf, want string }{
		{"nameserver 192.0.2.53\nnameserver 2001:db8::53\n", "192.0.2.53:53 [2001:db8::53]:53"},
		{"search example\noptions edns0\nnameserver fe80::1%eth0\n", "[fe80::1%eth0]:53"},
		{"nameserver 127.0.0.53\nnameserver 192.0.2.53\n", "192.0.2.53:53"},
		{"nameserver 127.0.0.1\n", "127.0.0.1:53"},
		{"# nothing\n", "! names no name server"},
		{"nameserver localhost\n", "! is no address"},
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		must(t, os.WriteFile(path, []byte(c.conf), 0o600))
		list, err := hosts.SystemServers(path)
		got := strings.Trim(fmt.Sprint(list), "[]")
		if len(list) == 1 {
			got = list[0].String()
		} else if len(list) > 1 {
			got = list[0].String() + " " + list[1].String()
		}
		if err != nil {
			got = "! " + err.Error()
		}
		if got != c.want && (c.want[0] != '!' || !strings.Contains(got, c.want[2:])) {
			t.Errorf("%q: %s, want %s", c.conf, got, c.want)
		}
	}
	if _, err := hosts.SystemServers(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "--server") {
		t.Errorf("no file: %v", err)
	}
}

func TestParseServer(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.53": "192.0.2.53:53", "2001:db8::53": "[2001:db8::53]:53", "[2001:db8::53]": "[2001:db8::53]:53",
		"192.0.2.53:5353": "192.0.2.53:5353", "[2001:db8::53]:5353": "[2001:db8::53]:5353", "fe80::1%eth0": "[fe80::1%eth0]:53",
		"dns.example": "!", "": "!", "192.0.2.53:0": "!", "192.0.2.53:x": "!",
	} {
		got, err := hosts.ParseServer(in)
		text := got.String()
		if err != nil {
			text = "!"
		}
		if text != want {
			t.Errorf("%q: %s, want %s", in, text, want)
		}
	}
}
