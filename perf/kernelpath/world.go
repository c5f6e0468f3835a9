package kernelpath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"

	"github.com/vishvananda/netlink"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
)

// Addresses of plain IPv6 forwarding, which the lab's IPv4 hosts don't have.
var (
	wan6    = netip.MustParsePrefix("2001:db8:65::/64")
	inner6  = netip.MustParsePrefix("2001:db8:66::/64")
	server6 = nth(inner6, 2)
	vms6    = netip.MustParsePrefix("2001:db8:64::/48")
)

// nth is the n-th address of a prefix.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Addr()
	for range n {
		a = a.Next()
	}
	return a
}

// world is the network with its servers.
type world struct {
	lab    *lab.Lab
	topo   *lab.Topology
	vm     *lab.VM
	dir    string // for files that go with the run
	ready  net.Listener
	router *netlink.Handle // in its namespace
	cpus   []int           // where packets are sent from
}

func newWorld(senders int) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if _, err := exec.LookPath("iperf3"); err != nil {
		return w, errors.New("iperf3 is not installed: apt install iperf3")
	}
	if w.cpus, err = bench.CPUs(senders); err != nil {
		return w, err
	}
	if w.lab, err = lab.New("kernel-path"); err != nil {
		return w, err
	}
	if w.dir, err = w.lab.Dir(); err != nil {
		return w, err
	}
	if w.topo, err = w.lab.Build(lab.TopologyConfig{VMs: 1, ChecksumOffload: true, GRO: true}); err != nil {
		return w, err
	}
	w.vm = w.topo.VMs[0]
	if err := w.addIPv6(); err != nil {
		return w, err
	}
	return w, w.serve()
}

// addIPv6 makes the plain way through.
func (w *world) addIPv6() error {
	hypervisor, router, server := w.topo.Hypervisor, w.topo.Router, w.topo.Server
	for _, h := range []*lab.Host{router, server} {
		// "all" sets it for the interfaces that are there.
		if err := h.Sysctl("net.ipv6.conf.all.disable_ipv6", "0"); err != nil {
			return err
		}
	}
	for _, a := range []struct {
		h      *lab.Host
		ifname string
		prefix netip.Prefix
		n      int
	}{
		{hypervisor, lab.WANPort, wan6, 1}, {router, "eth0", wan6, 2},
		{router, "eth1", inner6, 1}, {server, "eth0", inner6, 2},
	} {
		if err := a.h.Addr(a.ifname, netip.PrefixFrom(nth(a.prefix, a.n), a.prefix.Bits()).String()); err != nil {
			return err
		}
	}
	return errors.Join(
		hypervisor.Route(inner6.String(), nth(wan6, 2).String(), ""),
		router.Route(vms6.String(), nth(wan6, 1).String(), ""),
		server.Route("default6", nth(inner6, 1).String(), ""),
	)
}

// serve opens what the VM talks to, for both families at once.
func (w *world) serve() (err error) {
	if w.ready, err = w.topo.Server.Listen("tcp", fmt.Sprintf("[::]:%d", readyPort)); err != nil {
		return err
	}
	go func() {
		for {
			c, err := w.ready.Accept()
			if err != nil {
				return // closed
			}
			c.Close()
		}
	}()
	if err := closeSink(w.topo.Router); err != nil {
		return err
	}
	w.router, err = w.topo.Router.Netlink()
	return err
}

// close takes everything down and kills what still runs.
func (w *world) close() error {
	var errs []error
	if w.ready != nil {
		errs = append(errs, w.ready.Close())
	}
	if w.router != nil {
		w.router.Close()
	}
	if w.lab != nil {
		errs = append(errs, w.lab.Close())
	}
	return errors.Join(errs...)
}
