package main

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

func TestMap(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "map"), "host")
	dir := t.TempDir()
	socket := filepath.Join(dir, "control.sock")
	file := writeConfig(t, fmt.Sprintf("[router]\nstate_dir = %q\n[router.dynamic]\npool4 = '100.64.0.0/24'\n[control]\nsocket = %q\n", filepath.Join(dir, "state"), socket))
	p := start(t, h, nil, "run", "-c", file)
	p.wait(`"message":"ready"`)
	for _, step := range []struct {
		args   string
		status int
		says   string // on standard output, or error
	}{
		{"list", 0, "IPv4  IPv6"},
		{"add 2001:db8::2 100.64.0.2", 0, ""},
		{"add 2001:db8::2 100.64.0.2", 0, ""},
		{"list", 0, "100.64.0.2  2001:db8::2"},
		{"list --json", 0, `"ipv6": "2001:db8::2"`},
		{"add 2001:db8::3 100.64.0.2", 1, "100.64.0.2 is taken by 2001:db8::2; remove that mapping first"},
		{"add 2001:db8::3 192.0.2.1", 1, "not an address for a host in 100.64.0.0/24"},
		{"add 192.0.2.1 100.64.0.3", 2, "192.0.2.1 is no IPv6 address"},
		{"add 2001:db8::3 2001:db8::4", 2, "2001:db8::4 is no IPv4 address"},
		{"add 2001:db8::3", 2, "accepts 2 arg"},
		{"remove 100.64.0.2", 0, ""},
		{"remove 100.64.0.2", 1, "no such mapping for 100.64.0.2"},
		{"remove nobody", 2, "nobody is no IP address"},
		{"add 2001:db8::9 100.64.0.9", 0, ""},
	} {
		code, out, errs := isthmus(append(append([]string{"map"}, strings.Fields(step.args)...), "--socket", socket)...)
		if code != step.status || !strings.Contains(out+errs, step.says) {
			t.Errorf("map %s: status %d, %s%s; want %d, %q", step.args, code, out, errs, step.status, step.says)
		}
	}
	if _, body := p.get("/metrics"); !strings.Contains(body, "isthmus_router_dynamic_mappings 1\n") {
		t.Error("the metric does not say 1 mapping")
	}
	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
	}

	// It is still there after a restart.
	p = start(t, h, nil, "run", "-c", file)
	p.wait(`"message":"ready"`)
	if code, out, errs := isthmus("map", "list", "--socket", socket); code != 0 || !strings.Contains(out, "100.64.0.9  2001:db8::9") {
		t.Errorf("after a restart: %d %s %s", code, out, errs)
	}
}

// TestSharedAddress runs the daemon as it runs without a file, but for its own
// files: VMs reach the IPv4 Internet by the host's one address, any port of which
// leads back to its VM, also after a restart.
func TestSharedAddress(t *testing.T) {
	topology, err := labtest.New(t, "shared").Build(lab.TopologyConfig{VMs: 2})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "control.sock")
	file := writeConfig(t, fmt.Sprintf("[router]\nstate_dir = %q\n[router.dynamic]\npool4 = '100.64.0.0/16'\n[router.share]\naddress = 'auto'\n[control]\nsocket = %q\n", dir, socket))
	l, err := topology.Server.Listen("tcp4", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 {
		p := start(t, topology.Hypervisor, nil, "run", "-c", file)
		p.wait(`"message":"ready"`)
		for _, vm := range topology.VMs {
			c, err := vm.Dial(t.Context(), "tcp6", netip.AddrPortFrom(lab.Translated(lab.ServerAddr4), 7).String())
			if err != nil {
				t.Fatal(err)
			}
			seen, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			peer := seen.RemoteAddr().(*net.TCPAddr).AddrPort()
			if peer.Addr() != lab.HypervisorAddr4 {
				t.Errorf("the server sees %v", peer)
			}
			code, out, errs := isthmus("map", "owner", peer.Addr().String(), fmt.Sprint(peer.Port()), "--socket", socket)
			if code != 0 || !strings.HasPrefix(out, vm.Addr6.String()+" (100.64.") {
				t.Errorf("owner of %v: %d %s %s; want %v", peer, code, out, errs, vm.Addr6)
			}
			c.Close()
			seen.Close()
		}
		if code, _, errs := isthmus("map", "owner", lab.HypervisorAddr4.String(), "22", "--socket", socket); code != 1 || !strings.Contains(errs, "is nobody's") {
			t.Errorf("owner of port 22: %d %s", code, errs)
		}
		p.signal(syscall.SIGTERM)
		if status := p.end(); status != 0 {
			t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
		}
		if found := leftovers(t, topology.Hypervisor, "vm0", "vm1", "wan0"); found != nil {
			t.Errorf("left behind: %q", found)
		}
	}
}
