package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

func TestTranslated(t *testing.T) {
	// RFC 6052 section 2.4, table 2
	if got := lab.Translated(netip.MustParseAddr("192.0.2.33")); got != netip.MustParseAddr("64:ff9b::192.0.2.33") {
		t.Error(got)
	}
}

// Without a translator each side reaches as far as its own protocol goes, and
// no further.
func TestTopology(t *testing.T) {
	l := labtest.New(t, "test-topo")
	topo, err := l.Build(lab.TopologyConfig{VMs: 2, Queues: 2, NarrowMTU: 1400})
	must(t, err)
	dial := func(from *lab.Host, to netip.Addr, patience time.Duration) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := from.Dial(ctx, "tcp", netip.AddrPortFrom(to, 80).String())
		if err == nil {
			c.Close()
		}
		return err
	}
	listen := func(h *lab.Host) {
		t.Helper()
		s, err := h.Listen("tcp", ":80")
		must(t, err)
		t.Cleanup(func() { s.Close() })
	}
	for _, h := range []*lab.Host{topo.VMs[0].Host, topo.VMs[1].Host, topo.Hypervisor, topo.Server, topo.Far} {
		listen(h)
	}
	vm0, vm1 := topo.VMs[0], topo.VMs[1]
	for _, c := range []struct {
		from *lab.Host
		to   netip.Addr
		ok   bool
	}{
		{vm0.Host, vm1.Addr6, true},
		{vm0.Host, vm0.Gateway6, true},
		{vm1.Host, vm1.Gateway6, true},
		{topo.Hypervisor, vm1.Addr6, true},
		{topo.Hypervisor, lab.FarAddr4, true},
		{topo.Far, lab.HypervisorAddr4, true},
		{topo.Far, lab.ServerAddr4, true},
		{topo.Server, lab.FarAddr4, true},
		{vm0.Host, lab.Translated(lab.ServerAddr4), false},
		{vm0.Host, lab.ServerAddr4, false},
		{topo.Server, vm0.Addr4, false},
		{topo.Server, vm0.Addr6, false},
	} {
		t.Run(fmt.Sprintf("%s_to_%s", c.from.Name(), c.to), func(t *testing.T) {
			patience := 500 * time.Millisecond
			if c.ok {
				patience = 10 * time.Second
			}
			if err := dial(c.from, c.to, patience); (err == nil) != c.ok {
				t.Errorf("reachable: want %v, got error %v", c.ok, err)
			}
		})
	}
	if got := vm1.Addr4.String() + " " + vm1.Addr6.String() + " " + vm1.Port; got != "192.0.2.3 2001:db8:64:1::2 vm1" {
		t.Error(got)
	}
}
