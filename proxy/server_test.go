package proxy

import (
	cryptotls "crypto/tls"
	"fmt"
	"net/netip"
	"testing"
)

func TestUpdate(t *testing.T) {
	a := newVM(t, "a", "a.example")
	w := newWorld(t, nil, route("a.example", a.port))
	open, err := w.dial(a, &cryptotls.Config{ServerName: "a.example"})
	if err != nil {
		t.Fatal(err)
	}
	c := *w.config()
	c.Limits.ConnectionsPerHost = 1
	if err := w.Update(c); err != nil {
		t.Fatal(err)
	}
	if _, err := w.dial(a, &cryptotls.Config{ServerName: "a.example"}); err == nil {
		t.Error("the new limit does not count")
	}
	w.expect(TooMany, "a.example")
	open.echo(t)
	c.Reach = nil
	if w.Update(c) == nil {
		t.Error("a configuration that lacks something is taken")
	}
	if w.config().Reach == nil {
		t.Error("after an error all is not as before")
	}
}

// Visitors may come by IPv6, too.
func TestListenIPv6(t *testing.T) {
	a := newVM(t, "a", "a.example")
	r := route("a.example", a.port)
	r.HTTP = website(t, says("a"))
	at := netip.AddrPortFrom(loopback6, freePort(t, "::1"))
	secure := netip.AddrPortFrom(loopback6, freePort(t, "::1"))
	w := newWorld(t, func(c *Config) { c.HTTP, c.HTTPS = []netip.AddrPort{at}, []netip.AddrPort{secure} }, r)
	w.at = secure
	c, err := w.dial(a, &cryptotls.Config{ServerName: "a.example"})
	if err != nil {
		t.Fatal(err)
	}
	c.echo(t)
	w.at = at
	if s, b := w.get(w.client(false), "http://a.example/"); s != 200 || b != "a GET a.example/ " {
		t.Errorf("%d %q", s, b)
	}
	if r := w.expect(Served, "a.example"); r.Client.Addr() != loopback6 {
		t.Errorf("client %v", r.Client)
	}
}

// Those that have much are found among many that have little.
func TestTop(t *testing.T) {
	var x top
	for i := range 20_000 {
		x.add(fmt.Sprintf("small%d.example", i), 1)
		if i%10 == 0 {
			x.add("big.example", 1)
		}
		if i%20 == 0 {
			x.add("medium.example", 1)
		}
	}
	got := x.list(2)
	for i, want := range []HostUse{{Host: "big.example", Count: 2000}, {Host: "medium.example", Count: 1000}} {
		if got[i].Host != want.Host || got[i].Count < want.Count || got[i].Count-got[i].Over > want.Count {
			t.Errorf("%d: %+v, want %+v", i, got[i], want)
		}
	}
	if n := len(x.list(topSize * 2)); n != topSize || len(x.at) != topSize {
		t.Errorf("%d hosts are kept, and %d in the map", n, len(x.at))
	}
}
