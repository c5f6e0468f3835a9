package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/cmd/internal/sdnotify"
	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// patience is how long a test waits for something that takes milliseconds.
const patience = 20 * time.Second

// process is an isthmus in a namespace of the lab.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	host  *lab.Host
	lines chan string // standard error
	seen  []string
}

func start(t *testing.T, h *lab.Host, env []string, args ...string) *process {
	t.Helper()
	return startAs(t, h, 0, env, args...)
}

// startAs starts isthmus as a user.
func startAs(t *testing.T, h *lab.Host, user uint32, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: command(args...), host: h, lines: make(chan string, 1000)}
	if user != 0 {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(stderr); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
	}()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// wait reads the log until a message contains text.
func (p *process) wait(text string) string {
	p.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line, more := <-p.lines:
			p.seen = append(p.seen, line)
			if strings.Contains(line, text) {
				return line
			}
			if !more {
				p.t.Fatalf("ended without %q; it said\n%s", text, strings.Join(p.seen, "\n"))
			}
		case <-limit:
			p.t.Fatalf("no %q; it said\n%s", text, strings.Join(p.seen, "\n"))
		}
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// end waits for the process and returns its exit status, -1 for a signal.
func (p *process) end() int {
	p.t.Helper()
	limit := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer limit.Stop()
	for line := range p.lines {
		p.seen = append(p.seen, line)
	}
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// get fetches a path of the metrics endpoint.
func (p *process) get(path string) (int, string) {
	p.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: p.host.Dial, DisableKeepAlives: true}}
	resp, err := client.Get("http://[::1]:9464" + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// leftovers are the devices in the namespace besides lo and those given, and
// XDP programs on any.
func leftovers(t *testing.T, h *lab.Host, known ...string) []string {
	t.Helper()
	nl, err := h.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	links, err := nl.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, l := range links {
		a := l.Attrs()
		if a.Name != "lo" && !slices.Contains(known, a.Name) {
			found = append(found, "device "+a.Name)
		}
		if a.Xdp != nil && a.Xdp.Attached {
			found = append(found, "XDP program on "+a.Name)
		}
	}
	routes, err := nl.RouteList(nil, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		// An unreachable one is meant to stay, see package endtoend.
		if r.Dst != nil && r.Dst.String() == "64:ff9b::/96" && r.Type != unix.RTN_UNREACHABLE {
			found = append(found, "route "+r.String())
		}
	}
	return found
}

func TestRunOnTheKernelPath(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "run"), "host")
	socket := filepath.Join(t.TempDir(), "control.sock")
	file := writeConfig(t, fmt.Sprintf("[control]\nsocket = %q\n", socket))
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			p := start(t, h, nil, "run", "--only", "router", "-c", file)
			p.wait(`"message":"ready"`)
			for path, want := range map[string]string{
				"/readyz":  "ok\n",
				"/healthz": "ok\n",
				"/metrics": `isthmus_router_port_receive_packets_total{port="isthmus0",worker="0"} `,
			} {
				if code, body := p.get(path); code != http.StatusOK || !strings.Contains(body, want) {
					t.Errorf("%s: %d %s", path, code, body)
				}
			}
			if code, out, errs := isthmus("status", "--socket", socket); code != 0 || !strings.Contains(out, "isthmus0        tun, 0 packets in") {
				t.Errorf("isthmus status: %d %s %s", code, out, errs)
			}
			if found := leftovers(t, h); !slices.Contains(found, "device isthmus0") || len(found) != 2 {
				t.Errorf("while running: %q", found)
			}
			p.signal(s)
			if status := p.end(); status != 0 {
				t.Errorf("status %d after %v; it said\n%s", status, s, strings.Join(p.seen, "\n"))
			}
			if found := leftovers(t, h); found != nil {
				t.Errorf("left behind: %q", found)
			}
			if code, _, errs := isthmus("status", "--socket", socket); code != 1 || !strings.Contains(errs, "no isthmus runs behind "+socket) {
				t.Errorf("isthmus status afterwards: %d %s", code, errs)
			}
			for _, line := range p.seen {
				if !json.Valid([]byte(line)) {
					t.Errorf("not a terminal, but this is no JSON: %s", line)
				}
			}
		})
	}
}

