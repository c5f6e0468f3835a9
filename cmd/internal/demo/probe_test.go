package demo

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// plain is a network that the kernels forward by themselves, in both protocols:
// what the probes say about it is known.
//
//	a (2001:db8:1::2) --- (::1) r1 (2001:db8:2::1) --1400-- (::2) r2 (2001:db8:3::1) --- (::2) b
//	   10.0.1.2                       10.0.2.1                          10.0.3.1          10.0.3.2
type plain struct {
	a, r1, r2, b *lab.Host
	to4, to6     netip.Addr // b
	as4, as6     netip.Addr // a
}

func newPlain(t *testing.T) *plain {
	t.Helper()
	l := labtest.New(t, "demo-test")
	p := &plain{
		a: labtest.Host(t, l, "a"), r1: labtest.Host(t, l, "r1"), r2: labtest.Host(t, l, "r2"), b: labtest.Host(t, l, "b"),
		to4: netip.MustParseAddr("10.0.3.2"), to6: netip.MustParseAddr("2001:db8:3::2"),
		as4: netip.MustParseAddr("10.0.1.2"), as6: netip.MustParseAddr("2001:db8:1::2"),
	}
	must(t, l.Link(p.a, p.r1, lab.LinkConfig{ChecksumOffload: true}))
	must(t, l.Link(p.r1, p.r2, lab.LinkConfig{ChecksumOffload: true, NameA: "eth1", MTU: 1400}))
	must(t, l.Link(p.r2, p.b, lab.LinkConfig{ChecksumOffload: true, NameA: "eth1"}))
	for _, x := range []struct {
		h         *lab.Host
		dev, cidr string
	}{
		{p.a, "eth0", "10.0.1.2/24"}, {p.a, "eth0", "2001:db8:1::2/64"},
		{p.r1, "eth0", "10.0.1.1/24"}, {p.r1, "eth0", "2001:db8:1::1/64"},
		{p.r1, "eth1", "10.0.2.1/24"}, {p.r1, "eth1", "2001:db8:2::1/64"},
		{p.r2, "eth0", "10.0.2.2/24"}, {p.r2, "eth0", "2001:db8:2::2/64"},
		{p.r2, "eth1", "10.0.3.1/24"}, {p.r2, "eth1", "2001:db8:3::1/64"},
		{p.b, "eth0", "10.0.3.2/24"}, {p.b, "eth0", "2001:db8:3::2/64"},
	} {
		must(t, x.h.Addr(x.dev, x.cidr))
	}
	for _, x := range []struct {
		h        *lab.Host
		dst, via string
	}{
		{p.a, "default4", "10.0.1.1"}, {p.a, "default6", "2001:db8:1::1"},
		{p.r1, "default4", "10.0.2.2"}, {p.r1, "default6", "2001:db8:2::2"},
		{p.r2, "default4", "10.0.2.1"}, {p.r2, "default6", "2001:db8:2::1"},
		{p.b, "default4", "10.0.3.1"}, {p.b, "default6", "2001:db8:3::1"},
	} {
		must(t, x.h.Route(x.dst, x.via, ""))
	}
	for _, h := range []*lab.Host{p.r1, p.r2} {
		must(t, h.Sysctl("net.ipv4.ip_forward", "1"))
		must(t, h.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	}
	sv, err := serve(p.b)
	must(t, err)
	t.Cleanup(sv.close)
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestProbesOverPlainForwarding(t *testing.T) {
	p := newPlain(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, c := range []struct {
		family string
		to, as netip.Addr
		hops   []netip.Addr
		header int // of IP and UDP
	}{
		{"IPv4", p.to4, p.as4, addrs("10.0.1.1", "10.0.2.2", "10.0.3.2"), 28},
		{"IPv6", p.to6, p.as6, addrs("2001:db8:1::1", "2001:db8:2::2", "2001:db8:3::2"), 48},
	} {
		t.Run(c.family, func(t *testing.T) {
			t.Run("traceroute", func(t *testing.T) {
				hops, err := traceroute(ctx, p.a, c.to)
				if err != nil || !slices.Equal(hops, c.hops) {
					t.Errorf("%v, %v", hops, err)
				}
			})
			t.Run("UDP", func(t *testing.T) {
				if _, err := udp(ctx, p.a, c.to, 1, 512, 1300); err != nil {
					t.Error(err)
				}
			})
			t.Run("HTTP", func(t *testing.T) {
				if _, err := get(ctx, p.a, c.to, c.as); err != nil {
					t.Error(err)
				}
				if _, err := get(ctx, p.a, c.to, netip.MustParseAddr("192.0.2.77")); err == nil {
					t.Error("a wrong address was not noticed")
				}
			})
			t.Run("upload", func(t *testing.T) {
				before, after, _, err := upload(ctx, p.a, host(c.to))
				if err != nil || before != 1500 || after != 1400 {
					t.Errorf("MTU %d, then %d, %v", before, after, err)
				}
			})
			t.Run("too_big", func(t *testing.T) {
				said, err := tooBig(ctx, p.a, c.to, 1500-c.header)
				// The path's MTU is known since the upload: the kernel refuses.
				if err == nil || !strings.Contains(err.Error(), "message too long") {
					t.Errorf("%+v, %v", said, err)
				}
				// The other direction has not been told yet.
				said, err = tooBig(ctx, p.b, c.as, 1500-c.header)
				if err != nil || said.MTU != 1400 {
					t.Errorf("%+v, %v", said, err)
				}
			})
			t.Run("ping", func(t *testing.T) {
				if _, err := ping(ctx, p.a, c.to); err != nil {
					t.Error(err)
				}
			})
			t.Run("download", func(t *testing.T) {
				if _, err := download(ctx, p.a, host(c.to)); err != nil {
					t.Error(err)
				}
			})
			t.Run("UDP_in_fragments", func(t *testing.T) {
				if _, err := udp(ctx, p.a, c.to, 4000); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestProbesNoticeAClosedPort(t *testing.T) {
	p := newPlain(t)
	if _, err := udp(context.Background(), p.b, p.as4, 10); err == nil || !strings.Contains(err.Error(), "ICMP type 3, code 3") {
		t.Error(err)
	}
	if _, err := udp(context.Background(), p.b, p.as6, 10); err == nil || !strings.Contains(err.Error(), "ICMP type 1, code 4") {
		t.Error(err)
	}
}

// Each check has to fail where nothing translates.
func TestChecksFailWithoutIsthmus(t *testing.T) {
	s := &stage{path: XDP, lab: labtest.New(t, "demo-test")}
	var err error
	s.topo, err = s.lab.Build(lab.TopologyConfig{VMs: sharing, NarrowMTU: narrowMTU})
	must(t, err)
	s.vm = s.topo.VMs[0]
	s.isthmus = newDaemon(s.topo.Hypervisor)
	for _, h := range []*lab.Host{s.vm.Host, s.topo.Server, s.topo.Far} {
		sv, err := serve(h)
		must(t, err)
		t.Cleanup(sv.close)
	}
	t.Run("checks", func(t *testing.T) {
		for _, c := range append(checks(), shareChecks()...) {
			t.Run(strings.ReplaceAll(c.From+" to "+c.To+" "+c.Name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if said, err := c.Run(ctx, s); err == nil {
					t.Errorf("holds: %s", said)
				}
			})
		}
	})
}
