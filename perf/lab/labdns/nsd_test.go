package labdns_test

import (
	"net/netip"
	"strings"
	"testing"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labdns"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// A resolver that begins at a root server of the lab finds what the name server of a
// zone has, and what it has after a change.
func TestAuthority(t *testing.T) {
	labtest.NeedProgram(t, labdns.AuthorityProgram, labdns.AuthorityProgram)
	labtest.NeedProgram(t, labdns.Program, labdns.Program)
	l := labtest.New(t, "authority")
	root, shop, asker := labtest.Host(t, l, "root"), labtest.Host(t, l, "shop"), labtest.Host(t, l, "asker")
	for _, x := range []struct {
		h                   *lab.Host
		port, address, mine string
	}{{root, "root", "192.0.2.1/30", "192.0.2.2/30"}, {shop, "shop", "192.0.2.5/30", "192.0.2.6/30"}} {
		must(t, l.Link(x.h, asker, lab.LinkConfig{NameB: x.port}))
		must(t, x.h.Addr("eth0", x.address))
		must(t, asker.Addr(x.port, x.mine))
	}
	start := func(h *lab.Host, zone, records string) *labdns.Authority {
		a, err := labdns.StartAuthority(h, map[string]string{zone: records})
		must(t, err)
		t.Cleanup(a.Stop)
		return a
	}
	start(root, ".", "@ NS a.root-servers.example.\na.root-servers.example. A 192.0.2.1\nshop.example. NS ns.shop.example.\nns.shop.example. A 192.0.2.5")
	a := start(shop, "shop.example", "@ NS ns\nns A 192.0.2.5\nwww A 192.0.2.77")
	resolver(t, asker, labdns.Config{Roots: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	for _, n := range []string{"192.0.2.77", "192.0.2.78"} {
		must(t, a.Set("shop.example.", "@ NS ns\nns A 192.0.2.5\nwww A "+n))
		if got := ask(t, asker, "ip4", "www.shop.example"); got != n {
			t.Errorf("%q, want %s\n%s", got, n, a.Log())
		}
	}
	if err := a.Set("other.example", ""); err == nil || !strings.Contains(err.Error(), "is not the name server of other.example.") {
		t.Errorf("a zone that it does not have: %v", err)
	}
	if got := ask(t, asker, "ip4", "nothing.shop.example"); got != "" {
		t.Errorf("a name that is not there: %q", got)
	}
}
