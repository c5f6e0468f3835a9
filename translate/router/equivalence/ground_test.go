package equivalence

import (
	"errors"
	"net"
	"testing"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/xsk/tun"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// ground is a host where routing has an answer for the program at an interface:
// from vm0 by isthmus0 to wan0, and the other way around.
//
//	all else of IPv6 ── vm0 ─┬─ wan0 ── the IPv4 Internet
//	                   isthmus0
type ground struct {
	*lab.Host
	outside    *lab.Host // the other end of both links, whose names are the same there
	ports      [2]port   // where packets come in: IPv6, IPv4
	mtu6, mtu4 int
	led        map[string]bool // destinations with a route to isthmus0
}

type port struct {
	name  string
	index int
	mac   net.HardwareAddr
}

// newGround makes a host with links to another one, and attaches pr's program to
// its TUN device.
func newGround(t testing.TB, l *lab.Lab, pr *pair) *ground {
	t.Helper()
	g := &ground{Host: labtest.Host(t, l, "host"), mtu6: pr.mtu6, mtu4: pr.mtu4, led: map[string]bool{}}
	g.outside = labtest.Host(t, l, "outside")
	g.ports[0].name, g.ports[1].name = "vm0", "wan0"
	err := errors.Join(
		g.Sysctl("net.ipv4.ip_forward", "1"), g.Sysctl("net.ipv6.conf.all.forwarding", "1"),
		l.Link(g.Host, g.outside, lab.LinkConfig{NameA: "vm0", NameB: "vm0", MTU: pr.mtu6, ChecksumOffload: true}),
		l.Link(g.Host, g.outside, lab.LinkConfig{NameA: "wan0", NameB: "wan0", MTU: pr.mtu4, ChecksumOffload: true}),
		g.Route("default4", "", "wan0"), g.Route("default6", "", "vm0"),
	)
	for i := range g.ports {
		p := &g.ports[i]
		var e error
		p.index, e = g.Ifindex(p.name)
		err = errors.Join(err, e)
		p.mac, e = g.MAC(p.name)
		err = errors.Join(err, e)
	}
	var dev *tun.Device
	err = errors.Join(err, g.Do(func() (err error) {
		dev, err = tun.Open(tun.Config{Name: "isthmus0", Queues: 1, Offload: true})
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	if err = errors.Join(g.lead(pr.config), g.Do(func() error { return pr.prog.Attach(dev.Ifindex()) })); err != nil {
		t.Fatal(err)
	}
	return g
}

// lead routes what a configuration translates to isthmus0, and nothing else.
func (g *ground) lead(c translate.Config) error {
	want := map[string]bool{}
	for _, p := range c.Pool6 {
		want[p.String()] = true
	}
	for _, e := range c.EAM {
		want[e.IPv4.String()] = true
	}
	for dst := range g.led {
		if !want[dst] {
			if err := g.DelRoute(dst, "", "isthmus0"); err != nil {
				return err
			}
			delete(g.led, dst)
		}
	}
	for dst := range want {
		if !g.led[dst] {
			if err := g.Route(dst, "", "isthmus0"); err != nil {
				return err
			}
			g.led[dst] = true
		}
	}
	return nil
}

// resize gives the links other MTUs.
func (g *ground) resize(mtu4, mtu6 int) (err error) {
	if mtu6 != g.mtu6 {
		err = g.MTU("vm0", mtu6)
	}
	if mtu4 != g.mtu4 {
		err = errors.Join(err, g.MTU("wan0", mtu4))
	}
	g.mtu4, g.mtu6 = mtu4, mtu6
	return err
}

// try runs a pair's program as at the interface that the packet would come in by.
// Call it on a thread in the ground's namespace.
func (g *ground) try(pr *pair) try {
	return func(p []byte) ([]byte, fastpath.Reason, error) {
		in := &g.ports[direction(p)]
		return pr.prog.TryAt(in.index, in.mac, p)
	}
}
