package router

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/translate"
)

func TestCollisions(t *testing.T) {
	const (
		own  = 1
		wan  = 2
		lan  = 3
		more = 52 // a routing table
	)
	type options = func(*netlink.Route)
	route := func(dst string, link int, gw string, change ...options) *netlink.Route {
		r := &netlink.Route{LinkIndex: link, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Gw: net.ParseIP(gw), Family: netlink.FAMILY_V4}
		if dst != "" {
			_, r.Dst, _ = net.ParseCIDR(dst)
		}
		for _, f := range change {
			f(r)
		}
		return r
	}
	table := func(n int) options { return func(r *netlink.Route) { r.Table = n } }
	blackhole := func(r *netlink.Route) { r.Type, r.LinkIndex = unix.RTN_BLACKHOLE, 0 }
	pool := func(s string) claims { return claims{netip.MustParsePrefix(s): claimPool4} }
	eam := func(s string) claims { return claims{netip.MustParsePrefix(s): claimEAM} }
	pool6 := claims{netip.MustParsePrefix("64:ff9b::/96"): claimPool6}
	for _, tt := range []struct {
		name    string
		claims  claims
		address string
		route   *netlink.Route
		err     string // a part of it
		warning string
	}{
		{name: "nothing near", claims: pool("100.64.0.0/16"), address: "192.0.2.1", route: route("192.0.2.0/24", wan, "")},
		{name: "default route", claims: pool("100.64.0.0/16"), route: route("", wan, "192.0.2.1")},
		{name: "address in the pool", claims: pool("100.64.0.0/16"), address: "100.64.3.7", err: "pool4 100.64.0.0/16: 100.64.3.7 is an address of this host, on if3"},
		{name: "the uplink is in the CGN range", claims: pool("100.64.0.0/16"), route: route("100.64.0.0/10", wan, ""), err: "it lies in 100.64.0.0/10, which is on a link of this host (dev if2)"},
		{name: "the gateway is in the pool", claims: pool("100.64.0.0/16"), route: route("", wan, "100.64.0.1"), err: "100.64.0.1 in it is the gateway of the default route"},
		{name: "a connected network in the pool", claims: pool("100.64.0.0/16"), route: route("100.64.8.0/24", lan, ""), err: "the route to 100.64.8.0/24 leads a part of it elsewhere (dev if3)"},
		{name: "a routed network in the pool", claims: pool("100.64.0.0/16"), route: route("100.64.8.0/24", lan, "192.0.2.9"), err: "leads a part of it elsewhere (via 192.0.2.9 dev if3)"},
		{name: "a blackhole in the pool", claims: pool("100.64.0.0/16"), route: route("100.64.8.0/24", 0, "", blackhole), err: "elsewhere (to nowhere)"},
		{name: "what an earlier run left there", claims: pool("100.64.0.0/16"), route: route("100.64.8.0/24", 0, "", blackhole, func(r *netlink.Route) { r.Protocol = RouteProtocol })},
		{name: "the pool is routed elsewhere", claims: pool("100.64.0.0/16"), route: route("100.64.0.0/16", lan, "192.0.2.9"), err: "another route to exactly this prefix"},
		{name: "a blackhole for when isthmus is away", claims: pool("100.64.0.0/16"), route: route("100.64.0.0/16", 0, "", blackhole)},
		{name: "a larger blackhole", claims: pool("100.64.0.0/16"), route: route("100.64.0.0/10", 0, "", blackhole)},
		{name: "the pool in a routed network", claims: pool("10.9.0.0/16"), route: route("10.0.0.0/8", lan, "192.0.2.9"), warning: "it lies in 10.0.0.0/8, which is routed elsewhere"},
		{name: "our own route", claims: pool("100.64.0.0/16"), route: route("100.64.0.0/16", own, "")},
		{name: "another table, inside", claims: pool("100.64.0.0/16"), route: route("100.64.8.1/32", lan, "", table(more)), warning: "the route to 100.64.8.1/32 in table 52 leads"},
		{name: "another table, around", claims: pool("100.64.0.0/16"), route: route("100.64.0.0/10", lan, "", table(more)), warning: "on a link of this host"},
		{name: "local table", claims: pool("100.64.0.0/16"), route: route("100.64.8.1/32", lan, "", table(unix.RT_TABLE_LOCAL))},

		{name: "a mapping in a connected network", claims: eam("192.0.2.5/32"), route: route("192.0.2.0/24", wan, "")},
		{name: "a mapping of an own address", claims: eam("192.0.2.5/32"), address: "192.0.2.5", err: "eam 192.0.2.5/32: 192.0.2.5 is an address of this host"},
		{name: "a mapped prefix with an own address", claims: eam("192.0.2.0/24"), address: "192.0.2.5", warning: "eam 192.0.2.0/24: 192.0.2.5 is"},
		{name: "an exception in a mapped prefix", claims: eam("192.0.2.0/24"), route: route("192.0.2.8/29", lan, ""), warning: "leads a part of it elsewhere"},
		{name: "a mapped prefix is routed", claims: eam("192.0.2.0/24"), route: route("192.0.2.0/24", lan, ""), err: "another route to exactly"},
		{name: "the gateway is mapped", claims: eam("192.0.2.0/24"), route: route("", wan, "192.0.2.1"), warning: "192.0.2.1 in it is the gateway"},
		{name: "a mapped prefix in another table", claims: eam("192.0.2.0/24"), route: route("192.0.2.8/29", lan, "", table(more))},

		{name: "an address in pool6", claims: pool6, address: "64:ff9b::1", warning: "pool6 64:ff9b::/96: 64:ff9b::1 is an address of this host"},
		{name: "another translator for a part of pool6", claims: pool6, route: route("64:ff9b::c000:200/120", lan, "2001:db8::9"), warning: "leads a part of it elsewhere (via 2001:db8::9 dev if3)"},
		{name: "another translator", claims: pool6, route: route("64:ff9b::/96", lan, "2001:db8::9"), err: "pool6 64:ff9b::/96: another route to exactly this prefix"},
		{name: "pool6 in a larger network", claims: pool6, route: route("64::/16", lan, "2001:db8::9")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &collisions{claims: tt.claims, own: own, name: func(i int) string { return fmt.Sprintf("if%d", i) }}
			if tt.address != "" {
				a := netip.MustParseAddr(tt.address)
				c.address(netip.PrefixFrom(a, a.BitLen()), lan)
			}
			if tt.route != nil {
				if tt.route.Dst != nil && tt.route.Dst.IP.To4() == nil {
					tt.route.Family = netlink.FAMILY_V6
				}
				c.route(tt.route)
			}
			for _, x := range []struct {
				what, want string
				got        []string
			}{{"error", tt.err, c.errs.sentences(tt.claims)}, {"warning", tt.warning, c.warnings.sentences(tt.claims)}} {
				if got := strings.Join(x.got, "\n"); (x.want == "") != (got == "") || !strings.Contains(got, x.want) {
					t.Errorf("%s %q, want %q", x.what, got, x.want)
				}
			}
		})
	}
}

