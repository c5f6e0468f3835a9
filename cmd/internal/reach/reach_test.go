package reach

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// testRule has prefixes of VMs around all that must never be reached, too.
func testRule() *Rule {
	var vms []netip.Prefix
	for _, s := range []string{"2001:db8:64::/64", "::/16", "64:ff9b::/32", "2001::/32", "2002::/16", "fe80::/10", "fd00::/8", "ff00::/8"} {
		vms = append(vms, netip.MustParsePrefix(s))
	}
	return New(vms)
}

func TestRule(t *testing.T) {
	const (
		ok      = ""
		v6only  = "VMs have IPv6 addresses only"
		zone    = "no zone is possible here"
		v4      = "an IPv4 address is no VM's"
		special = "a special address is no VM's"
		link    = "a link-local address is no VM's"
		multi   = "a multicast address is no VM's"
		none    = "no address of a VM"
	)
	for _, c := range []struct{ address, want string }{
		{"2001:db8:64::aa64", ok},
		{"2001:db8:64::192.0.2.1", ok},
		{"fd00:ec2::254", ok}, // allowed by the prefixes, so it is

		{"127.0.0.1", v6only},
		{"169.254.169.254", v6only},
		{"0.0.0.0", v6only},
		{"::ffff:127.0.0.1", v6only},
		{"::ffff:7f00:1", v6only},
		{"0:0:0:0:0:ffff:a9fe:a9fe", v6only},
		{"::ffff:127.0.0.1%eth0", v6only},

		{"fe80::1%eth0", zone},
		{"2001:db8:64::aa64%eth0", zone},
		{"::1%lo", zone},

		{"::", special},
		{"::1", special},
		{"::127.0.0.1", special},
		{"::ffff:0:127.0.0.1", special},
		{"0:1::1", special},
		{"64:ff9b::7f00:1", v4},
		{"64:ff9b::169.254.169.254", v4},
		{"64:ff9b:1::1", v4},
		{"64:ff9b:1:ffff:ffff:ffff:7f00:1", v4},
		{"2001::7f00:1", v4},
		{"2002:7f00:1::1", v4},
		{"fe80::1", link},
		{"fe80::a9fe:a9fe", link},
		{"febf:ffff::1", link},
		{"ff02::1", multi},

		{"2001:db8:65::1", none},
		{"2001:db8:63:ffff:ffff:ffff:ffff:ffff", none},
		{"2001:db8:64:1::1", none},
		{"fc00::1", none},
	} {
		t.Run(c.address, func(t *testing.T) {
			got := ok
			if err := testRule().Check(netip.MustParseAddr(c.address)); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if testRule().Check(netip.Addr{}) == nil {
		t.Error("no address is allowed")
	}
}

// Addresses of this host are refused with the words for those outside: the
// answer does not tell which they are.
func TestOwnAddresses(t *testing.T) {
	a := netip.MustParseAddr("2001:db8:64::1")
	r := testRule()
	r.own = func(x netip.Addr) bool { return x == a }
	own, outside := r.Check(a), r.Check(netip.MustParseAddr("2001:db8:65::1"))
	if own == nil || own.Error() != outside.Error() {
		t.Errorf("got %v, want %v", own, outside)
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
	var k kernel // with one socket for all, so that it has to see changes
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
		for deadline := time.Now().Add(10 * time.Second); got != want && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			must(t, h.Do(func() error { got = k.own(netip.MustParseAddr(a)); return nil }))
		}
		if got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func FuzzRule(f *testing.F) {
	for _, s := range []string{"2001:db8:64::aa64", "::1", "::ffff:1.2.3.4", "64:ff9b::1", "fe80::1", "2002::1", "ff02::1", "1.2.3.4"} {
		f.Add(netip.MustParseAddr(s).AsSlice())
	}
	r := testRule()
	own := netip.MustParseAddr("2001:db8:64::1")
	r.own = func(a netip.Addr) bool { return a == own }
	f.Fuzz(func(t *testing.T, b []byte) {
		a, _ := netip.AddrFromSlice(b)
		if r.Check(a) != nil {
			return
		}
		in := false
		for _, p := range r.vms {
			in = in || p.Contains(a)
		}
		x := a.As16()
		if !in || !a.Is6() || a.Is4In6() || a == own || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() ||
			x[0] == 0 || x[0] == 0x20 && x[1] == 2 {
			t.Errorf("%v is allowed", a)
		}
	})
}

// An answer that is known already is another one as soon as the kernel has changed.
func TestOwnAddressThatComesAndGoes(t *testing.T) {
	l := labtest.New(t, "change")
	h, vm := labtest.Host(t, l, "hypervisor"), labtest.Host(t, l, "vm")
	must(t, l.Link(h, vm, lab.LinkConfig{}))
	must(t, h.Addr("eth0", "2001:db8:64::1/64"))
	var k kernel
	a := netip.MustParseAddr("2001:db8:64::aa64")
	own := func() (is bool) {
		must(t, h.Do(func() error { is = k.own(a); return nil }))
		return is
	}
	for range 2 {
		if own() {
			t.Fatal("own before it was added")
		}
	}
	link, address := "eth0", "2001:db8:64::aa64/128"
	must(t, h.Addr(link, address))
	// The kernel adds the route to its own address a moment later.
	for deadline := time.Now().Add(10 * time.Second); !own(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not own after it was added")
		}
	}
	must(t, h.Do(func() error {
		x, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		parsed, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		return netlink.AddrDel(x, parsed)
	}))
	for deadline := time.Now().Add(10 * time.Second); own(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("own after it was removed")
		}
	}
}

// The proxy asks at each connection.
func TestOwnAddressAllocatesNothing(t *testing.T) {
	var k kernel
	a := netip.MustParseAddr("::1")
	if n := testing.AllocsPerRun(100, func() {
		if !k.own(a) {
			t.Error("::1 is somebody else's")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is wrong with the socket is over with the next one.
func TestOwnAddressAfterFailure(t *testing.T) {
	var k kernel
	a := netip.MustParseAddr("::1")
	k.own(a)
	unix.Close(k.requests)
	unix.Close(k.changes)
	if !k.own(a) {
		t.Error("::1 is somebody else's")
	}
	if kind, err := k.ask(a); err != nil || kind != unix.RTN_LOCAL {
		t.Errorf("route of type %d, %v", kind, err)
	}
}
