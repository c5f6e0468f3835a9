package labdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"aarch64.com/isthmus/perf/lab"
)

// Program is what [StartResolver] runs.
const Program = "unbound"

const (
	resolverPort = 53
	zonePort     = 5300 // of the Server behind, on lo
	startTimeout = 20 * time.Second
	askTimeout   = time.Second
	// debianConfig is where unbound's AppArmor profile on Debian lets it read.
	debianConfig = "/etc/unbound"
)

// Resolver is unbound on port 53 of all addresses of a host.
type Resolver struct {
	server *Server // nil: it asks root servers
	cmd    *exec.Cmd
	log    lab.Tail
	done   chan struct{} // closed when unbound has ended
	err    error         // how it ended; valid after done
}

// unboundConfig is its configuration file. Nothing is cached, so that changed
// records hold at once, and nothing but the Server, or the root servers, is asked.
const unboundConfig = `server:
  module-config: "%s"
  interface-automatic: yes
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  do-not-query-localhost: no
  cache-max-ttl: 0
  cache-max-negative-ttl: 0
  num-threads: 1
  use-syslog: no
  logfile: ""
  log-servfail: yes
  username: ""
  chroot: ""
  directory: "%s"
  pidfile: ""
%sremote-control:
  control-enable: no
`

const (
	forwardZone = `forward-zone:
  name: "."
  forward-addr: 127.0.0.1@%d
`
	rootHints = "root.hints"
)

// StartResolver starts unbound on a host, in front of a name server with the
// records, and waits until it answers. The host's lab takes it down, too.
func StartResolver(h *lab.Host, c Config) (r *Resolver, err error) {
	path, err := exec.LookPath(Program)
	if err != nil {
		path = "/usr/sbin/" + Program // not everybody has it in PATH
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w; install the package %s (make deps)", err, Program)
	}
	r = &Resolver{done: make(chan struct{})}
	if len(c.Roots) == 0 {
		if r.server, err = Serve(h, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), zonePort), Config{Records: c.Records}); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			r.Stop()
			r = nil
		}
	}()
	modules, more, zones := "iterator", "", ""
	if c.Prefix.IsValid() {
		modules, more = "dns64 iterator", fmt.Sprintf("  dns64-prefix: %v\n", c.Prefix)
	}
	dir, err := h.Dir()
	if err != nil {
		return r, err
	}
	if len(c.Roots) == 0 {
		zones = fmt.Sprintf(forwardZone, zonePort)
	} else {
		more += fmt.Sprintf("  root-hints: %q\n", filepath.Join(debianConfig, rootHints))
		if err := os.WriteFile(filepath.Join(dir, rootHints), hints(c.Roots), 0o644); err != nil {
			return r, err
		}
	}
	conf := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, unboundConfig+zones, modules, debianConfig, more), 0o644); err != nil {
		return r, err
	}
	if err := h.Cover(debianConfig, dir); err != nil {
		return r, err
	}
	cmd := exec.Command(path, "-d", "-p", "-c", filepath.Join(debianConfig, filepath.Base(conf)))
	cmd.Stdout, cmd.Stderr = &r.log, &r.log
	if err := h.Start(cmd); err != nil {
		return r, fmt.Errorf("start %s: %w", path, err)
	}
	r.cmd = cmd
	go func() {
		r.err = cmd.Wait()
		close(r.done)
	}()
	return r, r.waitReady(h)
}

// hints is the file that names the root servers.
func hints(roots []netip.Addr) (file []byte) {
	for i, a := range roots {
		kind := "A"
		if a.Is6() {
			kind = "AAAA"
		}
		file = fmt.Appendf(file, ". 3600 IN NS %c.root-servers.example.\n%[1]c.root-servers.example. 3600 IN %s %v\n", 'a'+i, kind, a)
	}
	return file
}

// waitReady asks for a name until somebody says that it is not there.
func (r *Resolver) waitReady(h *lab.Host) error {
	for deadline := time.Now().Add(startTimeout); ; {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		_, err := h.Lookup(ctx, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), resolverPort), "ip4", "nothing.example")
		cancel()
		var said *net.DNSError
		if err == nil || errors.As(err, &said) && said.IsNotFound {
			return nil
		}
		select {
		case <-r.done:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", Program, r.err, r.Log())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer after %v: %w\n%s", Program, startTimeout, err, r.Log())
		}
	}
}

// Set replaces all records. There are none with root servers.
func (r *Resolver) Set(records Records) error { return r.server.Set(records) }

// Log is what unbound has said last.
func (r *Resolver) Log() string { return r.log.String() }

// Stop ends unbound and the name server behind it. It may be called again.
func (r *Resolver) Stop() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill() // it has nothing to save
		<-r.done
	}
	if r.server != nil {
		r.server.Close()
	}
}
