package visitors

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labdns"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// Addresses, from the ranges set apart for documentation.
const (
	proxyAddr   = "192.0.2.1"
	visitorAddr = "192.0.2.9"
	vmAddr      = "2001:db8:64::2"
	otherAddr   = "2001:db8:65::2"
	caAddr4     = "198.51.100.2"
	caAddr6     = "2001:db8:ca::2"
)

// patience bounds what takes milliseconds on an idle machine. Tests run side by
// side, in networks of their own.
const patience = 30 * time.Second

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// world is the network. Nothing runs in it yet but the name server.
type world struct {
	t                              *testing.T
	visitor, hypervisor, ca        *lab.Host
	vm, other                      *lab.Host
	dir, file, routesFile, records string
	socket                         string
	certs                          *authority
}

// route is one line of the file of routes: where a host name leads, and what else
// the route has.
type route struct{ host, vm, more string }

func newWorld(t *testing.T, config string, routes ...route) *world {
	t.Helper()
	l := labtest.New(t, "visitors-"+strings.ToLower(strings.TrimPrefix(t.Name(), "Test")))
	w := &world{t: t}
	for name, h := range map[string]**lab.Host{
		"visitor": &w.visitor, "hypervisor": &w.hypervisor, "ca": &w.ca, "vm": &w.vm, "other": &w.other,
	} {
		*h = labtest.Host(t, l, name)
	}
	for port, far := range map[string]*lab.Host{"wan0": w.visitor, "vm0": w.vm, "vm1": w.other, "ca0": w.ca} {
		must(t, l.Link(w.hypervisor, far, lab.LinkConfig{NameA: port, ChecksumOffload: true, GRO: true}))
	}
	for _, a := range []struct {
		h          *lab.Host
		port, addr string
	}{
		{w.hypervisor, "wan0", proxyAddr + "/24"}, {w.visitor, "eth0", visitorAddr + "/24"},
		{w.hypervisor, "vm0", "2001:db8:64::1/64"}, {w.vm, "eth0", vmAddr + "/64"},
		{w.hypervisor, "vm1", "2001:db8:65::1/64"}, {w.other, "eth0", otherAddr + "/64"},
		{w.hypervisor, "ca0", "198.51.100.1/24"}, {w.ca, "eth0", caAddr4 + "/24"},
		{w.hypervisor, "ca0", "2001:db8:ca::1/64"}, {w.ca, "eth0", caAddr6 + "/64"},
	} {
		must(t, a.h.Addr(a.port, a.addr))
	}
	must(t, errors.Join(
		w.hypervisor.Sysctl("net.ipv4.ip_forward", "1"), w.hypervisor.Sysctl("net.ipv6.conf.all.forwarding", "1"),
		// Connections that nobody has accepted yet are handed on when a process ends.
		w.hypervisor.Sysctl("net.ipv4.tcp_migrate_req", "1"),
		w.visitor.Route("default4", "192.0.2.1", ""), w.ca.Route("default4", "198.51.100.1", ""),
		w.ca.Route("default6", "2001:db8:ca::1", ""), w.vm.Route("default6", "2001:db8:64::1", ""),
	))
	w.dir = t.TempDir()
	w.file, w.routesFile = filepath.Join(w.dir, "isthmus.toml"), filepath.Join(w.dir, "routes.toml")
	w.records, w.socket = filepath.Join(w.dir, "access.json"), filepath.Join(w.dir, "control.sock")
	w.certs = newAuthority(t)
	w.names(routes...)
	w.routes(routes...)
	w.configure(config)
	return w
}

// names has all sites at the proxy's IPv4 address, for visitors and for the CA,
// and the CA at its IPv6 address, for VMs.
func (w *world) names(routes ...route) {
	w.t.Helper()
	records := labdns.Records{"acme.example": {caAddr6}, "proxy.example": {proxyAddr}, "unknown.example": {"proxy.example"}}
	for _, r := range routes {
		records[r.host] = []string{"proxy.example"} // CNAME
	}
	for _, at := range []string{caAddr4, caAddr6} {
		s, err := labdns.Serve(w.ca, netip.AddrPortFrom(netip.MustParseAddr(at), 53), labdns.Config{Records: records})
		must(w.t, err)
		w.t.Cleanup(s.Close)
	}
	must(w.t, errors.Join(w.visitor.UseResolver(netip.MustParseAddr(caAddr4)),
		w.ca.UseResolver(netip.MustParseAddr(caAddr4)), w.vm.UseResolver(netip.MustParseAddr(caAddr6))))
}

// routes replaces the file of routes.
func (w *world) routes(routes ...route) {
	w.t.Helper()
	var b strings.Builder
	for _, r := range routes {
		fmt.Fprintf(&b, "[[route]]\nhost = %q\nbackends = [%q]\n%s\n", r.host, r.vm, r.more)
	}
	w.replace(w.routesFile, b.String())
}

