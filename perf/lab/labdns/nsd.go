package labdns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"aarch64.com/isthmus/perf/lab"
)

// AuthorityProgram is what [StartAuthority] runs, and the Debian package that has it.
const AuthorityProgram = "nsd"

// Authority is nsd, the name server of some zones, on port 53 of all addresses of a
// host.
type Authority struct {
	host *lab.Host
	dir  string
	cmd  *exec.Cmd
	log  lab.Tail
	done chan struct{} // closed when nsd has ended
	err  error         // how it ended; valid after done

	mu      sync.Mutex
	serials map[string]uint32 // of the zones, by name
}

// authorityConfig is nsd's configuration. Nothing of it is outside the directory, and
// one asker may ask as often as tests do.
const authorityConfig = `server:
  server-count: 1
  database: ""
  username: ""
  pidfile: ""
  logfile: ""
  zonesdir: "%[1]s"
  xfrdir: "%[1]s"
  xfrdfile: "%[1]s/xfrd.state"
  zonelistfile: "%[1]s/zone.list"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
`

// StartAuthority starts nsd with zones, as in [Authority.Set], and waits until it
// answers for them. The host's lab takes it down, too.
func StartAuthority(h *lab.Host, zones map[string]string) (a *Authority, err error) {
	path, err := exec.LookPath(AuthorityProgram)
	if err != nil {
		path = "/usr/sbin/" + AuthorityProgram // not everybody has it in PATH
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w; install the package %s (make deps)", err, AuthorityProgram)
	}
	a = &Authority{host: h, done: make(chan struct{}), serials: map[string]uint32{}}
	defer func() {
		if err != nil {
			a.Stop()
			a = nil
		}
	}()
	if a.dir, err = h.Dir(); err != nil {
		return a, err
	}
	conf := fmt.Appendf(nil, authorityConfig, a.dir)
	for zone, records := range zones {
		zone = canonical(zone)
		conf = fmt.Appendf(conf, "zone:\n  name: %q\n  zonefile: %q\n", zone, a.file(zone))
		if err := a.write(zone, records); err != nil {
			return a, err
		}
	}
	file := filepath.Join(a.dir, "nsd.conf")
	if err := os.WriteFile(file, conf, 0o644); err != nil {
		return a, err
	}
	cmd := exec.Command(path, "-d", "-c", file)
	cmd.Stdout, cmd.Stderr = &a.log, &a.log
	if err := h.Start(cmd); err != nil {
		return a, fmt.Errorf("start %s: %w", path, err)
	}
	a.cmd = cmd
	go func() {
		a.err = cmd.Wait()
		close(a.done)
	}()
	for zone := range a.serials {
		if err := a.wait(zone); err != nil {
			return a, err
		}
	}
	return a, nil
}

func (a *Authority) file(zone string) string { return filepath.Join(a.dir, zone+"zone") }

// write makes a zone's file, with a serial that is one more than before.
func (a *Authority) write(zone, records string) error {
	a.serials[zone]++
	text := fmt.Sprintf("$ORIGIN %s\n$TTL 0\n@ SOA nobody.invalid. nobody.invalid. %d 3600 600 86400 0\n%s\n", zone, a.serials[zone], records)
	if err := os.WriteFile(a.file(zone)+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(a.file(zone)+".new", a.file(zone))
}

// Set replaces the records of a zone that the server has had from the start, and waits
// until they are served. They are lines of a zone file (RFC 1035 section 5) without
// the SOA record; relative names are in the zone.
func (a *Authority) Set(zone, records string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	zone = canonical(zone)
	if a.serials[zone] == 0 {
		return fmt.Errorf("%s on %s is not the name server of %s", AuthorityProgram, a.host.Name(), zone)
	}
	if err := a.write(zone, records); err != nil {
		return err
	}
	if err := a.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("have %s read zones again: %w", AuthorityProgram, err)
	}
	return a.wait(zone)
}

// wait asks until the newest serial of a zone is served.
func (a *Authority) wait(zone string) error {
	deadline := time.Now().Add(startTimeout)
	for {
		serial, err := a.serial(zone)
		switch {
		case err != nil:
		case serial == a.serials[zone]:
			return nil
		default:
			err = fmt.Errorf("it still has serial %d", serial)
		}
		select {
		case <-a.done:
			return fmt.Errorf("%s ended: %w\n%s", AuthorityProgram, a.err, a.Log())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not serve %s with serial %d after %v: %w\n%s", AuthorityProgram, zone, a.serials[zone], startTimeout, err, a.Log())
		}
	}
}

func (a *Authority) serial(zone string) (uint32, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	conn, err := a.host.Dial(ctx, "udp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), resolverPort).String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	q := new(dns.Msg).SetQuestion(zone, dns.TypeSOA)
	r, _, err := new(dns.Client).ExchangeWithConnContext(ctx, q, &dns.Conn{Conn: conn})
	if err != nil {
		return 0, err
	}
	for _, rr := range r.Answer {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa.Serial, nil
		}
	}
	return 0, errors.New(strings.ToLower(dns.RcodeToString[r.Rcode]))
}

// Log is what nsd has said last.
func (a *Authority) Log() string { return a.log.String() }

// Stop ends nsd. It may be called again.
func (a *Authority) Stop() {
	if a.cmd != nil {
		_ = a.cmd.Process.Signal(syscall.SIGTERM) // it ends those that it has started
		select {
		case <-a.done:
		case <-time.After(startTimeout):
			_ = a.cmd.Process.Kill()
			<-a.done
		}
	}
}
