package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router/dynamic"
)

// poolbed is a lab whose VMs have no mapping and get one from the pool that the
// Internet's router sends here, which the topology calls Mapped4.
func poolbed(t *testing.T, wire bool, vms int, d dynamic.Config) *testbed {
	t.Helper()
	topology, err := labtest.New(t, "pool").Build(lab.TopologyConfig{VMs: vms})
	if err != nil {
		t.Fatal(err)
	}
	n := &testbed{Topology: topology}
	n.config = Config{
		Translate: translate.Config{Pool6: []netip.Prefix{lab.Pool6}, AllowPrivate4: true},
		Dynamic:   d,
		Log:       func(warn bool, m string) { t.Logf("warn=%v %s", warn, m) },
	}
	if wire {
		n.config.Ports = append(n.config.Ports, PortConfig{Interface: lab.WANPort})
		for _, vm := range topology.VMs {
			n.config.Ports = append(n.config.Ports, PortConfig{Interface: vm.Port})
		}
	}
	n.open(t)
	return n
}

func (n *testbed) open(t *testing.T) {
	t.Helper()
	if err := n.Hypervisor.Do(func() (err error) { n.router, err = Open(n.config); return err }); err != nil {
		t.Fatal(err)
	}
}

func TestUnmappedHostsGetAddresses(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			d := dynamic.Config{Pool4: lab.Mapped4, Idle: time.Hour, StateFile: filepath.Join(t.TempDir(), "map")}
			n := poolbed(t, path.wire, 3, d)
			stop := n.run(t)
			echo(t, n.Server, "4", ":7")
			for _, vm := range n.VMs {
				// The very first packet must get through.
				if err := transfer(vm.Host, to4(lab.ServerAddr4), 100_000); err != nil {
					t.Errorf("%s: %v", vm.Name(), err)
				}
				if err := datagram(vm.Host, to4(lab.ServerAddr4), 100); err != nil {
					t.Errorf("%s: %v", vm.Name(), err)
				}
			}
			before := n.router.Mappings()
			if len(before) != 3 {
				t.Fatalf("mappings: %v", before)
			}
			verdicts, _ := totals(n.router.Stats())
			if x := verdicts[0][translate.NoMapping6]; x != 0 {
				t.Errorf("%d packets were refused", x)
			}

			// The other way round it works by the address that they got, also
			// after the mapping has gone to sleep.
			echo(t, n.VMs[0].Host, "6", ":7")
			for range 2 {
				n.router.dynamic.Age()
				if err := n.router.retranslate(); err != nil {
					t.Fatal(err)
				}
				for _, m := range before {
					if m.IPv6 == n.VMs[0].Addr6 {
						if err := transfer(n.Server, netip.AddrPortFrom(m.IPv4, 7).String(), 1000); err != nil {
							t.Errorf("to %v: %v", m.IPv4, err)
						}
					}
				}
			}

			// A restart keeps who has what.
			stop()
			n.open(t)
			n.run(t)
			for _, vm := range n.VMs {
				if err := transfer(vm.Host, to4(lab.ServerAddr4), 1000); err != nil {
					t.Errorf("%s after a restart: %v", vm.Name(), err)
				}
			}
			for i, m := range n.router.Mappings() {
				if m.IPv4 != before[i].IPv4 || m.IPv6 != before[i].IPv6 {
					t.Errorf("%v has %v now, had %v", m.IPv6, m.IPv4, before[i])
				}
			}
		})
	}
}

