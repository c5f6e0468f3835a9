package webproxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
)

// Addresses (RFC 5737, RFC 3849): visitors have IPv4 only, VMs IPv6 only.
var (
	clientAddr = netip.MustParseAddr("192.0.2.2")
	proxyAddr  = netip.MustParseAddr("192.0.2.1")
	vms        = netip.MustParsePrefix("2001:db8:64::/64")
	gateway    = netip.MustParseAddr("2001:db8:64::1")
	vmAddr     = netip.MustParseAddr("2001:db8:64::2")
)

const (
	httpsPort = 443
	site      = "www.example.com"
)

// world is the network with the server in the VM.
type world struct {
	lab               *lab.Lab
	client, proxy, vm *lab.Host
	dir               string // for logs
	theirs            int    // CPU of the proxy
	unpin             func() error
	server            *server
	tls               *tls.Config // of clients
}

func newWorld() (w *world, err error) {
	// The network is all there is between the two ends, and the certificate was
	// made for this run.
	w = &world{tls: &tls.Config{ServerName: site, InsecureSkipVerify: true}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if _, err := exec.LookPath("taskset"); err != nil {
		return w, errors.New("taskset is not installed: apt install util-linux")
	}
	cpus, err := bench.CPUs(2)
	if err != nil {
		return w, err
	}
	w.theirs = cpus[1]
	if w.unpin, err = bench.Pin(cpus[0]); err != nil {
		return w, err
	}
	if w.lab, err = lab.New("proxy"); err != nil {
		return w, err
	}
	if w.dir, err = w.lab.Dir(); err != nil {
		return w, err
	}
	if err := w.connect(); err != nil {
		return w, err
	}
	if _, err := w.proxy.OwnFiles(); err != nil {
		return w, err
	}
	w.server, err = serve(w.vm)
	return w, err
}

// connect makes hosts and links. Superpackets stay whole, as between the VMs of a
// hypervisor.
func (w *world) connect() (err error) {
	for _, h := range []struct {
		host **lab.Host
		name string
	}{{&w.client, "client"}, {&w.proxy, "proxy"}, {&w.vm, "vm"}} {
		if *h.host, err = w.lab.Host(h.name); err != nil {
			return err
		}
		// Ports of connections that have ended are free again after a second, not
		// after a minute; here there are more than would wait.
		err := errors.Join((*h.host).Sysctl("net.ipv4.tcp_tw_reuse", "1"),
			(*h.host).Sysctl("net.ipv4.ip_local_port_range", "1024 65535"))
		if err != nil {
			return err
		}
	}
	for _, l := range []struct {
		to   *lab.Host
		port string
	}{{w.client, "client0"}, {w.vm, "vm0"}} {
		c := lab.LinkConfig{NameA: l.port, ChecksumOffload: true, GRO: true}
		if err := w.lab.Link(w.proxy, l.to, c); err != nil {
			return err
		}
	}
	for _, a := range []struct {
		h    *lab.Host
		port string
		addr netip.Addr
		bits int
	}{
		{w.client, "eth0", clientAddr, 24}, {w.proxy, "client0", proxyAddr, 24},
		{w.proxy, "vm0", gateway, 64}, {w.vm, "eth0", vmAddr, 64},
	} {
		if err := a.h.Addr(a.port, fmt.Sprintf("%s/%d", a.addr, a.bits)); err != nil {
			return err
		}
	}
	return nil
}

// close takes everything down.
func (w *world) close() error {
	var errs []error
	if w.server != nil {
		errs = append(errs, w.server.listener.Close())
	}
	if w.lab != nil {
		errs = append(errs, w.lab.Close())
	}
	if w.unpin != nil {
		errs = append(errs, w.unpin())
	}
	return errors.Join(errs...)
}
