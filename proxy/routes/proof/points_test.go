package proof

import (
	"fmt"
	"net/netip"
	"testing"

	"aarch64.com/isthmus/perf/lab/labtest"
)

func TestPoints(t *testing.T) {
	n := newInternet(t, "points", servers...)
	targets := []string{"dfw.proxy.dns.example", "fra.proxy.dns.example"}
	const advice = "add www.shop.example CNAME dfw.proxy.dns.example"
	for _, c := range []struct {
		name    string
		host    string
		records string
		more    func()
		want    string
	}{
		{name: "CNAME", records: "www CNAME dfw.proxy.dns.example.", want: "ok: CNAME ok [dfw.proxy.dns.example] dfw.proxy.dns.example"},
		{name: "CNAME to another place", records: "www CNAME Fra.Proxy.dns.example.", want: "ok: CNAME ok [fra.proxy.dns.example] fra.proxy.dns.example"},
		{name: "CNAME of a CNAME", records: "www CNAME web\nweb CNAME dfw.proxy.dns.example.", want: "ok: CNAME ok [web.shop.example dfw.proxy.dns.example] dfw.proxy.dns.example"},
		{name: "wildcard", host: "*.shop.example", records: "* CNAME dfw.proxy.dns.example.", want: "ok: CNAME ok [dfw.proxy.dns.example] dfw.proxy.dns.example"},
		{name: "addresses", records: "www A 192.0.2.80\nwww A 192.0.2.81", want: "ok: A record ok [] dfw.proxy.dns.example"},
		{name: "nothing", want: "missing: CNAME missing: " + advice + " []"},
		{name: "IPv6 only", records: "www AAAA 2001:db8:64::2", want: "missing: CNAME missing: " + advice + " []"},
		{name: "another address", records: "www A 198.51.100.7", want: "elsewhere: leads to 198.51.100.7, which is no proxy: " + advice + " []"},
		{name: "partly another address", records: "www A 192.0.2.80\nwww A 198.51.100.7", want: "elsewhere: leads to 198.51.100.7, which is no proxy: " + advice + " []"},
		{name: "CNAME elsewhere", records: "www CNAME ns1", want: "elsewhere: leads to 192.0.2.11, which is no proxy: " + advice + " [ns1.shop.example]"},
		{name: "CNAME to nothing", records: "www CNAME web", want: "elsewhere: CNAME leads to web.shop.example, which has no IPv4 address: " + advice + " [web.shop.example]"},
		{name: "silent", more: func() { n.fault(silent, "192.0.2.11", "192.0.2.12", "2001:db8:53::12") }, want: "unknown: the name servers of shop.example do not answer []"},
		{name: "servers differ", records: "www A 192.0.2.80", more: func() { n.shop("www A 198.51.100.7", "192.0.2.11") }, want: "elsewhere: leads to 198.51.100.7, which is no proxy: " + advice + " []"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n.usual(c.records)
			n.set("dns.example.", "@ NS ns\nns A 192.0.2.21\ndfw.proxy A 192.0.2.80\ndfw.proxy A 192.0.2.81\nfra.proxy A 192.0.2.82\n", "192.0.2.21")
			if c.more != nil {
				c.more()
			}
			if c.host == "" {
				c.host = "www.shop.example"
			}
			p := n.dns(resolverAddress).Points(t.Context(), c.host, targets)
			got := fmt.Sprintf("%s: %s %v", p.Where, p.Text, p.Chain)
			if p.Target != "" {
				got += " " + p.Target
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestPublic(t *testing.T) {
	for address, ok := range map[string]bool{
		"8.8.8.8": true, "2001:4860:4860::8888": true, "::ffff:8.8.8.8": true,
		"127.0.0.1": false, "10.1.2.3": false, "172.31.0.1": false, "192.168.0.1": false, "100.64.0.1": false, "169.254.169.254": false, "0.0.0.0": false,
		"224.0.0.1": false, "255.255.255.255": false, "192.0.2.1": false, "198.18.0.1": false, "::ffff:127.0.0.1": false,
		"::": false, "::1": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "64:ff9b::7f00:1": false, "64:ff9b::808:808": false, "2002:7f00:1::1": false, "2001::1": false,
		"2001:db8::1": false, "fec0::1": false, "3fff::1": false,
	} {
		if err := Public(netip.MustParseAddr(address)); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// This host's addresses are not asked, public ones neither. They are looked up in a
// namespace that has some.
func TestOwn(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "own"), "hypervisor")
	must(t, h.Addr("lo", "9.9.9.9/32"))
	must(t, h.Addr("lo", "2620:fe::fe/128"))
	defer func() { own.addresses = nil }()
	must(t, h.Do(func() error {
		own.addresses = nil
		for address, want := range map[string]error{"9.9.9.9": errOwn, "2620:fe::fe": errOwn, "::ffff:9.9.9.9": errOwn, "9.9.9.10": nil} {
			if err := Public(netip.MustParseAddr(address)); err != want {
				t.Errorf("%s: %v", address, err)
			}
		}
		return nil
	}))
}