func TestPoolExhausted(t *testing.T) {
	n := poolbed(t, false, 3, dynamic.Config{Pool4: netip.MustParsePrefix("192.0.2.8/31"), Idle: time.Hour})
	n.run(t)
	echo(t, n.Server, "4", ":7")
	for i, vm := range n.VMs {
		start := time.Now()
		err := transfer(vm.Host, to4(lab.ServerAddr4), 100)
		if (err == nil) != (i < 2) {
			t.Errorf("VM %d: %v", i, err)
		}
		if err != nil {
			t.Logf("refused after %v: %v", time.Since(start), err)
		}
	}
	verdicts, reasons := totals(n.router.Stats())
	if verdicts[0][translate.PoolExhausted6] == 0 || reasons[ErrorSent] == 0 {
		t.Errorf("%d packets counted, %d errors sent", verdicts[0][translate.PoolExhausted6], reasons[ErrorSent])
	}
	// One leaves, another one gets in.
	if err := n.router.RemoveMapping(n.VMs[0].Addr6); err != nil {
		t.Fatal(err)
	}
	if err := transfer(n.VMs[2].Host, to4(lab.ServerAddr4), 100); err != nil {
		t.Errorf("with a free address: %v", err)
	}
}

func TestSourcesOutsideVMPrefixes(t *testing.T) {
	n := poolbed(t, false, 2, dynamic.Config{Pool4: lab.Mapped4, Idle: time.Hour})
	n.run(t)
	echo(t, n.Server, "4", ":7")
	for _, vm := range n.VMs {
		if err := transfer(vm.Host, to4(lab.ServerAddr4), 100); err != nil {
			t.Fatal(err)
		}
	}
	c := n.config
	for i, vm := range n.VMs {
		// Only the other one may, though both have a mapping.
		other := n.VMs[1-i]
		c.Translate.VMPrefixes = []netip.Prefix{netip.PrefixFrom(other.Addr6, 128)}
		if err := n.router.Reload(c); err != nil {
			t.Fatal(err)
		}
		eventually(t, "drop what "+vm.Name()+" sends", n.dropped(vm.Host, vm.Addr6, uint64(i)))
		if err := transfer(other.Host, to4(lab.ServerAddr4), 100); err != nil {
			t.Errorf("%s, which may: %v", other.Name(), err)
		}
	}
	if _, reasons := totals(n.router.Stats()); reasons[ErrorSent] != 0 {
		t.Errorf("%d ICMP errors were sent", reasons[ErrorSent])
	}
	c.Translate.VMPrefixes = nil
	if err := n.router.Reload(c); err != nil {
		t.Fatal(err)
	}
	if err := transfer(n.VMs[1].Host, to4(lab.ServerAddr4), 100); err != nil {
		t.Errorf("when all may: %v", err)
	}
}

// send sends a datagram to the server, from an address of the host.
func send(h *lab.Host, from netip.Addr) error {
	return h.Do(func() error {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		c, err := d.Dial("udp", to4(lab.ServerAddr4))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	})
}

// dropped sends, and fails until more than before packets were dropped for their source.
func (n *testbed) dropped(h *lab.Host, from netip.Addr, before uint64) func() error {
	return func() error {
		if err := send(h, from); err != nil {
			return err
		}
		if verdicts, _ := totals(n.router.Stats()); verdicts[0][translate.ForeignSource6] <= before {
			return fmt.Errorf("%d are", verdicts[0][translate.ForeignSource6])
		}
		return nil
	}
}

// TestAutoVMs forges a source of the Internet, and then makes it one of a VM.
func TestAutoVMs(t *testing.T) {
	n := poolbed(t, false, 1, dynamic.Config{Pool4: lab.Mapped4, Idle: time.Hour})
	n.router.Close()
	n.config.AutoVMs = true
	n.open(t)
	n.run(t)
	echo(t, n.Server, "4", ":7")
	vm, forged := n.VMs[0], netip.MustParseAddr("2001:db8:f0::1")
	if err := transfer(vm.Host, to4(lab.ServerAddr4), 100); err != nil {
		t.Fatal(err)
	}
	if err := vm.Addr("eth0", forged.String()+"/128"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "drop a forged source", n.dropped(vm.Host, forged, 0))
	if got := n.router.Mappings(); len(got) != 1 {
		t.Errorf("it got an address: %v", got)
	}
	if err := n.Hypervisor.Route(forged.String()+"/128", "", vm.Port); err != nil {
		t.Fatal(err)
	}
	eventually(t, "follow its route", func() error {
		if err := send(vm.Host, forged); err != nil {
			return err
		}
		if got := n.router.Mappings(); len(got) != 2 {
			return fmt.Errorf("mappings: %v", got)
		}
		return nil
	})
}