// TestPoolCollides: a host behind a provider's NAT, out of the box.
func TestPoolCollides(t *testing.T) {
	l := labtest.New(t, "collide")
	host, err := l.Host("host")
	if err != nil {
		t.Fatal(err)
	}
	router, err := l.Host("router")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Link(host, router, lab.LinkConfig{NameA: "wan0"}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []error{host.Addr("wan0", "100.64.9.9/10"), host.Route("default4", "100.64.0.1", "")} {
		if step != nil {
			t.Fatal(step)
		}
	}
	c := Config{Translate: translate.Config{Pool6: []netip.Prefix{lab.Pool6}}}
	c.Dynamic.Pool4, c.Dynamic.Idle = netip.MustParsePrefix("100.64.0.0/16"), 1<<40
	c.Share.Auto = true
	err = host.Do(func() error {
		r, err := Open(c)
		if err == nil {
			r.Close()
		}
		return err
	})
	if err == nil {
		t.Fatal("it starts")
	}
	t.Log(err)
	for _, want := range []string{"100.64.9.9 is an address of this host, on wan0", "100.64.0.1 in it is the gateway", "it lies in 100.64.0.0/10", "choose a [router.dynamic] pool4"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %q", err, want)
		}
	}
	nl, err := host.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	if _, err := nl.LinkByName(DefaultKernelInterface); err == nil {
		t.Error("the TUN device is still there")
	}

	// The next one over is free. A reload that collides changes nothing.
	c.Dynamic.Pool4 = netip.MustParsePrefix("198.18.0.0/16")
	var r *Router
	if err := host.Do(func() (err error) { r, err = Open(c); return err }); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	routes := func() (out []string) {
		list, err := nl.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: r.tun.Ifindex()}, netlink.RT_FILTER_OIF)
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			out = append(out, list[i].Dst.String())
		}
		return out
	}
	before, tr := routes(), r.shared.translator.Load()
	bad := c.Translate
	bad.EAM = []translate.EAM{
		{IPv6: netip.MustParsePrefix("2001:db8::1/128"), IPv4: netip.MustParsePrefix("192.0.2.1/32")},
		{IPv6: netip.MustParsePrefix("2001:db8::2/128"), IPv4: netip.MustParsePrefix("100.64.9.9/32")},
	}
	if err := r.Update(bad); err == nil || !strings.Contains(err.Error(), "eam 100.64.9.9/32") {
		t.Errorf("update: %v", err)
	}
	// The kernel itself refuses: after the first route was made.
	if err := host.Route("192.0.2.7/32", "", "wan0"); err != nil {
		t.Fatal(err)
	}
	bad.EAM[1].IPv4 = netip.MustParsePrefix("192.0.2.7/32")
	r.translateMu.Lock()
	err = r.update(bad, false)
	r.translateMu.Unlock()
	if err == nil {
		t.Error("a route that exists was made")
	}
	if after := routes(); fmt.Sprint(after) != fmt.Sprint(before) || r.shared.translator.Load() != tr {
		t.Errorf("routes were %v, are %v", before, after)
	}
	if err := r.Update(c.Translate); err != nil {
		t.Error(err)
	}
}