func TestRunWithPorts(t *testing.T) {
	l := labtest.New(t, "ports")
	h, peer := labtest.Host(t, l, "host"), labtest.Host(t, l, "peer")
	if err := l.Link(h, peer, lab.LinkConfig{NameA: "port0", NameB: "far0", Queues: 2}); err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, "[[router.port]]\ninterface = 'port0'\n")
	p := start(t, h, nil, "run", "-c", file)
	p.wait(`"message":"ready"`)
	if found := leftovers(t, h, "port0"); !slices.Contains(found, "XDP program on port0") {
		t.Errorf("while running: %q", found)
	}
	code, body := p.get("/metrics")
	for _, want := range []string{
		`isthmus_router_port_attached{mode="driver",port="port0"} 1`,
		`isthmus_router_port_receive_packets_total{port="port0",worker="0"} `,
		`isthmus_router_port_receive_packets_total{port="port0",worker="1"} `,
		`isthmus_router_steering_packets_total{outcome="redirected",port="port0"} `,
	} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("/metrics: %d, no %s", code, want)
		}
	}

	// Nothing that a killed process leaves stops the next one.
	p.signal(syscall.SIGKILL)
	p.end()
	p = start(t, h, nil, "run", "-c", file)
	p.wait(`"message":"ready"`)
	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
	}
	if found := leftovers(t, h, "port0"); found != nil {
		t.Errorf("left behind: %q", found)
	}
}

// What stops isthmus from starting is one line, and leaves nothing behind.
func TestRunThatCannotStart(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "nostart"), "host")
	taken, err := h.Listen("tcp", "[::1]:9464")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct{ name, config, want string }{
		{"metrics port in use", "", "metrics endpoint: [::1]:9464 is in use by another process (see `ss -ltnp`); stop that one or choose another [metrics] listen"},
		{"no such interface", "[[router.port]]\ninterface = 'nosuch0'\n[metrics]\nlisten = ''\n", "port nosuch0: "},
		{"TUN name in use", "[router.kernel]\ninterface = 'lo'\n[metrics]\nlisten = ''\n", "the interface name is in use"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, h, nil, "run", "-c", writeConfig(t, tt.config))
			status := p.end()
			last := p.seen[len(p.seen)-1]
			if status != 1 || !strings.HasPrefix(last, "isthmus: ") || !strings.Contains(last, tt.want) {
				t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
			}
			if found := leftovers(t, h); found != nil {
				t.Errorf("left behind: %q", found)
			}
		})
	}
}

func TestReload(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "reload"), "host")
	file := writeConfig(t, "")
	rewrite := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, h, nil, "run", "-c", file)
	p.wait(`"message":"ready"`)

	rewrite("[router]\npool6 = [1]\n")
	p.signal(syscall.SIGHUP)
	p.wait(file + ":2:10: router.pool6[0]: want an IPv6 prefix, have an integer")
	p.wait("the running configuration stays")
	if found := leftovers(t, h); len(found) != 2 {
		t.Errorf("the old tables should be there: %q", found)
	}

	rewrite("[router]\npool6 = ['2001:db8:64::/96']\neam = [{ ipv6 = '2001:db8::1', ipv4 = '192.0.2.1' }]\n[router.kernel]\ninterface = 'other0'\n")
	p.signal(syscall.SIGHUP)
	if line := p.wait("take effect on restart only"); !strings.Contains(line, `["router.kernel"]`) {
		t.Errorf("got %s", line)
	}
	if line := p.wait(`"message":"reloaded"`); !strings.Contains(line, `"eam":1`) {
		t.Errorf("got %s", line)
	}
	// Only the TUN device is left: the route of the old pool6 has gone.
	if found := leftovers(t, h); !slices.Equal(found, []string{"device isthmus0"}) {
		t.Errorf("after the reload: %q", found)
	}
	// The same file again: what needs a restart still does.
	p.signal(syscall.SIGHUP)
	p.wait("take effect on restart only")
	p.wait(`"message":"reloaded"`)

	_, body := p.get("/metrics")
	for _, want := range []string{`isthmus_config_reloads_total{result="ok"} 2`, `isthmus_config_reloads_total{result="rejected"} 1`} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics: no %s", want)
		}
	}
	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 {
		t.Errorf("status %d", status)
	}
}