func (w *world) configure(more string) {
	w.t.Helper()
	w.replace(w.file, fmt.Sprintf(`
[control]
socket = %q
[proxy]
listen_http = ["0.0.0.0:80"]
listen_https = ["0.0.0.0:443"]
listen_quic = ["0.0.0.0:443"]
vm_prefixes = ["2001:db8:64::/64", "2001:db8:65::/64"]
routes_file = %q
access_log = %q
%s`, w.socket, w.routesFile, w.records, more))
}

// replace writes a file as a careful writer does.
func (w *world) replace(path, content string) {
	w.t.Helper()
	must(w.t, errors.Join(os.WriteFile(path+".new", []byte(content), 0o600), os.Rename(path+".new", path)))
}

// daemon is an isthmus that is ready.
type daemon struct{ *bench.Process }

// start starts the web proxy alone.
func (w *world) start() *daemon {
	w.t.Helper()
	p, err := bench.StartProcess(w.hypervisor, w.dir, exec.Command(labtest.Isthmus(w.t), "run", "--only", "proxy", "-c", w.file))
	must(w.t, err)
	w.t.Cleanup(func() {
		_ = p.Cmd.Process.Kill()
		<-p.Done
	})
	w.until("isthmus is ready", func() bool {
		if ended(p) {
			w.t.Fatalf("isthmus ended: %v\n%s", p.Err, p.Said())
		}
		return strings.Contains(p.Said(), `"message":"ready"`)
	})
	return &daemon{p}
}

// hasSaid tells whether a text is in what it has said lately.
func (d *daemon) hasSaid(text string) bool { return strings.Contains(d.Said(), text) }

func ended(p *bench.Process) bool {
	select {
	case <-p.Done:
		return true
	default:
		return false
	}
}

// serve starts a server on a host and waits until it listens on a TCP port.
func (w *world) serve(h *lab.Host, port int, c *exec.Cmd) *bench.Process {
	w.t.Helper()
	p, err := bench.StartProcess(h, w.dir, c)
	must(w.t, err)
	w.t.Cleanup(func() {
		stop(p)
		if w.t.Failed() {
			w.t.Logf("%s said\n%s", c.Path, p.Said())
		}
	})
	must(w.t, p.WaitListening(h, port))
	return p
}

func stop(p *bench.Process) {
	_ = p.Cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.Done:
	case <-time.After(patience):
		_ = p.Cmd.Process.Kill()
		<-p.Done
	}
}

// sbin is a program that is not in the path of every user.
func sbin(program string, args ...string) *exec.Cmd {
	if _, err := exec.LookPath(program); err != nil {
		program = "/usr/sbin/" + program
	}
	return exec.Command(program, args...)
}

// command runs a program on a host to its end, and gives what it printed.
func command(h *lab.Host, program string, args ...string) (stdout string, err error) {
	return runs(h, exec.Command(program, args...))
}

func runs(h *lab.Host, c *exec.Cmd) (stdout string, err error) {
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	if err := h.Start(c); err != nil {
		return "", err
	}
	stop := time.AfterFunc(2*patience, func() { _ = c.Process.Kill() })
	defer stop.Stop()
	if err := c.Wait(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, complaint.String())
	}
	return out.String(), nil
}

// curl is what a visitor's curl prints.
func (w *world) curl(args ...string) (string, error) {
	return command(w.visitor, "curl", append([]string{"-sS", "--max-time", "60", "--cacert", w.certs.file}, args...)...)
}

// status is what `isthmus status` prints.
func (w *world) status(args ...string) string {
	w.t.Helper()
	out, err := exec.Command(labtest.Isthmus(w.t), append([]string{"status", "--socket", w.socket}, args...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("isthmus status: %v\n%s", err, out)
	}
	return string(out)
}

// line is one of the access log.
type line struct {
	ID, Protocol, Client, Host, Method, Path, VM, Result, Why string
	Status                                                    int
	Seconds                                                   float64
	Up                                                        uint64 `json:"up_bytes"`
	Down                                                      uint64 `json:"down_bytes"`
}

// logged waits for a line of the access log that fits.
func (w *world) logged(what string, fits func(line) bool) (found line) {
	w.t.Helper()
	w.until("a line of the access log: "+what, func() bool {
		content, err := os.ReadFile(w.records)
		must(w.t, err)
		for text := range strings.Lines(string(content)) {
			var l line
			if json.Unmarshal([]byte(text), &l) == nil && fits(l) { // the last may not be whole
				found = l
				return true
			}
		}
		return false
	})
	return found
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("never: %s", what)
		}
	}
}

// timeout is a context for what takes milliseconds on an idle machine.
func (w *world) timeout() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*patience)
	w.t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
