package jumphost

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
)

// Addresses (RFC 3849). A VM has port 22 only, so each service has an address.
var (
	clients    = netip.MustParsePrefix("2001:db8:1::/64")
	clientAddr = netip.MustParseAddr("2001:db8:1::2")
	jumpAddr   = netip.MustParseAddr("2001:db8:1::1")

	vms        = netip.MustParsePrefix("2001:db8:64::/64")
	gateway    = netip.MustParseAddr("2001:db8:64::1")
	sinkAddr   = netip.MustParseAddr("2001:db8:64::2")
	sourceAddr = netip.MustParseAddr("2001:db8:64::3")
	echoAddr   = netip.MustParseAddr("2001:db8:64::4")
	sshdAddr   = netip.MustParseAddr("2001:db8:64::5")
)

const (
	jumpPort = 2222
	vmPort   = 22
	user     = "jump"
)

// world is the network with what serves in the VM.
type world struct {
	lab              *lab.Lab
	client, jump, vm *lab.Host
	dir              string // files of the client and the VM
	theirs           int    // CPU of the jump host
	unpin            func() error
	services         *services
	sshd             *bench.Process // in the VM
}

// programs are what is needed besides isthmus, with Debian's packages.
var programs = map[string]string{"ssh": "openssh-client", sshdProgram: "openssh-server", "taskset": "util-linux"}

const sshdProgram = "/usr/sbin/sshd"

func newWorld() (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			return w, fmt.Errorf("%s is not installed: apt install %s", filepath.Base(program), pkg)
		}
	}
	cpus, err := bench.CPUs(2)
	if err != nil {
		return w, err
	}
	w.theirs = cpus[1]
	if w.unpin, err = bench.Pin(cpus[0]); err != nil {
		return w, err
	}
	if w.lab, err = lab.New("jump"); err != nil {
		return w, err
	}
	if w.dir, err = w.lab.Dir(); err != nil {
		return w, err
	}
	if err := w.connect(); err != nil {
		return w, err
	}
	for _, h := range []*lab.Host{w.jump, w.vm} {
		if err := w.accounts(h); err != nil {
			return w, err
		}
	}
	// Before anything else listens on its port, which it is waited for by.
	if err := w.vmServer(); err != nil {
		return w, err
	}
	if err := w.clientConfig(); err != nil {
		return w, err
	}
	w.services, err = serve(w.vm)
	return w, err
}

// connect makes hosts and links. Superpackets stay whole, as between the VMs of a
// hypervisor.
func (w *world) connect() (err error) {
	for _, h := range []struct {
		host **lab.Host
		name string
	}{{&w.client, "client"}, {&w.jump, "jump"}, {&w.vm, "vm"}} {
		if *h.host, err = w.lab.Host(h.name); err != nil {
			return err
		}
	}
	for _, l := range []struct {
		to   *lab.Host
		port string
	}{{w.client, "client0"}, {w.vm, "vm0"}} {
		c := lab.LinkConfig{NameA: l.port, ChecksumOffload: true, GRO: true}
		if err := w.lab.Link(w.jump, l.to, c); err != nil {
			return err
		}
	}
	for _, a := range []struct {
		h    *lab.Host
		port string
		addr netip.Addr
	}{
		{w.client, "eth0", clientAddr}, {w.jump, "client0", jumpAddr}, {w.jump, "vm0", gateway},
		{w.vm, "eth0", sinkAddr}, {w.vm, "eth0", sourceAddr}, {w.vm, "eth0", echoAddr}, {w.vm, "eth0", sshdAddr},
	} {
		if err := a.h.Addr(a.port, netip.PrefixFrom(a.addr, 64).String()); err != nil {
			return err
		}
	}
	return errors.Join(
		w.jump.Sysctl("net.ipv6.conf.all.forwarding", "1"), // for the way without a jump host
		w.client.Route("default6", jumpAddr.String(), ""),
		w.vm.Route("default6", gateway.String(), ""),
	)
}

// accounts gives a host's programs a user with an empty password, whom sshd lets in
// by "none" where PermitEmptyPasswords is set, and files of their own.
func (w *world) accounts(h *lab.Host) error {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	dir, err := h.Dir()
	if err != nil {
		return err
	}
	for _, f := range []struct{ name, text string }{
		{"passwd", user + "::65532:65532::/:/bin/sh\n" + string(passwd)}, // the first entry counts
		{"shadow", user + "::19000::::::\n"},
	} {
		file := filepath.Join(dir, f.name)
		if err := os.WriteFile(file, []byte(f.text), 0o644); err != nil {
			return err
		}
		if err := h.Cover(filepath.Join("/etc", f.name), file); err != nil {
			return err
		}
	}
	if dir, err = h.OwnFiles(); err != nil {
		return err
	}
	return os.Mkdir(filepath.Join(dir, "run", "sshd"), 0o755)
}

// vmServer starts the sshd of a VM, for whole sessions through the jump host.
func (w *world) vmServer() (err error) {
	w.sshd, err = startSSHD(w.vm, w.dir, vmPort, sshdDefaults(sshdAddr, vmPort), exec.Command)
	return err
}

// clientConfig is ssh_config(5) for what is done by OpenSSH's client. The file is
// given to the ssh that ProxyJump starts, too.
func (w *world) clientConfig() error {
	lines := []string{
		"Host jumphost", "HostName " + jumpAddr.String(), fmt.Sprintf("Port %d", jumpPort),
		"Host *", "User " + user, "BatchMode yes", "LogLevel ERROR", "IdentityFile none", "IdentityAgent none",
		"StrictHostKeyChecking no", "UserKnownHostsFile /dev/null", "GlobalKnownHostsFile /dev/null",
	}
	return os.WriteFile(w.sshConfig(), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

func (w *world) sshConfig() string { return filepath.Join(w.dir, "ssh_config") }

// close takes everything down.
func (w *world) close() error {
	var errs []error
	if w.services != nil {
		w.services.close()
	}
	if w.sshd != nil {
		errs = append(errs, w.sshd.StopTree())
	}
	if w.lab != nil {
		errs = append(errs, w.lab.Close())
	}
	if w.unpin != nil {
		errs = append(errs, w.unpin())
	}
	return errors.Join(errs...)
}