func TestReloadWithoutFile(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "nofile"), "host")
	if _, err := h.OwnFiles(); err != nil {
		t.Fatal(err)
	}
	p := start(t, h, nil, "run")
	p.wait(`"message":"ready"`)
	p.signal(syscall.SIGHUP)
	p.wait("there is no configuration file to read again")
	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 {
		t.Errorf("status %d", status)
	}
}

func TestSystemd(t *testing.T) {
	h := labtest.Host(t, labtest.New(t, "systemd"), "host")
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// expect skips watchdog messages unless it waits for one.
	expect := func(want string) {
		t.Helper()
		buf := make([]byte, 1024)
		for {
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			got := string(buf[:n])
			if strings.HasPrefix(got, want+"\n") {
				return
			}
			if !strings.HasPrefix(got, "WATCHDOG=1\n") {
				t.Fatalf("got %q, want %s", got, want)
			}
		}
	}
	p := start(t, h, []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=100000"}, "run", "-c", writeConfig(t, ""))
	expect("READY=1")
	expect("WATCHDOG=1")
	p.signal(syscall.SIGHUP)
	expect("RELOADING=1")
	expect("READY=1")
	p.signal(syscall.SIGTERM)
	expect("STOPPING=1")
	if status := p.end(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// A second signal does not wait for anybody.
func TestSecondSignalAborts(t *testing.T) {
	var log bytes.Buffer
	d := &daemon{log: zerolog.New(&log), notify: &sdnotify.Notifier{}, metrics: &endpoint{}}
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGHUP // not a wish to stop
	signals <- syscall.SIGINT
	canceled := false
	err := d.stop(func() { canceled = true }, make(chan error), 1, signals)
	if err == nil || !strings.Contains(err.Error(), "aborted by a second signal (interrupt)") || !canceled {
		t.Errorf("got %v, canceled %v", err, canceled)
	}
}

func TestProbe(t *testing.T) {
	hang := make(chan struct{})
	var p probe
	p.ask = func() { <-hang }
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.alive(ctx); err == nil {
		t.Error("workers that hang are alive")
	}
	if err := p.alive(context.Background()); err == nil {
		t.Error("a second question was asked while the first one is open")
	}
	close(hang)
	for p.busy.Load() {
		time.Sleep(time.Millisecond)
	}
	if err := p.alive(context.Background()); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(p.alive(context.Background())); got != "<nil>" {
		t.Error(got)
	}
}

// systemd understands all of the unit files.
func TestUnitFiles(t *testing.T) {
	labtest.NeedProgram(t, "systemd-analyze", "systemd")
	dir := t.TempDir()
	units, err := filepath.Glob("../../deploy/*.service")
	if err != nil || len(units) < 4 {
		t.Fatal(units, err)
	}
	for _, from := range units {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		// Another program, which is there: whether isthmus is installed is not the question.
		unit := filepath.Join(dir, strings.Replace(filepath.Base(from), "@.", "@a.", 1))
		if err := os.WriteFile(unit, bytes.ReplaceAll(text, []byte("/usr/local/bin/isthmus"), []byte("/bin/true")), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", from, err, out)
		}
	}
}
