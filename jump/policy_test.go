package jump

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// reachIn is a rule for VMs in a prefix, but for some addresses there. The rule of
// the program is cmd/internal/reach.
func reachIn(prefix string, but ...string) func(netip.Addr) error {
	vms := netip.MustParsePrefix(prefix)
	return func(a netip.Addr) error {
		if !vms.Contains(a) || slices.Contains(but, a.String()) {
			return errors.New("no address of a VM")
		}
		return nil
	}
}

func testPolicy() *policy {
	return &policy{
		reach:  reachIn("2001:db8:64::/64"),
		optOut: prefixes("2001:db8:64::dead/128", "2001:db8:64:0:1::/80", "2001:db8:65::/64"),
	}
}

func TestPolicy(t *testing.T) {
	const (
		name   = "give the VM's IPv6 address, not a name"
		v6only = "VMs have IPv6 addresses only"
		zone   = "no zone is possible here"
		port   = "only port 22 of VMs is reached"
		none   = "no address of a VM"
		optOut = "this VM does not want to be reached through the jump server"
	)
	for _, c := range []struct {
		host string
		port uint32
		want string // the refusal's text, or the address that is dialled
		end  End
	}{
		{"2001:db8:64::aa64", 22, "2001:db8:64::aa64", Running},
		{"[2001:db8:64::aa64]", 22, "2001:db8:64::aa64", Running},
		{"2001:DB8:64:0000::AA64", 22, "2001:db8:64::aa64", Running},
		{"2001:db8:64::192.0.2.1", 22, "2001:db8:64::c000:201", Running},

		{"", 22, name, RefusedTarget},
		{"localhost", 22, name, RefusedTarget},
		{"vm.example.com", 22, name, RefusedTarget},
		{"2001-db8-64--aa64.ipv6-literal.net", 22, "2001:db8:64::aa64", Running},
		{"2001-DB8-64--AA64.IPv6-Literal.net", 22, "2001:db8:64::aa64", Running},
		{"2001:db8:64::aa64.ipv6-literal.net", 22, "2001:db8:64::aa64", Running},
		{"--1.ipv6-literal.net", 22, none, RefusedTarget},
		{".ipv6-literal.net", 22, name, RefusedTarget},
		{"ipv6-literal.net", 22, name, RefusedTarget},
		{"[2001-db8-64--aa64.ipv6-literal.net]", 22, name, RefusedTarget},
		{"2001-db8-64--aa64s1.ipv6-literal.net", 22, name, RefusedTarget},
		{"2001-db8-64--aa64.ipv6-literal.net.", 22, name, RefusedTarget},
		{"2001-db8-64--aa64", 22, name, RefusedTarget},
		{"2001:db8:64::aa64 ", 22, name, RefusedTarget},
		{"2001:db8:64::aa64\n", 22, name, RefusedTarget},
		{"2001:db8:64::aa64\x00", 22, name, RefusedTarget},
		{"2001:db8:64::aa64/128", 22, name, RefusedTarget},
		{"2001:db8:64::aa64:22:", 22, name, RefusedTarget},
		{"[2001:db8:64::aa64", 22, name, RefusedTarget},
		{"2001:db8:64::aa64]", 22, name, RefusedTarget},
		{"[[2001:db8:64::aa64]]", 22, name, RefusedTarget},
		{"[2001:db8:64::aa64]:22", 22, name, RefusedTarget},
		{"[]", 22, name, RefusedTarget},
		{"[", 22, name, RefusedTarget},
		{"*", 22, name, RefusedTarget},
		{"0x7f000001", 22, name, RefusedTarget},
		{"2130706433", 22, name, RefusedTarget},
		{"127.1", 22, name, RefusedTarget},
		{"0177.0.0.1", 22, name, RefusedTarget},

		{"127.0.0.1", 22, v6only, RefusedTarget},
		{"[127.0.0.1]", 22, v6only, RefusedTarget},
		{"169.254.169.254", 22, v6only, RefusedTarget},
		{"0.0.0.0", 22, v6only, RefusedTarget},
		{"::ffff:127.0.0.1", 22, v6only, RefusedTarget},
		{"::ffff:7f00:1", 22, v6only, RefusedTarget},
		{"0:0:0:0:0:ffff:a9fe:a9fe", 22, v6only, RefusedTarget},
		{"::ffff:127.0.0.1%eth0", 22, v6only, RefusedTarget},

		{"fe80::1%eth0", 22, zone, RefusedTarget},
		{"2001:db8:64::aa64%eth0", 22, zone, RefusedTarget},
		{"[2001:db8:64::aa64%1]", 22, zone, RefusedTarget},
		{"::1%lo", 22, zone, RefusedTarget},

		{"2001:db8:64::aa64", 0, port, RefusedPort},
		{"2001:db8:64::aa64", 25, port, RefusedPort},
		{"2001:db8:64::aa64", 80, port, RefusedPort},
		{"2001:db8:64::aa64", 2222, port, RefusedPort},
		{"2001:db8:64::aa64", 22 + 1<<16, port, RefusedPort},
		{"2001:db8:64::aa64", 1<<32 - 1, port, RefusedPort},
		// The port comes first: it tells nothing of the network.
		{"2001:db8:ffff::1", 25, port, RefusedPort},

		// Who is out of reach is not asked what they want.
		{"::1", 22, none, RefusedTarget},
		{"2001:db8:65::1", 22, none, RefusedTarget},
		{"2001:db8:63:ffff:ffff:ffff:ffff:ffff", 22, none, RefusedTarget},
		{"2001:db8:64:1::1", 22, none, RefusedTarget},

		{"2001:db8:64::dead", 22, optOut, RefusedOptOut},
		{"2001:db8:64:0:1:ffff::1", 22, optOut, RefusedOptOut},
		{"2001:db8:64::de", 22, "2001:db8:64::de", Running},
	} {
		t.Run(c.host+","+strconv.FormatUint(uint64(c.port), 10), func(t *testing.T) {
			a, no := testPolicy().allow(c.host, c.port)
			got, end := a.String(), Running
			if no != nil {
				got, end = no.text, no.end
			}
			if got != c.want || end != c.end {
				t.Errorf("got %q (%v), want %q (%v)", got, end, c.want, c.end)
			}
		})
	}
}

