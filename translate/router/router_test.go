package router

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/translate"
)

// paths are the two ways through the router; every end-to-end test goes both.
var paths = []struct {
	name string
	wire bool
}{{"wire", true}, {"kernel", false}}

// testbed is a lab with a router in its hypervisor.
type testbed struct {
	*lab.Topology
	router *Router
	config Config
}

func translation(t *lab.Topology) translate.Config {
	c := translate.Config{Pool6: []netip.Prefix{lab.Pool6}, AllowPrivate4: true}
	for _, vm := range t.VMs {
		c.EAM = append(c.EAM, translate.EAM{
			IPv6: netip.PrefixFrom(vm.Addr6, 128), IPv4: netip.PrefixFrom(vm.Addr4, 32),
		})
	}
	return c
}

// build makes the lab and opens the router, which does not run yet.
func build(t *testing.T, wire bool, tc lab.TopologyConfig) *testbed {
	t.Helper()
	topology, err := labtest.New(t, "router").Build(tc)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Translate: translation(topology), Log: func(warn bool, m string) { t.Logf("warn=%v %s", warn, m) }}
	if wire {
		c.Ports = append(c.Ports, PortConfig{Interface: lab.WANPort})
		for _, vm := range topology.VMs {
			c.Ports = append(c.Ports, PortConfig{Interface: vm.Port})
		}
	}
	n := &testbed{Topology: topology, config: c}
	if err := topology.Hypervisor.Do(func() (err error) { n.router, err = Open(c); return err }); err != nil {
		t.Fatal(err)
	}
	return n
}

// run lets the router run until the test ends.
func (n *testbed) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.router.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the router ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the router did not end within 10 s")
		}
	}
	t.Cleanup(stop)
	return stop
}

// echo serves TCP and UDP on a host: what comes goes back.
func echo(t *testing.T, h *lab.Host, network, address string) {
	t.Helper()
	l, err := h.Listen("tcp"+network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	pc, err := h.ListenPacket("udp"+network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:n], from)
		}
	}()
}

// transfer sends size bytes over TCP and checks that they come back.
func transfer(h *lab.Host, address string, size int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := h.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	out := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	want := sha256.Sum256(out)
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(out)
		written <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	sum := sha256.New()
	if _, err := io.Copy(sum, c); err != nil {
		return err
	}
	if got := [32]byte(sum.Sum(nil)); got != want {
		return fmt.Errorf("%d bytes came back changed", size)
	}
	return <-written
}

// datagram sends one UDP datagram, repeatedly, until it comes back.
func datagram(h *lab.Host, address string, size int) error {
	c, err := h.Dial(context.Background(), "udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	out, in := bytes.Repeat([]byte{7}, size), make([]byte, 65536)
	for range 20 {
		if _, err := c.Write(out); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
		n, err := c.Read(in)
		if err == nil && bytes.Equal(in[:n], out) {
			return nil
		}
	}
	return fmt.Errorf("no answer to %d bytes by UDP", size)
}

func to4(a netip.Addr) string { return netip.AddrPortFrom(lab.Translated(a), 7).String() }

// totals adds up the workers' counters.
func totals(s Stats) (verdicts [2][translate.NumVerdicts]uint64, reasons [NumReasons]uint64) {
	var all WorkerStats
	for i := range s.Workers {
		all.add(&s.Workers[i])
	}
	return all.Verdicts, all.Reasons
}

func TestEndToEnd(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			n := build(t, path.wire, lab.TopologyConfig{})
			n.run(t)
			vm := n.VMs[0]
			echo(t, n.Server, "4", ":7")
			echo(t, vm.Host, "6", ":7")
			for _, size := range []int{1, 1232, 1452, 1472, 4000, 30000} {
				if err := datagram(vm.Host, to4(lab.ServerAddr4), size); err != nil {
					t.Errorf("VM to server: %v", err)
				}
				if err := datagram(n.Server, vm.Addr4.String()+":7", size); err != nil {
					t.Errorf("server to VM: %v", err)
				}
			}
			if err := transfer(vm.Host, to4(lab.ServerAddr4), 4<<20); err != nil {
				t.Errorf("VM to server: %v", err)
			}
			if err := transfer(n.Server, vm.Addr4.String()+":7", 4<<20); err != nil {
				t.Errorf("server to VM: %v", err)
			}
			s := n.router.Stats()
			verdicts, reasons := totals(s)
			for d := range verdicts {
				if verdicts[d][translate.Forward] == 0 {
					t.Errorf("direction %d: nothing was counted as forwarded", d)
				}
			}
			for r := range NumReasons {
				if reasons[r] != 0 {
					t.Logf("%d %s", reasons[r], r)
				}
				if r.Info().Drop && reasons[r] != 0 {
					t.Errorf("%d packets were lost: %s", reasons[r], r)
				}
			}
			if path.wire && s.Workers[0].Wire[0].RxPackets < 1000 {
				t.Errorf("port %s saw %d packets: the traffic went round it", s.Workers[0].Wire[0].Port, s.Workers[0].Wire[0].RxPackets)
			}
		})
	}
}

