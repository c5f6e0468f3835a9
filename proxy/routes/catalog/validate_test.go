package catalog

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestInvalidProxy(t *testing.T) {
	c, _ := world(t)
	own := vm("2001:db8:64:1::1")
	c.SetReach(func(a netip.Addr) error {
		if a == own {
			return errors.New("no address of a VM")
		}
		return nil
	}, c.reach.Load().vms)
	long := strings.Repeat("a.", 32) + "example"
	for _, x := range []struct {
		name string
		edit func(p *Proxy)
		want string
	}{
		{"no host", func(p *Proxy) { p.Host = "" }, "host: not a host name; "},
		{"upper case", func(p *Proxy) { p.Host = "WWW.shop.example" }, `host: write it as "www.shop.example"; `},
		{"dot at the end", func(p *Proxy) { p.Host = "www.shop.example." }, `host: write it as "www.shop.example"; `},
		{"not ASCII", func(p *Proxy) { p.Host = "bücher.example" }, "host: not a host name; "},
		{"slash", func(p *Proxy) { p.Host = "a/b.example" }, "host: not a host name; "},
		{"IPv4", func(p *Proxy) { p.Host = "192.0.2.1" }, "host: an IP address where a host name belongs; "},
		{"IPv6", func(p *Proxy) { p.Host = "2001:db8::1" }, "host: an IP address where a host name belongs; "},
		{"star", func(p *Proxy) { p.Host = "*" }, "host: not a host name; "},
		{"star in the middle", func(p *Proxy) { p.Host = "a.*.example.com" }, "host: not a host name; "},
		{"wildcard of a top-level domain", func(p *Proxy) { p.Host = "*.example" }, "host: a wildcard needs a domain of two labels or more; "},
		{"labels", func(p *Proxy) { p.Host = long }, "host: too many labels; 32 are possible"},
		{"too long to prove", func(p *Proxy) { p.Host = strings.Repeat(strings.Repeat("a", 58)+".", 4) + "ex" }, "host: too long to be proven: "},
		{"public suffix", func(p *Proxy) { p.Host = "*.co.uk" }, "host: co.uk is a public suffix, whose names belong to many; "},

		{"no backends", func(p *Proxy) { p.Backends = nil }, "backends: missing; "},
		{"nine backends", func(p *Proxy) { p.Backends = make([]netip.Addr, 9) }, "backends: too many; give at most 8"},
		{"no address", func(p *Proxy) { p.Backends[0] = netip.Addr{} }, "backends[0]: invalid IP is no IPv6 address of a VM; "},
		{"backend with IPv4", func(p *Proxy) { p.Backends[0] = vm("192.0.2.1") }, "backends[0]: 192.0.2.1 is no IPv6 address of a VM; "},
		{"mapped", func(p *Proxy) { p.Backends[0] = vm("::ffff:192.0.2.1") }, "backends[0]: ::ffff:192.0.2.1 is no IPv6 address of a VM; "},
		{"zone", func(p *Proxy) { p.Backends[0] = vm("fe80::1%eth0") }, "backends[0]: fe80::1%eth0 is no IPv6 address of a VM; "},
		{"twice", func(p *Proxy) { p.Backends = append(p.Backends, p.Backends[0]) }, "backends[1]: 2001:db8:64:1::2 comes twice; remove one"},
		{"loopback", func(p *Proxy) { p.Backends[0] = vm("::1") }, "backends[0]: ::1 is outside the prefixes of project shop; "},
		{"NAT64", func(p *Proxy) { p.Backends = append(p.Backends, vm("64:ff9b::1")) }, "backends[1]: 64:ff9b::1 is outside the prefixes of project shop; "},
		{"another project's", func(p *Proxy) { p.Backends[0] = vm("2001:db8:64:2::2") }, "backends[0]: 2001:db8:64:2::2 is outside the prefixes of project shop; "},
		{"out of reach", func(p *Proxy) { p.Backends[0] = own }, "backends[0]: 2001:db8:64:1::1: no address of a VM; "},

		{"no ports", func(p *Proxy) { p.HTTP, p.HTTPS = 0, 0 }, "http: neither HTTP nor HTTPS is served; "},
		{"PROXY protocol", func(p *Proxy) { p.Header = "v3" }, `proxy_protocol: "v3" is not a choice; `},
		{"project", func(p *Proxy) { p.Project = "no/name" }, `project: "no/name" can be no project's name; `},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := line("shop", "www.shop.example")
			x.edit(&p)
			_, _, err := c.PutProxy(ctx, admin, p, Match{})
			if list := Problems(err); len(list) == 0 || !strings.HasPrefix(list[0].Error(), x.want) || list[0].Remedy == "" && !strings.HasSuffix(x.want, "; ") {
				t.Errorf("got %v", err)
			}
		})
	}
	all := Proxy{Host: "*", Project: "", Header: "x"}
	if _, _, err := c.PutProxy(ctx, admin, all, Match{}); len(Problems(err)) != 5 {
		t.Errorf("not all at once: %v", err)
	}
	if _, _, err := c.PutProxy(ctx, admin, line("nobody", "www.shop.example"), Match{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such project: %v", err)
	}
	for _, host := range []string{"", "*", "a/b", "../../token/x", strings.Repeat("a", 5000), "nothing.example"} {
		if _, err := c.Proxy(ctx, host); !errors.Is(err, ErrNotFound) {
			t.Errorf("read %.20q: %v", host, err)
		}
		if _, err := c.DeleteProxy(ctx, admin, "", host, Match{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("delete %.20q: %v", host, err)
		}
	}
}

func TestInvalidProject(t *testing.T) {
	c, _ := world(t)
	for _, x := range []struct {
		name string
		p    Project
		want string
	}{
		{"no name", Project{}, `name: "" can be no project's name; `},
		{"capitals", Project{Name: "Shop"}, `name: "Shop" can be no project's name; `},
		{"path", Project{Name: "a/b"}, `name: "a/b" can be no project's name; `},
		{"hyphen", Project{Name: "-a"}, `name: "-a" can be no project's name; `},
		{"long", Project{Name: strings.Repeat("a", 64)}, `name: "aaaa`},
		{"title", Project{Name: "x", Title: "\x1b[2J"}, "title: has characters that can't be shown; "},
		{"long title", Project{Name: "x", Title: strings.Repeat("a", 101)}, "title: too long; "},
		{"limit", Project{Name: "x", Proxies: -1}, "max_proxies: -1 is no limit; "},
		{"many prefixes", Project{Name: "x", Prefixes: make([]netip.Prefix, 65)}, "prefixes: too many; "},
		{"no prefix", Project{Name: "x", Prefixes: make([]netip.Prefix, 1)}, "prefixes[0]: invalid Prefix is no IPv6 prefix; "},
		{"IPv4", Project{Name: "x", Prefixes: []netip.Prefix{prefix("192.0.2.0/24")}}, "prefixes[0]: 192.0.2.0/24 is no IPv6 prefix; "},
		{"bits", Project{Name: "x", Prefixes: []netip.Prefix{prefix("2001:db8:64:3::1/64")}}, "prefixes[0]: 2001:db8:64:3::1/64 has bits set behind its length; write 2001:db8:64:3::/64"},
		{"no VMs there", Project{Name: "x", Prefixes: []netip.Prefix{prefix("2001:db8:65::/64")}}, "prefixes[0]: 2001:db8:65::/64 is outside of where VMs are; "},
		{"around all VMs", Project{Name: "x", Prefixes: []netip.Prefix{prefix("2001:db8::/32")}}, "prefixes[0]: 2001:db8::/32 is outside of where VMs are; "},
		{"twice", Project{Name: "x", Prefixes: []netip.Prefix{prefix("2001:db8:64:3::/64"), prefix("2001:db8:64:3:1::/80")}}, "prefixes[1]: 2001:db8:64:3::/64 and 2001:db8:64:3:1::/80 have addresses in common; "},
		{"another's", Project{Name: "x", Prefixes: []netip.Prefix{prefix("2001:db8:64:1:1::/80")}}, "prefixes[0]: 2001:db8:64:1:1::/80 has addresses of project shop; "},
		{"around another's", Project{Name: "x", Prefixes: []netip.Prefix{prefix("2001:db8:64::/60")}}, "prefixes[0]: 2001:db8:64::/60 has addresses of project "},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := c.PutProject(ctx, admin, x.p, Match{})
			if list := Problems(err); len(list) == 0 || !strings.HasPrefix(list[0].Error(), x.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := c.PutProject(ctx, admin, Project{Name: strings.Repeat("a", 63), Prefixes: []netip.Prefix{prefix("2001:db8:64:3::/64")}}, Match{}); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "a/b", "../x", strings.Repeat("a", 5000)} {
		if _, err := c.Project(ctx, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("read %.20q: %v", name, err)
		}
		if _, err := c.DeleteProject(ctx, admin, name, Match{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("delete %.20q: %v", name, err)
		}
	}
	// Without prefixes of VMs nobody has any: a missing setting opens nothing.
	if _, err := New(c.store, Options{}).PutProject(ctx, admin, Project{Name: "x", Prefixes: []netip.Prefix{prefix("2001:db8:64:4::/64")}}, Match{}); Problems(err) == nil {
		t.Errorf("without VMs: %v", err)
	}
}

func TestHost(t *testing.T) {
	for written, want := range map[string]string{
		"www.shop.example": "www.shop.example", " WWW.Shop.Example. ": "www.shop.example", "*.Shop.example": "*.shop.example",
		"b\u00fccher.example": "xn--bcher-kva.example", "*.B\u00dcCHER.example": "*.xn--bcher-kva.example", "a_b.example": "a_b.example",
		"": "", "*": "", "*.": "", "a b.example": "", "192.0.2.1": "", "a/b.example": "", "https://www.shop.example": "", "a..example": "", "*.*.example.com": "",
	} {
		got, err := Host(written)
		if got != want || (err == nil) != (want != "") || err != nil && len(Problems(err)) != 1 {
			t.Errorf("%q: %q, %v; want %q", written, got, err, want)
		}
	}
}
