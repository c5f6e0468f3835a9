package kernelpath

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
)

// Keys of the paths, as in [Options] and in the JSON document.
const (
	Plain     = "plain"      // no translation: the kernel forwards IPv6
	Fast      = "fast"       // isthmus with the fast path on the TUN device, static mapping
	FastNAT44 = "fast-nat44" // the same with a dynamic mapping and a shared address
	User      = "user"       // user space alone, static mapping
	UserNAT44 = "user-nat44" // the same with a dynamic mapping and a shared address
	Ingress   = "ingress"    // the fast path at the ingress of VM and WAN interface
	Tayga     = "tayga"      // Debian's package
)

// taker says which part of isthmus translates.
type taker uint8

const (
	others      taker = iota // none: it is not isthmus that is measured
	userSpace                // the workers
	atDevice                 // the fast path on the TUN device
	atInterface              // the fast path on the interfaces
)

// path is a way from the VM to the server.
type path struct {
	key, name string
	target    netip.Addr // the server, as the VM sees it
	by        taker      // who is meant to translate
	// start makes the path, waiting for nothing but the program's own setup.
	// missing, if not empty, is why it can't be had here.
	start func(w *world, o *Options) (p *bench.Process, missing string, err error)
}

const (
	tunDevice   = "isthmus0"
	taygaDevice = "nat64"
	readyPort   = 7 // a connection to it tells that the path is there
	readyTime   = 10 * time.Second
)

// taygaPrefix stands for IPv4 with TAYGA, which refuses documentation addresses
// under the well-known prefix (RFC 6052 section 3.1).
var taygaPrefix = netip.MustParsePrefix("2001:db8:ffff::/96")

func paths() []path {
	pool := lab.Translated(lab.ServerAddr4)
	return []path{
		{Plain, "plain IPv6 forwarding", server6, others, func(*world, *Options) (*bench.Process, string, error) { return nil, "", nil }},
		{Fast, "isthmus, fast path", pool, atDevice, isthmus(static, "")},
		{FastNAT44, "isthmus, fast path, NAT44", pool, atDevice, isthmus(shared, "")},
		{User, "isthmus, user space", pool, userSpace, isthmus(static, "fast_path = \"off\"\n")},
		{UserNAT44, "isthmus, user space, NAT44", pool, userSpace, isthmus(shared, "fast_path = \"off\"\n")},
		{Ingress, "isthmus, fast path at ingress", pool, atInterface, isthmus(static, "fast_path_interfaces = [\"vm0\", \"wan0\"]\n")},
		{Tayga, "TAYGA", embed(taygaPrefix, lab.ServerAddr4), others, tayga},
	}
}

// embed writes an IPv4 address under a /96 (RFC 6052 section 2.2).
func embed(p netip.Prefix, v4 netip.Addr) netip.Addr {
	b, a := p.Addr().As16(), v4.As4()
	copy(b[12:], a[:])
	return netip.AddrFrom16(b)
}

// Where the VM's IPv4 address comes from.
func static(vm *lab.VM) string {
	return fmt.Sprintf("eam = [{ ipv6 = \"%s/128\", ipv4 = \"%s/32\" }]\n", vm.Addr6, vm.Addr4)
}

func shared(*lab.VM) string {
	return fmt.Sprintf("state_dir = \"\"\n\n[router.dynamic]\npool4 = \"100.64.0.0/16\"\n\n[router.share]\naddress = \"%s\"\n", lab.HypervisorAddr4)
}

// configuration is isthmus's file. kernel is what [router.kernel] has besides the
// name of the device.
func configuration(w *world, mapping func(*lab.VM) string, kernel string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[router]\npool6 = [\"%s\"]\n", lab.Pool6)
	b.WriteString("allow_private4 = true # the lab's addresses are documentation ones (RFC 5737)\n")
	b.WriteString(mapping(w.vm))
	fmt.Fprintf(&b, "\n[router.kernel]\ninterface = %q\n%s", tunDevice, kernel)
	// Apart from an isthmus that this machine may run for real.
	fmt.Fprintf(&b, "\n[metrics]\nlisten = \"\"\n\n[control]\nsocket = %q\n", w.socket())
	return b.String()
}

