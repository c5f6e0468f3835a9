package jump

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// hypervisors is the host's own address in the tests of the policy.
var hypervisors = netip.MustParseAddr("2001:db8:64::1")

// testPolicy has prefixes of VMs around all that must never be reached, too.
func testPolicy() *policy {
	return &policy{
		vms: prefixes("2001:db8:64::/64", "::/16", "64:ff9b::/32", "2001::/32", "2002::/16", "fe80::/10", "fd00::/8", "ff00::/8"),
		own: func(a netip.Addr) bool { return a == hypervisors },
		optOut: prefixes(
			"2001:db8:64::dead/128", "2001:db8:64:0:1::/80"),
	}
}

func TestPolicy(t *testing.T) {
	const (
		name    = "give the VM's IPv6 address, not a name"
		v6only  = "VMs have IPv6 addresses only"
		zone    = "no zone is possible here"
		port    = "only port 22 of VMs is reached"
		v4      = "an IPv4 address is no VM's"
		special = "a special address is no VM's"
		link    = "a link-local address is no VM's"
		multi   = "a multicast address is no VM's"
		none    = "no address of a VM"
		optOut  = "this VM does not want to be reached through the jump server"
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
		{"fd00:ec2::254", 22, "fd00:ec2::254", Running}, // allowed by the prefixes, so it is

		{"", 22, name, RefusedTarget},
		{"localhost", 22, name, RefusedTarget},
		{"vm.example.com", 22, name, RefusedTarget},
		{"2001-db8-64--aa64.ipv6-literal.net", 22, "2001:db8:64::aa64", Running},
		{"2001-DB8-64--AA64.IPv6-Literal.net", 22, "2001:db8:64::aa64", Running},
		{"2001:db8:64::aa64.ipv6-literal.net", 22, "2001:db8:64::aa64", Running},
		{"--1.ipv6-literal.net", 22, special, RefusedTarget},
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

		{"::", 22, special, RefusedTarget},
		{"::1", 22, special, RefusedTarget},
		{"::127.0.0.1", 22, special, RefusedTarget},
		{"::ffff:0:127.0.0.1", 22, special, RefusedTarget},
		{"0:1::1", 22, special, RefusedTarget},
		{"64:ff9b::7f00:1", 22, v4, RefusedTarget},
		{"64:ff9b::169.254.169.254", 22, v4, RefusedTarget},
		{"64:ff9b:1::1", 22, v4, RefusedTarget},
		{"64:ff9b:1:ffff:ffff:ffff:7f00:1", 22, v4, RefusedTarget},
		{"2001::7f00:1", 22, v4, RefusedTarget},
		{"2002:7f00:1::1", 22, v4, RefusedTarget},
		{"fe80::1", 22, link, RefusedTarget},
		{"fe80::a9fe:a9fe", 22, link, RefusedTarget},
		{"febf:ffff::1", 22, link, RefusedTarget},
		{"ff02::1", 22, multi, RefusedTarget},

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

// Addresses of this host are refused with the words for those outside: the
// answer does not tell which they are.
func TestPolicyOwnAddresses(t *testing.T) {
	p := testPolicy()
	_, no := p.allow(hypervisors.String(), 22)
	_, outside := p.allow("2001:db8:65::1", 22)
	if no == nil || *no != *outside {
		t.Errorf("got %v, want %v", no, outside)
	}
}

// What the kernel delivers to this host itself, with a namespace's routes.
func TestOwnAddress(t *testing.T) {
	l := labtest.New(t, "own")
	h, vm := labtest.Host(t, l, "hypervisor"), labtest.Host(t, l, "vm")
	must(t, l.Link(h, vm, lab.LinkConfig{}))
	must(t, h.Addr("eth0", "2001:db8:64::1/64"))
	must(t, h.Sysctl("net/ipv6/conf/all/forwarding", "1"))
	must(t, h.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, r := range []struct {
			to   string
			kind int
		}{{"2001:db8:64:0:1::/80", unix.RTN_LOCAL}, {"2001:db8:64:0:2::/80", unix.RTN_BLACKHOLE}, {"2001:db8:64:0:3::/80", unix.RTN_UNREACHABLE}, {"2001:db8:64:0:4::/80", unix.RTN_PROHIBIT}} {
			to, err := netlink.ParseIPNet(r.to)
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: to, Type: r.kind}); err != nil {
				return fmt.Errorf("route to %s: %w", r.to, err)
			}
		}
		return nil
	}))
	for a, want := range map[string]bool{
		"2001:db8:64::1":     true,
		"2001:db8:64::":      true, // the routers' anycast address (RFC 4291 section 2.6.1)
		"2001:db8:64:0:1::7": true,
		"::1":                true,
		"2001:db8:64::2":     false,
		"2001:db8:64:0:2::7": false,
		"2001:db8:64:0:3::7": false,
		"2001:db8:64:0:4::7": false,
		"2001:db8:65::1":     false,
	} {
		// The kernel adds the routes to its own addresses a moment later.
		got := !want
		for deadline := time.Now().Add(patience); got != want && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			got = ownAddress(h.Do, netip.MustParseAddr(a))
		}
		if got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
	if !ownAddress(func(func() error) error { return net.ErrClosed }, netip.MustParseAddr("2001:db8:64::2")) {
		t.Error("an address is taken for a VM's although the kernel does not say")
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
		if !a.Is6() || a.Is4In6() || a.Zone() != "" || !contains(p.vms, a) || contains(p.optOut, a) || p.own(a) {
			t.Errorf("%q is allowed as %v", host, a)
		}
		b := a.As16()
		if a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || b[0] == 0 || b[0] == 0x20 && b[1] == 2 {
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