// payload is what a client sends for a channel (RFC 4254 section 7.2).
func payload(host string, port uint32, origin string) []byte {
	b := appendString(nil, []byte(host))
	b = binary.BigEndian.AppendUint32(b, port)
	b = appendString(b, []byte(origin))
	return binary.BigEndian.AppendUint32(b, 4711)
}

func TestParseTarget(t *testing.T) {
	host, port, err := parseTarget(payload("2001:db8::1", 22, "::1"))
	if host != "2001:db8::1" || port != 22 || err != nil {
		t.Errorf("got %q, %d, %v", host, port, err)
	}
	good := payload("2001:db8::1", 22, "::1")
	for n := range good {
		if _, _, err := parseTarget(good[:n]); err == nil {
			t.Errorf("no error for the first %d bytes", n)
		}
	}
	for name, bad := range map[string][]byte{
		"a byte too many":            append(payload("a", 22, "b"), 0),
		"4 GiB of host":              {0xff, 0xff, 0xff, 0xff, 'a'},
		"2 GiB of host":              {0x80, 0, 0, 0, 'a'},
		"a host longer by one":       {0, 0, 0, 2, 'a'},
		"4 GiB of origin":            {0, 0, 0, 1, 'a', 0, 0, 0, 22, 0xff, 0xff, 0xff, 0xff, 'b'},
		"more than is worth keeping": payload("2001:db8::1", 22, strings.Repeat("x", payloadMax)),
	} {
		if _, _, err := parseTarget(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	bad := []byte{0xff, 0xff, 0xff, 0xff, 'a'}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = parseTarget(bad) }); n != 0 {
		t.Errorf("%v allocations for a length that is a lie", n)
	}
}

func FuzzDirectTCPIP(f *testing.F) {
	f.Add(payload("2001:db8::1", 22, "::1"))
	f.Add(payload("", 0, ""))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		host, port, err := parseTarget(b)
		if err != nil {
			return
		}
		// What was understood is all that was there.
		origin := b[4+len(host)+4+4 : len(b)-4]
		again := payload(host, port, string(origin))
		copy(again[len(again)-4:], b[len(b)-4:])
		if string(again) != string(b) {
			t.Errorf("%q was read as %q, %d", b, host, port)
		}
	})
}

func FuzzPolicy(f *testing.F) {
	for _, host := range []string{"2001:db8:64::aa64", "[2001:db8:64::aa64]", "::ffff:1.2.3.4", "64:ff9b::1", "fe80::1%eth0", "localhost", "2001-db8-64--aa64.ipv6-literal.net"} {
		f.Add(host, uint32(22))
	}
	p := testPolicy()
	f.Fuzz(func(t *testing.T, host string, port uint32) {
		a, no := p.allow(host, port)
		if no != nil {
			if printable(no.text) != no.text || strings.Contains(no.text, "%") || no.end == Running {
				t.Errorf("refused as %v with %q", no.end, no.text)
			}
			return
		}
		if port != 22 {
			t.Errorf("port %d is allowed", port)
		}
		if !a.Is6() || a.Is4In6() || a.Zone() != "" || p.reach(a) != nil || contains(p.optOut, a) {
			t.Errorf("%q is allowed as %v", host, a)
		}
		// A literal, by another parser, too; and what is dialled is it.
		literal := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if n := len(host) - len(literalSuffix); n > 0 && strings.EqualFold(host[n:], literalSuffix) {
			literal = strings.ReplaceAll(host[:n], "-", ":")
		}
		if ip := net.ParseIP(literal); ip == nil || !ip.Equal(a.AsSlice()) {
			t.Errorf("%q is allowed as %v, and net reads it as %v", host, a, ip)
		}
		dialled, err := net.ResolveTCPAddr("tcp6", dialAddress(a))
		if err != nil || dialled.AddrPort() != netip.AddrPortFrom(a, 22) {
			t.Errorf("%q is allowed as %v, and dialled as %v (%v)", host, a, dialled, err)
		}
	})
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"SSH-2.0-OpenSSH_9.2p1":  "SSH-2.0-OpenSSH_9.2p1",
		"a\r\n{\"end\":\"ok\"}":  `a??{"end":"ok"}`,
		"\x1b[2J\x07\x00\x7f":    "?[2J???",
		"\u202egnp.exe\u0085":    "?gnp.exe?",
		"\xff\xfe":               "??",
		strings.Repeat("x", 128): strings.Repeat("x", 128),
		strings.Repeat("x", 129): strings.Repeat("x", 128) + "...",
		strings.Repeat("é", 100): strings.Repeat("?", 64) + "...",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
