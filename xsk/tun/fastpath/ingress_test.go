package fastpath

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/xsk/tun"
)

// gateway is package lab's topology with a TUN device that nobody reads: what
// comes through has been translated by the program, and nowhere else.
type gateway struct {
	*lab.Topology
	t      *testing.T
	dev    *tun.Device
	prog   *Program
	tables Tables
}

func newGateway(t *testing.T, c lab.TopologyConfig) *gateway {
	t.Helper()
	topology, err := labtest.New(t, "ingress").Build(c)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{Topology: topology, t: t, tables: Tables{Pool6: []netip.Prefix{lab.Pool6}, AllowPrivate4: true}}
	for _, vm := range g.VMs {
		g.tables.EAM = append(g.tables.EAM, EAM{IPv6: netip.PrefixFrom(vm.Addr6, 128), IPv4: netip.PrefixFrom(vm.Addr4, 32)})
	}
	err = g.Hypervisor.Do(func() (err error) {
		g.dev, err = tun.Open(tun.Config{Name: "isthmus0", Queues: 1, Offload: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.dev.Close() })
	g.must(errors.Join(g.Hypervisor.Route(lab.Pool6.String(), "", "isthmus0"), g.Hypervisor.Route(lab.Mapped4.String(), "", "isthmus0")))
	g.prog = load(t, 0, g.tables)
	g.must(g.Hypervisor.Do(func() error { return g.prog.Attach(g.dev.Ifindex()) }))
	return g
}

func (g *gateway) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// at gives an interface of the hypervisor.
func (g *gateway) at(name string) (index int, mac net.HardwareAddr) {
	g.t.Helper()
	index, err := g.Hypervisor.Ifindex(name)
	g.must(err)
	mac, err = g.Hypervisor.MAC(name)
	g.must(err)
	return index, mac
}

func (g *gateway) attach(name string, filter bool) {
	g.t.Helper()
	index, _ := g.at(name)
	g.must(g.Hypervisor.Do(func() error { return g.prog.attachInterface(index, filter) }))
}

// tries checks what becomes of a packet at an interface.
func (g *gateway) tries(name string, packet []byte, want Reason) (out []byte) {
	g.t.Helper()
	index, mac := g.at(name)
	return g.triesTo(index, mac, packet, want)
}

func (g *gateway) triesTo(index int, mac net.HardwareAddr, packet []byte, want Reason) (out []byte) {
	g.t.Helper()
	g.must(g.Hypervisor.Do(func() error {
		var why Reason
		var err error
		if out, why, err = g.prog.TryAt(index, mac, packet); err == nil && why != want {
			g.t.Errorf("%x: %v, want %v", packet[:min(40, len(packet))], why, want)
		}
		return err
	}))
	return out
}

func TestInterfaceReasons(t *testing.T) {
	g := newGateway(t, lab.TopologyConfig{VMs: 2, WANMTU: 1400})
	vm, other := g.VMs[0], g.VMs[1]
	const wan = lab.WANPort
	server := lab.Translated(lab.ServerAddr4).String()
	there := func(src, dst string, payload int) []byte { return v6(src, dst, 17, udp(payload)) }
	back := func(src, dst string, payload int) []byte { return v4(src, dst, 17, udp(payload)) }
	six, four := vm.Addr6.String(), vm.Addr4.String()

	// As translate does it: one hop less, not the three of the way through
	// the device.
	if out := g.tries(vm.Port, there(six, server, 8), Forwarded); out != nil && out[8] != 63 {
		t.Errorf("TTL %d", out[8])
	}
	if out := g.tries(wan, back(lab.ServerAddr4.String(), four, 8), Forwarded); out != nil && out[7] != 63 {
		t.Errorf("hop limit %d", out[7])
	}
	g.tries(vm.Port, there(six, "2001:db8::7", 8), Foreign)
	g.tries(wan, back(lab.ServerAddr4.String(), lab.HypervisorAddr4.String(), 8), Foreign)
	g.tries(vm.Port, there("2001:db8:64::77", server, 8), NoMapping)
	g.tries(vm.Port, there(six, lab.Translated(other.Addr4).String(), 8), Address)
	index, mac := g.at(vm.Port)
	mac = bytes.Clone(mac)
	mac[5] ^= 1
	g.triesTo(index, mac, there(six, server, 8), LinkLayer)

	// An address of somebody else, of either family, by the wrong interface.
	g.tries(other.Port, there(six, server, 8), Source)
	g.tries(wan, there(six, server, 8), Source)
	g.tries(vm.Port, back(lab.ServerAddr4.String(), four, 8), Source)

	// Mapped addresses without a host, the hypervisor's own, and no route.
	g.tries(vm.Port, there(six, "64:ff9b::192.0.2.77", 8), NoRoute)
	g.tries(vm.Port, there(six, lab.Translated(lab.HypervisorAddr4).String(), 8), NoRoute)
	g.must(g.Hypervisor.DelRoute("default4", lab.RouterAddr4.String(), ""))
	g.tries(vm.Port, there(six, server, 8), NoRoute)
	g.must(g.Hypervisor.Route("default4", lab.RouterAddr4.String(), ""))
	g.must(g.Hypervisor.Down(vm.Port))
	g.tries(wan, back(lab.ServerAddr4.String(), four, 8), NoRoute)
	g.must(errors.Join(g.Hypervisor.Up(vm.Port), g.Hypervisor.Addr(vm.Port, vm.Gateway6.Next().Next().String()+"/64")))

	// Part of the pool is somebody else's.
	g.must(g.Hypervisor.Route("64:ff9b::198.51.100.0/120", "", other.Port))
	g.tries(vm.Port, there(six, server, 8), NoRoute)
	g.must(g.Hypervisor.DelRoute("64:ff9b::198.51.100.0/120", "", other.Port))
	g.tries(vm.Port, there(six, server, 8), Forwarded)

	// Links on either side.
	g.tries(vm.Port, there(six, server, 1400-28), Forwarded)
	g.tries(vm.Port, there(six, server, 1401-28), Size)
	g.tries(wan, back(lab.ServerAddr4.String(), four, 1400-28), Forwarded)
	g.must(g.Hypervisor.MTU(vm.Port, 1300))
	g.tries(wan, back(lab.ServerAddr4.String(), four, 1300-48), Forwarded)
	g.tries(wan, back(lab.ServerAddr4.String(), four, 1301-48), Size)
	g.must(g.Hypervisor.MTU("isthmus0", 1280))
	g.tries(vm.Port, there(six, server, 1280-48), Forwarded)
	g.tries(vm.Port, there(six, server, 1281-48), Size)

	g.tables.EAM[0].Routed = true
	update(t, g.prog, g.tables)
	g.tries(vm.Port, there(six, server, 8), NAT)
	g.tries(wan, back(lab.ServerAddr4.String(), four, 8), NAT)
	// At the device it makes no difference.
	if _, why, err := g.prog.Try(there(six, server, 8)); why == NAT || err != nil {
		t.Errorf("%v, %v", why, err)
	}
	g.tables.EAM[0].Routed = false
	update(t, g.prog, g.tables)

	for _, s := range []string{"net.ipv4.conf." + vm.Port + ".forwarding", "net.ipv6.conf." + wan + ".forwarding"} {
		g.must(g.Hypervisor.Sysctl(s, "0"))
	}
	g.tries(vm.Port, there(six, server, 8), NoRoute)
	g.tries(wan, back(lab.ServerAddr4.String(), four, 8), NoRoute)
}

// TestInterface: a question and its answer pass by interfaces alone, from the first
// one on, when no neighbour is known.
func TestInterface(t *testing.T) {
	for _, mode := range []Mode{TCX, Filter} {
		t.Run(mode.String(), func(t *testing.T) {
			g := newGateway(t, lab.TopologyConfig{ChecksumOffload: true, GRO: true})
			g.attach(g.VMs[0].Port, mode == Filter)
			g.attach(lab.WANPort, mode == Filter)
			l, err := g.Server.ListenPacket("udp4", ":7")
			g.must(err)
			defer l.Close()
			go func() {
				buf := make([]byte, 2000)
				for {
					n, from, err := l.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = l.WriteTo(buf[:n], from)
				}
			}()
			conn, err := g.VMs[0].Dial(t.Context(), "udp6", netip.AddrPortFrom(lab.Translated(lab.ServerAddr4), 7).String())
			g.must(err)
			defer conn.Close()
			g.must(conn.SetDeadline(time.Now().Add(10 * time.Second)))
			question := []byte("is anybody there?")
			_, err = conn.Write(question)
			g.must(err)
			answer := make([]byte, 2000)
			n, err := conn.Read(answer)
			g.must(err)
			if !bytes.Equal(answer[:n], question) {
				t.Errorf("the answer is %q", answer[:n])
			}
			c, err := g.prog.Counters()
			g.must(err)
			if at := c[AtInterface]; at.Packets != [2]uint64{1, 1} || at.Bytes != [2]uint64{40 + 8 + 17, 20 + 8 + 17} || c[AtDevice].Packets != [2]uint64{} {
				t.Errorf("counters %+v", c)
			}
			// What is taken away is gone, also when the interface was before.
			index, _ := g.at(g.VMs[0].Port)
			g.must(errors.Join(g.prog.DetachInterface(index), g.prog.DetachInterface(index)))
			index, _ = g.at(lab.WANPort)
			nl, err := g.Hypervisor.Netlink()
			g.must(err)
			defer nl.Close()
			link, err := nl.LinkByIndex(index)
			g.must(err)
			g.must(nl.LinkDel(link))
			g.must(errors.Join(g.prog.DetachInterface(index), g.prog.Close()))
		})
	}
}

func TestAttachInterfaceRefuses(t *testing.T) {
	g := newGateway(t, lab.TopologyConfig{})
	vm, _ := g.at(g.VMs[0].Port)
	g.must(g.Hypervisor.Do(func() error {
		for _, c := range []struct {
			index int
			want  error
		}{{1, ErrNotEthernet}, {g.dev.Ifindex(), ErrNotEthernet}, {9999, ErrDeviceGone}, {vm, nil}} {
			if err := g.prog.AttachInterface(c.index); !errors.Is(err, c.want) {
				t.Errorf("interface %d: %v, want %v", c.index, err, c.want)
			}
		}
		if err := g.prog.AttachInterface(vm); err == nil {
			t.Error("attached twice")
		}
		if err := load(t, 0, g.tables).AttachInterface(vm); err == nil {
			t.Error("attached without the device")
		}
		return nil
	}))
}
