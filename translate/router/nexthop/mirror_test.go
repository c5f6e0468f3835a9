package nexthop

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// openMirror mirrors a namespace with a veth to a peer: port p0, 2001:db8::1.
func openMirror(t *testing.T) (h, peer *lab.Host, m *Mirror) {
	t.Helper()
	l := labtest.New(t, "mirror")
	h, peer = labtest.Host(t, l, "host"), labtest.Host(t, l, "peer")
	for _, err := range []error{
		l.Link(h, peer, lab.LinkConfig{NameA: "p0", NameB: "p0"}),
		h.Addr("p0", "2001:db8::1/64"), peer.Addr("p0", "2001:db8::2/64"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Do(func() (err error) { m, err = Open(Config{Ports: []string{"p0"}}); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		m.Close()
	})
	return h, peer, m
}

func waitFor(t *testing.T, m *Mirror, dst string, want Kind) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		h, _ := lookup(m.Table(), dst)
		if h.Kind == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %v, want %v", dst, h.Kind, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestMirrorFollowsTheKernel(t *testing.T) {
	h, peer, m := openMirror(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, m, "2001:db8::1", Local)
	waitFor(t, m, "2001:db8::2", Miss)

	// The kernel resolves the peer when somebody talks to it.
	c, err := h.Dial(t.Context(), "udp6", "[2001:db8::2]:9")
	must(err)
	_, err = c.Write([]byte("x"))
	must(err)
	must(c.Close())
	waitFor(t, m, "2001:db8::2", Port)

	mac, err := peer.MAC("p0")
	must(err)
	hop, mtu := lookup(m.Table(), "2001:db8::2")
	buf := make([]byte, MaxEthernetHeader)
	if hop.PutHeader(buf, len(buf)); string(buf[4:10]) != string(mac) || mtu != 1500 {
		t.Errorf("frame to %x, want %s; MTU %d", buf[4:10], mac, mtu)
	}

	waitFor(t, m, "198.51.100.1", Kernel)
	must(h.Addr("p0", "203.0.113.1/24"))
	must(h.Neighbour("p0", "203.0.113.2", "02:00:00:00:00:07"))
	must(h.Route("198.51.100.0/24", "203.0.113.2", ""))
	waitFor(t, m, "198.51.100.1", Port)
	if a := m.Table().Local4(); len(a) == 0 || a[len(a)-1] != netip.MustParseAddr("203.0.113.1") {
		t.Errorf("own addresses %v", a)
	}
	must(h.DelRoute("198.51.100.0/24", "203.0.113.2", ""))
	waitFor(t, m, "198.51.100.1", Kernel)

	must(h.Down("p0"))
	waitFor(t, m, "2001:db8::2", Kernel)
}

func TestMirrorSurvivesLostEvents(t *testing.T) {
	h, _, m := openMirror(t)
	nl, err := h.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	// Far more events than a socket buffer holds.
	for i := range 3000 {
		ip := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
		if i <= 2 {
			continue
		}
		if err := h.Neighbour("p0", ip.String(), "02:00:00:00:00:07"); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, m, "2001:db8::bb7", Port)
}

func TestAgeingIsNoChange(t *testing.T) {
	h, _, m := openMirror(t)
	if err := h.Neighbour("p0", "2001:db8::7", "02:00:00:00:00:07"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, m, "2001:db8::7", Port)
	time.Sleep(2 * pollInterval)
	before := m.Builds()
	for range 20 {
		if err := h.Neighbour("p0", "2001:db8::7", "02:00:00:00:00:07"); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * pollInterval)
	if n := m.Builds() - before; n != 0 {
		t.Errorf("%d tables were built for events that change nothing", n)
	}
}