func isthmus(mapping func(*lab.VM) string, kernel string) func(*world, *Options) (*bench.Process, string, error) {
	return func(w *world, o *Options) (*bench.Process, string, error) {
		file := filepath.Join(w.dir, "isthmus.toml")
		if err := os.WriteFile(file, []byte(configuration(w, mapping, kernel)), 0o600); err != nil {
			return nil, "", err
		}
		p, err := bench.StartProcess(w.topo.Hypervisor, w.dir, exec.Command(o.Binary, "run", "-c", file))
		return p, "", err
	}
}

// tayga runs TAYGA with a static mapping. Its TUN device has no offloads: the
// kernel cuts superpackets before it hands them over.
func tayga(w *world, _ *Options) (*bench.Process, string, error) {
	binary, err := exec.LookPath("tayga")
	if err != nil {
		return nil, "not installed: apt install tayga", nil
	}
	file := filepath.Join(w.dir, "tayga.conf")
	text := fmt.Sprintf("tun-device %s\nipv4-addr %s\nprefix %s\nmap %s %s\n",
		taygaDevice, nth(lab.Mapped4, 254), taygaPrefix, w.vm.Addr4, w.vm.Addr6)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	p, err := bench.StartProcess(w.topo.Hypervisor, w.dir, exec.Command(binary, "--nodetach", "-c", file))
	if err != nil {
		return nil, "", err
	}
	h := w.topo.Hypervisor
	for deadline := time.Now().Add(readyTime); ; time.Sleep(10 * time.Millisecond) {
		if err = h.Up(taygaDevice); err == nil {
			break
		}
		select {
		case <-p.Done:
			return nil, "", fmt.Errorf("tayga ended: %v\n%s", p.Err, p.Said())
		default:
		}
		if time.Now().After(deadline) {
			return nil, "", errors.Join(err, p.Stop())
		}
	}
	err = errors.Join(h.Route(taygaPrefix.String(), "", taygaDevice), h.Route(lab.Mapped4.String(), "", taygaDevice))
	if err != nil {
		return nil, "", errors.Join(err, p.Stop())
	}
	return p, "", nil
}

// fastPackets asks the running isthmus what its fast path has taken so far.
func (w *world) fastPackets(ctx context.Context, o *Options) (n map[taker]uint64, err error) {
	var status struct {
		FastPath struct {
			Device    uint64 `json:"device_packets"`
			Interface uint64 `json:"interface_packets"`
		} `json:"fast_path"`
	}
	out, err := exec.CommandContext(ctx, o.Binary, "status", "--json", "--socket", w.socket()).Output()
	if err == nil {
		err = json.Unmarshal(out, &status)
	}
	if err != nil {
		return nil, fmt.Errorf("ask isthmus for its status: %w", err)
	}
	return map[taker]uint64{atDevice: status.FastPath.Device, atInterface: status.FastPath.Interface}, nil
}

func (w *world) socket() string { return filepath.Join(w.dir, "control.sock") }

// waitReady waits until the VM can connect to the server by the path.
func (w *world) waitReady(ctx context.Context, target netip.Addr, p *bench.Process) error {
	var ended chan struct{} // nil: nothing runs
	if p != nil {
		ended = p.Done
	}
	deadline := time.Now().Add(readyTime)
	for {
		try, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		c, err := w.vm.Dial(try, "tcp", netip.AddrPortFrom(target, readyPort).String())
		cancel()
		if err == nil {
			return c.Close()
		}
		select {
		case <-ended:
			return fmt.Errorf("%s ended: %v\n%s", p.Cmd.Path, p.Err, p.Said())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			err = fmt.Errorf("no connection from the VM to %s within %v: %w", target, readyTime, err)
			if p != nil {
				err = fmt.Errorf("%w\n%s", err, p.Said())
			}
			return err
		}
	}
}
