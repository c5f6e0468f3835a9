package control

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestListenCheck(t *testing.T) {
	for _, c := range []struct {
		l    Listen
		want string
	}{
		{Listen{Address: "127.0.0.1:8443"}, ""},
		{Listen{Address: "[::1]:8443"}, ""},
		{Listen{Address: "[::ffff:127.0.0.1]:8443"}, ""},
		{Listen{Address: "0.0.0.0:8443", CertFile: "c", KeyFile: "k"}, ""},
		{Listen{Address: "0.0.0.0:8443"}, "tokens would cross the network in clear text; give cert_file and key_file, or listen on a loopback address"},
		{Listen{Address: "[::]:8443"}, "clear text"},
		{Listen{Address: "[2001:db8::1]:8443"}, "clear text"},
		{Listen{Address: "[fe80::1%eth0]:8443"}, "clear text"},
		{Listen{Address: "[::ffff:192.0.2.1]:8443"}, "clear text"},
		{Listen{Address: "127.0.0.1:8443", CertFile: "c"}, "give both cert_file and key_file, or none"},
		{Listen{Address: "192.0.2.1:8443", KeyFile: "k"}, "give both cert_file and key_file, or none"},
		{Listen{Address: "localhost:8443"}, `no address and port; write one such as "[::1]:8443"`},
		{Listen{Address: ":8443"}, "no address and port"},
		{Listen{Address: "127.0.0.1"}, "no address and port"},
		{Listen{}, "no address and port"},
	} {
		_, err := c.l.check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c.l, err)
		}
	}
}

// A page somewhere whose name is made to resolve to 127.0.0.1 has that name in Host.
func TestAnswersTo(t *testing.T) {
	c := Config{Hosts: []string{"api.example"}}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8443": true, "LOCALHOST.": true, "127.0.0.1": true, "127.0.0.1:80": true, "127.1.2.3:80": true,
		"[::1]": true, "[::1]:80": true, "::1": true, "[::ffff:127.0.0.1]:80": true, "api.example": true, "API.example:443": true,
		"": false, "evil.example": false, "evil.example:8443": false, "localhost.evil.example": false, "192.0.2.1": false,
		"127.0.0.1.evil.example": false, "0.0.0.0": false, "[::]": false, "api.example.evil.example": false,
	} {
		if c.answersTo(host) != want {
			t.Errorf("%q: not %v", host, want)
		}
	}
}

// Another process, as a new one of ours is, can have the same address.
func TestListenTwice(t *testing.T) {
	first, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := listen(netip.MustParseAddrPort(first.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if _, err := listen(netip.MustParseAddrPort("192.0.2.1:1")); err == nil || !strings.Contains(err.Error(), "this host has no such address") {
		t.Errorf("got %v", err)
	}
	alone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	if _, err := listen(netip.MustParseAddrPort(alone.Addr().String())); err == nil || !strings.Contains(err.Error(), "another program has this port") {
		t.Errorf("got %v", err)
	}
}

func TestBounded(t *testing.T) {
	b := &bounded{open: map[netip.Prefix]int{}}
	here, there := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")
	for range maxPerClient {
		if !b.enter(here) {
			t.Fatal("turned away below the bound")
		}
	}
	if b.enter(here) || !b.enter(there) {
		t.Error("the bound is not one client's")
	}
	b.leave(here)
	if !b.enter(here) {
		t.Error("who leaves makes no room")
	}
	for i := b.all; i < maxConnections; i++ {
		b.enter(netip.MustParsePrefix("127.0.0.1/32")) // what forwards for others
	}
	if b.enter(netip.MustParsePrefix("192.0.2.3/32")) {
		t.Error("more than all")
	}
}
