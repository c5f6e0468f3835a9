package lab_test

import (
	"testing"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

func TestLink(t *testing.T) {
	for _, c := range []struct {
		name string
		lab.LinkConfig
	}{
		{"wire", lab.LinkConfig{Queues: 4, MTU: 1400}},
		{"wire_with_GRO", lab.LinkConfig{GRO: true}},
		{"offloads", lab.LinkConfig{ChecksumOffload: true, GRO: true, Queues: 2, NameA: "left", NameB: "right"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := labtest.New(t, "test-link")
			a, b := labtest.Host(t, l, "a"), labtest.Host(t, l, "b")
			if err := l.Link(a, b, c.LinkConfig); err != nil {
				t.Fatal(err)
			}
			for _, e := range []struct {
				h    *lab.Host
				name string
			}{{a, c.NameA}, {b, c.NameB}} {
				if e.name == "" {
					e.name = "eth0"
				}
				nl, err := e.h.Netlink()
				must(t, err)
				defer nl.Close()
				link, err := nl.LinkByName(e.name)
				must(t, err)
				at := link.Attrs()
				if want := max(c.Queues, 1); at.NumRxQueues != want || at.NumTxQueues != want {
					t.Errorf("%s: %d rx and %d tx queues, want %d", e.h.Name(), at.NumRxQueues, at.NumTxQueues, want)
				}
				want := c.MTU
				if want == 0 {
					want = 1500
				}
				if at.MTU != want {
					t.Errorf("%s: MTU %d, want %d", e.h.Name(), at.MTU, want)
				}
				for _, f := range []struct {
					what string
					cmd  uint32
					want bool
				}{
					{"transmit checksum", lab.EthtoolGetTxChecksum, c.ChecksumOffload},
					{"TSO", lab.EthtoolGetTSO, c.ChecksumOffload},
					{"GSO", lab.EthtoolGetGSO, c.ChecksumOffload},
					{"GRO", lab.EthtoolGetGRO, c.GRO},
				} {
					v, err := lab.Ethtool(e.h, e.name, f.cmd)
					if err != nil {
						t.Fatal(err)
					}
					if (v != 0) != f.want {
						t.Errorf("%s: %s is %d, want %v", e.h.Name(), f.what, v, f.want)
					}
				}
			}
		})
	}
}

func TestLinkErrorsSayWhere(t *testing.T) {
	l := labtest.New(t, "test-link")
	a, b := labtest.Host(t, l, "a"), labtest.Host(t, l, "b")
	if err := l.Link(a, b, lab.LinkConfig{NameA: "a-name-that-is-too-long"}); err == nil {
		t.Error("an interface name of 23 bytes was accepted")
	}
	err := a.Addr("nothere", "192.0.2.1/24")
	if err == nil || err.Error() != "a: give 192.0.2.1/24 to nothere: Link not found" {
		t.Errorf("error: %v", err)
	}
	if err := a.Route("300.0.0.0/8", "", "lo"); err == nil {
		t.Error("a route to 300.0.0.0/8 was accepted")
	}
}