func TestMappingsByHand(t *testing.T) {
	n := poolbed(t, false, 1, dynamic.Config{Pool4: lab.Mapped4, Idle: time.Hour})
	n.run(t)
	echo(t, n.VMs[0].Host, "6", ":7")
	four := netip.MustParseAddr("192.0.2.77")
	if err := n.router.AddMapping(n.VMs[0].Addr6, four); err != nil {
		t.Fatal(err)
	}
	if err := transfer(n.Server, netip.AddrPortFrom(four, 7).String(), 1000); err != nil {
		t.Error(err)
	}
}

// TestStatsWhileLearning asks for counters while workers learn: neither may wait
// for the other.
func TestStatsWhileLearning(t *testing.T) {
	n := poolbed(t, false, 1, dynamic.Config{Pool4: lab.Mapped4, Idle: time.Hour})
	n.run(t)
	vm := n.VMs[0]
	echo(t, n.Server, "4", ":7")
	if err := datagram(vm.Host, to4(lab.ServerAddr4), 1); err != nil { // neighbours are known then
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			n.router.Stats()
		}
	})
	for i := range 100 {
		if err := vm.Addr("eth0", fmt.Sprintf("2001:db8:64::1:%x/64", i)); err != nil {
			t.Fatal(err)
		}
		err := vm.Do(func() error {
			from := netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:64::1:%x]:0", i))
			d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(from)}
			c, err := d.Dial("udp", to4(lab.ServerAddr4))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("x"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	// A slow machine has not read all packets yet.
	for end := time.Now().Add(20 * time.Second); len(n.router.Mappings()) < 101 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if got := len(n.router.Mappings()); got != 101 {
		t.Errorf("%d mappings, want 101", got)
	}
}

// TestOneAddressForAll has the Internet know nothing of the pool: all VMs leave by
// the hypervisor's one address.
func TestOneAddressForAll(t *testing.T) {
	n := poolbed(t, false, 5, dynamic.Config{Pool4: netip.MustParsePrefix("100.64.0.0/16"), Idle: time.Hour})
	n.router.Close()
	n.config.Share.Auto = true
	n.open(t)
	stop := n.run(t)
	// The server says whom it sees.
	l, err := n.Server.Listen("tcp4", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seen := make(chan netip.AddrPort, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			seen <- c.RemoteAddr().(*net.TCPAddr).AddrPort()
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	for round := range 2 {
		for i, vm := range n.VMs {
			if err := transfer(vm.Host, to4(lab.ServerAddr4), 1<<20); err != nil {
				t.Fatalf("round %d, VM %d: %v", round, i, err)
			}
			peer := <-seen
			_, six, ok := n.router.Owner(peer.Addr(), peer.Port())
			if peer.Addr() != lab.HypervisorAddr4 || !ok || six != vm.Addr6 {
				t.Errorf("round %d, VM %d: the server saw %v, which is %v's", round, i, peer, six)
			}
		}
		if round == 0 {
			stop()
			n.open(t)
			stop = n.run(t)
		}
	}
}

func TestShareNeedsTheKernelPath(t *testing.T) {
	n := poolbed(t, true, 1, dynamic.Config{Pool4: lab.Mapped4, Idle: time.Hour})
	n.router.Close()
	n.config.Share.Auto = true
	err := n.Hypervisor.Do(func() error {
		r, err := Open(n.config)
		if err == nil {
			r.Close()
		}
		return err
	})
	if !errors.Is(err, ErrShareWithPorts) {
		t.Errorf("got %v", err)
	}
}
