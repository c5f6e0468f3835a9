package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/perf/lab"
)

const (
	metricsListen = "[::1]:9464"
	tunDevice     = "isthmus0"
	readyTimeout  = 20 * time.Second
	stopTimeout   = 10 * time.Second
	lastLines     = 15
)

// daemon is `isthmus run` as a child process in the hypervisor's namespace.
type daemon struct {
	host   *lab.Host
	http   *http.Client // reaches the metrics endpoint
	file   string       // its configuration, "" for none
	socket string       // where `isthmus status` reaches it
	cmd    *exec.Cmd
	log    tail
	done   chan struct{} // closed when the process has ended
	err    error         // how it ended; valid after done
	took   time.Duration // until it was ready
}

// configuration is the file that isthmus gets. Its control socket is apart from
// that of an isthmus that this machine may run for real.
func configuration(p Path, vms []*lab.VM, socket string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[router]\npool6 = [%q]\neam = [\n", lab.Pool6)
	for _, v := range vms {
		fmt.Fprintf(&b, "  { ipv6 = \"%s/128\", ipv4 = \"%s/32\" },\n", v.Addr6, v.Addr4)
	}
	b.WriteString("]\n# The demo's IPv4 addresses are documentation ones (RFC 5737).\nallow_private4 = true\n")
	if p == XDP {
		for _, v := range vms {
			fmt.Fprintf(&b, "\n[[router.port]]\ninterface = %q\n", v.Port)
		}
		fmt.Fprintf(&b, "\n[[router.port]]\ninterface = %q\n", lab.WANPort)
	}
	fmt.Fprintf(&b, "\n[router.kernel]\ninterface = %q\n\n[metrics]\nlisten = %q\n\n[control]\nsocket = %q\n", tunDevice, metricsListen, socket)
	return b.String()
}

func newDaemon(h *lab.Host) *daemon {
	return &daemon{
		host: h, done: make(chan struct{}),
		http: &http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}},
	}
}

// startDaemon starts isthmus and waits until it says that it is ready.
func startDaemon(ctx context.Context, binary string, p Path, t *lab.Topology) (*daemon, error) {
	start := time.Now()
	d := newDaemon(t.Hypervisor)
	if p == Share {
		// The machine may run an isthmus for real, with the same paths.
		dir, err := d.host.OwnFiles()
		if err != nil {
			return nil, err
		}
		d.socket = filepath.Join(dir, config.Default().Control.Socket)
		d.cmd = exec.Command(binary, "run")
	} else {
		dir, err := d.host.Dir()
		if err != nil {
			return nil, err
		}
		d.file, d.socket = filepath.Join(dir, "isthmus.toml"), filepath.Join(dir, "control.sock")
		if err := os.WriteFile(d.file, []byte(configuration(p, t.VMs, d.socket)), 0o644); err != nil {
			return nil, err
		}
		d.cmd = exec.Command(binary, "run", "-c", d.file)
	}
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	// A Ctrl-C on the terminal is for us; isthmus is told by stop.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.host.Start(d.cmd); err != nil {
		return nil, fmt.Errorf("start isthmus: %w", err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	if err := d.waitReady(ctx); err != nil {
		_ = d.stop()
		return nil, err
	}
	d.took = time.Since(start)
	return d, nil
}

func (d *daemon) waitReady(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	answer := errors.New("no answer")
	for {
		select {
		case <-d.done:
			return fmt.Errorf("isthmus ended before it was ready: %v\n%s", d.err, d.lastWords())
		case <-limit.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("isthmus is not ready after %v: http://%s/readyz: %w\n%s", readyTimeout, metricsListen, answer, d.lastWords())
		case <-poll.C:
			if _, answer = d.get(limit, "/readyz"); answer == nil {
				return nil
			}
		}
	}
}

// get fetches a path of the metrics endpoint.
func (d *daemon) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metricsListen+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return string(body), err
}

// stop asks isthmus to end for good (SIGTERM would leave something for the next
// start), and makes it end when it doesn't. It may be called again.
func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-d.done:
	case <-time.After(stopTimeout):
		_ = d.cmd.Process.Kill()
		<-d.done
		return fmt.Errorf("isthmus did not end within %v of SIGINT and was killed", stopTimeout)
	}
	if d.err != nil {
		return fmt.Errorf("isthmus ended with %w", d.err)
	}
	return nil
}

// lastWords are the last lines of isthmus's log, indented.
func (d *daemon) lastWords() string {
	lines := d.log.lines()
	if len(lines) == 0 {
		return "it logged nothing"
	}
	return "the last lines of its log:\n  " + strings.Join(lines, "\n  ")
}

// tail keeps the last lines of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	for n := bytes.Count(t.text, []byte("\n")); n > lastLines; n-- {
		t.text = t.text[bytes.IndexByte(t.text, '\n')+1:]
	}
	return len(p), nil
}

// lines are the last lines, in a form for people where they are JSON.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimRight(string(t.text), "\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = readable(lines[i])
	}
	return lines
}

// readable turns a JSON line of a log into level, message, key=value.
func readable(line string) string {
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil || fields["message"] == nil {
		return line
	}
	out := fmt.Sprintf("%-5v %v", fields["level"], fields["message"])
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		if k != "level" && k != "message" && k != "time" {
			out += fmt.Sprintf(" %s=%v", k, fields[k])
		}
	}
	return out
}