func TestFourQueues(t *testing.T) {
	n := build(t, true, lab.TopologyConfig{Queues: 4})
	n.run(t)
	vm := n.VMs[0]
	echo(t, n.Server, "4", ":7")
	// Which queue a flow takes is the kernel's choice: enough flows use all.
	eventually(t, "all queues of all ports carry packets both ways", func() error {
		for range 16 {
			if err := transfer(vm.Host, to4(lab.ServerAddr4), 1<<16); err != nil {
				return err
			}
		}
		s := n.router.Stats()
		if len(s.Workers) != 4 {
			return fmt.Errorf("%d workers for 4 queues", len(s.Workers))
		}
		for _, w := range s.Workers {
			for _, p := range w.Wire {
				if p.RxPackets == 0 || p.TxPackets == 0 {
					return fmt.Errorf("worker %d, port %s: received %d, sent %d packets", w.ID, p.Port, p.RxPackets, p.TxPackets)
				}
			}
		}
		return nil
	})
	for _, w := range n.router.Stats().Workers {
		for _, p := range w.Wire {
			t.Logf("worker %d CPU %d port %s: %+v", w.ID, w.CPU, p.Port, p.PortCounters)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			n := build(t, path.wire, lab.TopologyConfig{})
			stop := n.run(t)
			stop()
			nl, err := n.Hypervisor.Netlink()
			if err != nil {
				t.Fatal(err)
			}
			defer nl.Close()
			if _, err := nl.LinkByName(DefaultKernelInterface); err == nil {
				t.Errorf("%s is still there", DefaultKernelInterface)
			}
			l, err := nl.LinkByName(lab.WANPort)
			if err != nil {
				t.Fatal(err)
			}
			if x := l.Attrs().Xdp; x != nil && x.Attached {
				t.Errorf("an XDP program is still attached to %s", lab.WANPort)
			}
			routes, err := nl.RouteList(nil, netlink.FAMILY_ALL)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range routes {
				if r.Dst != nil && r.Dst.String() == lab.Pool6.String() && r.Protocol != RouteProtocol {
					t.Errorf("route left behind: %v", r)
				}
			}
			// And it starts again at once.
			again := Config{Translate: n.config.Translate, Ports: n.config.Ports, Log: n.config.Log}
			if err := n.Hypervisor.Do(func() error {
				r, err := Open(again)
				if err == nil {
					r.Close()
				}
				return err
			}); err != nil {
				t.Errorf("open again: %v", err)
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	n := build(t, false, lab.TopologyConfig{VMs: 2})
	n.run(t)
	echo(t, n.Server, "4", ":7")
	only := n.config.Translate
	only.EAM = only.EAM[:1]
	if err := n.router.Update(only); err != nil {
		t.Fatal(err)
	}
	if err := datagram(n.VMs[0].Host, to4(lab.ServerAddr4), 100); err != nil {
		t.Errorf("the VM that stayed: %v", err)
	}
	if err := transfer(n.VMs[1].Host, to4(lab.ServerAddr4), 100); err == nil {
		t.Error("the VM without a mapping got through")
	}
	bad := only
	bad.Pool6 = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/97")}
	if err := n.router.Update(bad); err == nil {
		t.Error("a pool6 of 97 bits was taken")
	}
	if err := datagram(n.VMs[0].Host, to4(lab.ServerAddr4), 100); err != nil {
		t.Errorf("after a bad update: %v", err)
	}
	if err := n.router.Update(n.config.Translate); err != nil {
		t.Fatal(err)
	}
	if err := datagram(n.VMs[1].Host, to4(lab.ServerAddr4), 100); err != nil {
		t.Errorf("the VM that came back: %v", err)
	}
}

func TestRouteOfSomebodyElse(t *testing.T) {
	topology, err := labtest.New(t, "router").Build(lab.TopologyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := topology.Hypervisor.Route(lab.Pool6.String(), "", lab.WANPort); err != nil {
		t.Fatal(err)
	}
	err = topology.Hypervisor.Do(func() error {
		r, err := Open(Config{Translate: translation(topology)})
		if err == nil {
			// The kernel keeps both where their devices differ; the
			// one that was there first must not have gone.
			r.Close()
		}
		return err
	})
	t.Log(err)
	nl, nerr := topology.Hypervisor.Netlink()
	if nerr != nil {
		t.Fatal(nerr)
	}
	defer nl.Close()
	l, nerr := nl.LinkByName(lab.WANPort)
	if nerr != nil {
		t.Fatal(nerr)
	}
	routes, nerr := nl.RouteList(l, netlink.FAMILY_V6)
	if nerr != nil {
		t.Fatal(nerr)
	}
	for _, r := range routes {
		if r.Dst != nil && r.Dst.String() == lab.Pool6.String() {
			if err == nil {
				t.Error("a second route to pool6 was accepted: which one answers is chance")
			}
			return
		}
	}
	t.Error("somebody else's route was removed")
}

func TestOpenErrors(t *testing.T) {
	topology, err := labtest.New(t, "router").Build(lab.TopologyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no such port", func(c *Config) { c.Ports = []PortConfig{{Interface: "nic9"}} }, "nic9"},
		{"no such queue", func(c *Config) { c.Ports = []PortConfig{{Interface: lab.WANPort, Queues: []int{5}}} }, "queue 5"},
		{"zero-copy on a veth", func(c *Config) {
			c.Ports = []PortConfig{{Interface: lab.WANPort, ZeroCopy: 1}}
		}, "zero"},
		{"TUN name taken", func(c *Config) { c.Kernel.Interface = lab.WANPort }, lab.WANPort},
		{"bad pool6", func(c *Config) { c.Translate.Pool6[0] = netip.MustParsePrefix("64:ff9b::/95") }, "64:ff9b::/95"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Config{Translate: translation(topology)}
			c.change(&config)
			err := topology.Hypervisor.Do(func() error {
				r, err := Open(config)
				if err == nil {
					r.Close()
				}
				return err
			})
			if err == nil || !bytes.Contains([]byte(err.Error()), []byte(c.want)) {
				t.Errorf("got %v, want a word of %q", err, c.want)
			}
			if _, err := topology.Hypervisor.Ifindex(DefaultKernelInterface); err == nil {
				t.Error("the TUN device was left behind")
			}
		})
	}
}

func TestPortGoesAndComesBack(t *testing.T) {
	l := labtest.New(t, "router")
	topology, err := l.Build(lab.TopologyConfig{VMs: 2})
	if err != nil {
		t.Fatal(err)
	}
	n := &testbed{Topology: topology}
	n.config = Config{Translate: translation(topology), Log: func(warn bool, m string) { t.Logf("warn=%v %s", warn, m) },
		Ports: []PortConfig{{Interface: lab.WANPort}, {Interface: "vm0"}, {Interface: "vm1"}}}
	if err := topology.Hypervisor.Do(func() (err error) { n.router, err = Open(n.config); return err }); err != nil {
		t.Fatal(err)
	}
	n.run(t)
	echo(t, n.Server, "4", ":7")
	if err := transfer(n.VMs[1].Host, to4(lab.ServerAddr4), 1000); err != nil {
		t.Fatal(err)
	}
	nl, err := n.Hypervisor.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	vm1, err := nl.LinkByName("vm1")
	if err != nil {
		t.Fatal(err)
	}
	if err := nl.LinkDel(vm1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other VM goes on", func() error { return transfer(n.VMs[0].Host, to4(lab.ServerAddr4), 1000) })

	vm := n.VMs[1]
	if err := errors.Join(
		l.Link(vm.Host, n.Hypervisor, lab.LinkConfig{NameA: "eth0", NameB: "vm1"}),
		vm.Addr("eth0", netip.PrefixFrom(vm.Addr6, 64).String()),
		n.Hypervisor.Addr("vm1", netip.PrefixFrom(vm.Gateway6, 64).String()),
		vm.Route("default6", vm.Gateway6.String(), ""),
	); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the VM that came back", func() error { return transfer(vm.Host, to4(lab.ServerAddr4), 1000) })
	eventually(t, "its port carries packets again", func() error {
		if err := transfer(vm.Host, to4(lab.ServerAddr4), 1000); err != nil {
			return err
		}
		s := n.router.Stats()
		if !s.Ports[2].Attached || s.Ports[2].Steering.Redirected == 0 {
			return fmt.Errorf("port %+v", s.Ports[2])
		}
		return nil
	})
	if s := n.router.Stats(); s.Rebuilds == 0 {
		t.Error("no rebuild was counted")
	}
}

func TestLinkFlap(t *testing.T) {
	n := build(t, true, lab.TopologyConfig{})
	n.run(t)
	echo(t, n.Server, "4", ":7")
	for range 3 {
		if err := transfer(n.VMs[0].Host, to4(lab.ServerAddr4), 1000); err != nil {
			t.Fatal(err)
		}
		if err := n.Router.Down("eth0"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(n.Router.Up("eth0"), n.Router.Route(lab.Mapped4.String(), lab.HypervisorAddr4.String(), "")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "traffic after a flap", func() error { return transfer(n.VMs[0].Host, to4(lab.ServerAddr4), 1000) })
	}
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestStepDoesNotAllocate sends a packet from the VM for each step of a worker
// that is not running by itself.
func TestStepDoesNotAllocate(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			n := build(t, path.wire, lab.TopologyConfig{})
			defer n.router.Close()
			// Somebody must listen, or errors come back; nobody must read,
			// for that would allocate.
			sink, err := n.Server.ListenPacket("udp4", ":7")
			if err != nil {
				t.Fatal(err)
			}
			defer sink.Close()
			c, err := n.VMs[0].Dial(t.Context(), "udp", to4(lab.ServerAddr4))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			payload := make([]byte, 100)
			forwarded := 0
			step := func() {
				for _, w := range n.router.plane.workers {
					forwarded += w.step()
				}
			}
			if a := testing.AllocsPerRun(200, func() {
				if _, err := c.Write(payload); err != nil {
					t.Fatal(err)
				}
				step()
			}); a != 0 {
				t.Errorf("%v allocations per step", a)
			}
			// A busy kernel may bring some after the step that was meant for them.
			eventually(t, "all packets to be forwarded", func() error {
				if step(); forwarded < 201 {
					return fmt.Errorf("%d of 201", forwarded)
				}
				return nil
			})
		})
	}
}

// TestMTUs sends datagrams of all sizes between links of different MTUs: what is
// too large for a link, or for a frame of an AF_XDP port, is split, answered or
// left to the kernel, and arrives.
func TestMTUs(t *testing.T) {
	mtus := []struct{ vm, wan int }{{1500, 1280}, {3814, 2153}, {9000, 1400}, {1280, 1500}, {1280, 9000}, {9000, 1500}, {9000, 9000}, {1500, 576}}
	if testing.Short() {
		mtus = mtus[:3]
	}
	for _, path := range paths {
		for _, mtu := range mtus {
			t.Run(fmt.Sprintf("%s/%d_%d", path.name, mtu.vm, mtu.wan), func(t *testing.T) {
				n := build(t, path.wire, lab.TopologyConfig{VMMTU: mtu.vm, WANMTU: mtu.wan})
				n.run(t)
				vm := n.VMs[0]
				echo(t, n.Server, "4", ":7")
				echo(t, vm.Host, "6", ":7")
				for _, size := range []int{1, 500, 1232, 1233, 1452, 1472, 3000, 8952, 8972, 20000} {
					if err := datagram(vm.Host, to4(lab.ServerAddr4), size); err != nil {
						t.Errorf("VM to server: %v", err)
					}
					if err := datagram(n.Server, vm.Addr4.String()+":7", size); err != nil {
						t.Errorf("server to VM: %v", err)
					}
				}
				for _, err := range []error{
					transfer(vm.Host, to4(lab.ServerAddr4), 1<<20),
					transfer(n.Server, vm.Addr4.String()+":7", 1<<20),
				} {
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// TestPartialChecksums lets the VM leave its checksums to hardware, as guests
// with virtio do, on a veth that has none.
func TestPartialChecksums(t *testing.T) {
	n := build(t, true, lab.TopologyConfig{ChecksumOffload: true})
	n.router.Close()
	for i := range n.config.Ports {
		n.config.Ports[i].CompleteChecksums = true
	}
	if err := n.Hypervisor.Do(func() (err error) { n.router, err = Open(n.config); return err }); err != nil {
		t.Fatal(err)
	}
	n.run(t)
	echo(t, n.Server, "4", ":7")
	if err := transfer(n.VMs[0].Host, to4(lab.ServerAddr4), 1<<20); err != nil {
		t.Error(err)
	}
	if err := datagram(n.VMs[0].Host, to4(lab.ServerAddr4), 1000); err != nil {
		t.Error(err)
	}
}

// TestMSSClamp opens connections by a link that is narrower than the VM's: what
// the VM sends in one segment is what the answer to its SYN allows.
func TestMSSClamp(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			n := build(t, path.wire, lab.TopologyConfig{VMs: 1})
			n.run(t)
			echo(t, n.Server, "4", ":7")
			if err := n.Hypervisor.MTU(lab.WANPort, 1300); err != nil {
				t.Fatal(err)
			}
			for _, tt := range []struct {
				clamp translate.MSSClamp
				want  int
			}{{translate.MSSClamp{}, 1440}, {translate.MSSClamp{Auto: true}, 1260}, {translate.MSSClamp{Max: 700}, 700}} {
				c := n.config.Translate
				c.MSSClamp = tt.clamp
				if err := n.router.Update(c); err != nil {
					t.Fatal(err)
				}
				// Until the new MTU is known, and the port is open again.
				eventually(t, fmt.Sprintf("clamp to %+v", tt.clamp), func() error {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					conn, err := n.VMs[0].Dial(ctx, "tcp", to4(lab.ServerAddr4))
					if err != nil {
						return err
					}
					defer conn.Close()
					// The kernel takes off what options need.
					if size, err := segmentSize(conn); err != nil || size > tt.want || size < tt.want-40 {
						return fmt.Errorf("the VM sends segments of %d bytes (%v)", size, err)
					}
					return nil
				})
			}
		})
	}
}

// segmentSize is how much a connection sends in one segment.
func segmentSize(c net.Conn) (size int, err error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	e := raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	return size, errors.Join(e, err)
}
