package router

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router/dynamic"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// TestFastPath has the kernel translate what is plain, with a static mapping, a
// dynamic one and a shared address: bulk arrives whole, and user space sees little.
func TestFastPath(t *testing.T) {
	labtest.NeedFastPath(t)
	for _, c := range []struct{ share, ingress bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		share := c.share
		t.Run(fmt.Sprintf("share=%v,ingress=%v", share, c.ingress), func(t *testing.T) {
			topology, err := labtest.New(t, "fast").Build(lab.TopologyConfig{VMs: 2, ChecksumOffload: true, GRO: true, NarrowMTU: 1400})
			if err != nil {
				t.Fatal(err)
			}
			n := &testbed{Topology: topology}
			n.config = Config{Translate: translation(topology), FastPath: true, Log: func(warn bool, m string) { t.Logf("warn=%v %s", warn, m) }}
			if share {
				n.config.Translate.EAM = nil
				n.config.Dynamic = dynamic.Config{Pool4: netip.MustParsePrefix("100.64.0.0/16"), Idle: time.Hour}
				n.config.Share.Auto = true
			}
			if c.ingress {
				n.config.FastPathInterfaces = []string{n.VMs[0].Port, n.VMs[1].Port, lab.WANPort}
			}
			n.open(t)
			n.run(t)
			echo(t, n.Server, "4", ":7")
			echo(t, n.Far, "4", ":7")
			for _, vm := range n.VMs {
				for _, server := range []netip.Addr{lab.ServerAddr4, lab.FarAddr4} {
					if err := transfer(vm.Host, to4(server), 8<<20); err != nil {
						t.Errorf("%s to %v: %v", vm.Name(), server, err)
					}
					for _, size := range []int{1, 1232, 1472, 4000} {
						if err := datagram(vm.Host, to4(server), size); err != nil {
							t.Errorf("%s to %v: %v", vm.Name(), server, err)
						}
					}
				}
			}
			if !share {
				echo(t, n.VMs[0].Host, "6", ":7")
				if err := transfer(n.Server, n.VMs[0].Addr4.String()+":7", 8<<20); err != nil {
					t.Error(err)
				}
			} else {
				// Mappings that have gone to sleep come back through user space.
				n.router.dynamic.Age()
				if err := n.router.retranslate(); err != nil {
					t.Fatal(err)
				}
				if err := transfer(n.VMs[0].Host, to4(lab.ServerAddr4), 8<<20); err != nil {
					t.Error(err)
				}
			}
			s := n.router.Stats()
			verdicts, _ := totals(s)
			user := verdicts[0][translate.Forward] + verdicts[1][translate.Forward]
			kernel := s.FastPath.Packets()[0] + s.FastPath.Packets()[1]
			t.Logf("translated: %d packets by the kernel, %d by user space; %+v", kernel, user, s.FastPath.Counters)
			if !s.FastPath.Attached || kernel < 10*user {
				t.Errorf("the kernel translated %d packets, user space %d", kernel, user)
			}
			if all := s.Verdicts(); all[0][translate.Forward]+all[1][translate.Forward] != user+kernel {
				t.Errorf("%v forwarded in all, want %d", all, user+kernel)
			}
			// What shares an address passes the kernel's NAT.
			at := s.FastPath.Counters[fastpath.AtInterface]
			direct := at.Packets[0] + at.Packets[1]
			if want := c.ingress && !share; (direct > 0) != want || want && direct < 10*s.FastPath.Traffic(fastpath.AtDevice).RxPackets {
				t.Errorf("%d packets were translated at interfaces", direct)
			}
			if share && c.ingress && at.Fell[fastpath.NAT] == 0 {
				t.Error("no packet was left to NAT44")
			}
		})
	}
}

// TestFastPathInterfacesComeAndGo: an interface is attached to when it appears.
func TestFastPathInterfacesComeAndGo(t *testing.T) {
	labtest.NeedFastPath(t)
	topology, err := labtest.New(t, "fast").Build(lab.TopologyConfig{VMs: 1})
	if err != nil {
		t.Fatal(err)
	}
	n := &testbed{Topology: topology}
	n.config = Config{
		Translate: translation(topology), FastPath: true, FastPathInterfaces: []string{"dummy0"},
		Log: func(warn bool, m string) { t.Logf("warn=%v %s", warn, m) },
	}
	n.open(t)
	n.run(t)
	nl, err := n.Hypervisor.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	// Not every kernel has dummy devices; veth it must have.
	dev := netlink.NewVeth(netlink.LinkAttrs{Name: "dummy0"})
	dev.PeerName = "dummy1"
	for range 2 {
		for _, there := range []bool{true, false} {
			change := nl.LinkAdd
			if !there {
				change = nl.LinkDel
			}
			if err := change(dev); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				if at := n.router.Stats().FastPath.Interfaces; len(at) == 1 && at[0].Attached == there {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("interface there: %v; stats say %+v", there, n.router.Stats().FastPath.Interfaces)
				}
			}
		}
	}
}

// TestFastPathRefusesInterface: frames without an Ethernet header are none.
func TestFastPathRefusesInterface(t *testing.T) {
	labtest.NeedFastPath(t)
	topology, err := labtest.New(t, "fast").Build(lab.TopologyConfig{VMs: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Translate: translation(topology), FastPath: true, FastPathInterfaces: []string{"lo"}}
	err = topology.Hypervisor.Do(func() error {
		r, err := Open(c)
		if err == nil {
			r.Close()
		}
		return err
	})
	if !errors.Is(err, fastpath.ErrNotEthernet) {
		t.Errorf("%v, want ErrNotEthernet", err)
	}
}
