package router

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// TestForwarding lets a host learn its default route from a router advertisement
// and makes it a router: it keeps the route.
func TestForwarding(t *testing.T) {
	l := labtest.New(t, "forward")
	var err error
	must := func(e error) {
		t.Helper()
		if e != nil {
			t.Fatal(e)
		}
	}
	host, err := l.Host("host")
	must(err)
	gateway, err := l.Host("gateway")
	must(err)
	vm, err := l.Host("vm")
	must(err)
	must(l.Link(host, gateway, lab.LinkConfig{NameA: "up.7"}))
	must(l.Link(host, vm, lab.LinkConfig{NameA: "vm0"}))
	for _, name := range []string{"up.7", "vm0"} {
		must(host.Sysctl("net/ipv6/conf/"+name+"/accept_ra", "1"))
	}
	must(host.Sysctl("net/ipv6/conf/all/forwarding", "0"))
	learn := func() {
		t.Helper()
		eventually(t, "learn a default route", func() error {
			if err := advertise(gateway); err != nil {
				return err
			}
			if !hasDefault6(host) {
				return fmt.Errorf("there is none")
			}
			return nil
		})
	}
	read := func(key string) (value string) {
		t.Helper()
		must(host.Do(func() error {
			b, err := os.ReadFile("/proc/sys/net/" + key)
			value = strings.TrimSpace(string(b))
			return err
		}))
		return value
	}
	warnings := func() (list []string) {
		must(host.Do(func() error { list = KernelWarnings(); return nil }))
		return list
	}

	learn()
	text := strings.Join(warnings(), "\n")
	for _, want := range []string{"net/ipv4/ip_forward is 0", "net/ipv6/conf/all/forwarding is 0", "first sysctl -w net/ipv6/conf/up.7/accept_ra=2, or"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	// What the warning is about.
	must(host.Sysctl("net/ipv6/conf/all/forwarding", "1"))
	if hasDefault6(host) {
		t.Fatal("the kernel keeps the route by itself; this test shows nothing")
	}
	must(host.Sysctl("net/ipv6/conf/all/forwarding", "0"))
	learn()

	var said []string
	r := &Router{config: Config{Kernel: KernelConfig{SetForwarding: true}, Log: func(_ bool, m string) { said = append(said, m) }}}
	must(host.Do(func() error { r.forwarding(); return nil }))
	if !hasDefault6(host) {
		t.Error("the default route is gone")
	}
	for key, want := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
		"ipv6/conf/up.7/accept_ra": "2", "ipv6/conf/vm0/accept_ra": "1",
	} {
		if got := read(key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if len(said) != 3 {
		t.Errorf("logged %q", said)
	}
	if w := warnings(); len(w) != 0 {
		t.Errorf("there are warnings still: %q", w)
	}
	said = nil
	must(host.Do(func() error { r.forwarding(); return nil }))
	if len(said) != 0 {
		t.Errorf("the second time it set %q", said)
	}
}

// advertise sends a router advertisement (RFC 4861 4.2).
func advertise(h *lab.Host) error {
	return h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		to := &unix.SockaddrInet6{ZoneId: uint32(link.Index), Addr: [16]byte{0: 0xff, 1: 2, 15: 1}}
		return unix.Sendto(fd, []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, 0, to)
	})
}

func hasDefault6(h *lab.Host) (yes bool) {
	nl, err := h.Netlink()
	if err != nil {
		return false
	}
	defer nl.Close()
	routes, err := nl.RouteList(nil, netlink.FAMILY_V6)
	for i := range routes {
		p, ok := destination(&routes[i])
		yes = yes || ok && p.Bits() == 0
	}
	return err == nil && yes
}
