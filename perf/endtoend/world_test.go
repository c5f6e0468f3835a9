package endtoend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

const (
	// patience bounds what takes milliseconds on an idle machine.
	patience = 30 * time.Second
	// bulkPatience bounds a transfer that loses packets.
	bulkPatience = 60 * time.Second

	servicePort = 7
	pool4       = "100.64.0.0/16"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// setup is one way to run isthmus.
type setup struct {
	name     string
	fastPath bool
	ingress  bool // the fast path also at the VMs' interfaces and the uplink
	shared   bool // no address of its own for any VM
}

var setups = []setup{
	{name: "static_mapping_fast_path", fastPath: true},
	{name: "static_mapping_ingress", fastPath: true, ingress: true},
	{name: "static_mapping_user_space"},
	{name: "shared_address_fast_path", fastPath: true, shared: true},
	{name: "shared_address_user_space", shared: true},
}

// world is a lab with isthmus on its hypervisor.
type world struct {
	*lab.Topology
	t      testing.TB
	dir    string // state_dir
	file   string
	socket string
	daemon *process // the one that runs at the moment
}

// newWorld builds the network. Nothing runs yet.
func newWorld(t testing.TB, c lab.TopologyConfig) *world {
	t.Helper()
	topology, err := labtest.New(t, "endtoend").Build(c)
	must(t, err)
	dir := t.TempDir()
	return &world{
		Topology: topology, t: t, dir: dir,
		file: filepath.Join(dir, "isthmus.toml"), socket: filepath.Join(dir, "control.sock"),
	}
}

// configure writes the configuration; share is what [router.share] has besides
// the address.
func (w *world) configure(s setup, share string) {
	w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "[router]\nallow_private4 = true\nstate_dir = %q\n", w.dir)
	if s.shared {
		fmt.Fprintf(&b, "[router.dynamic]\npool4 = %q\n[router.share]\naddress = 'auto'\n%s\n", pool4, share)
	} else {
		b.WriteString("eam = [\n")
		for _, v := range w.VMs {
			fmt.Fprintf(&b, "  { ipv6 = '%s', ipv4 = '%s' },\n", v.Addr6, v.Addr4)
		}
		b.WriteString("]\n")
	}
	fast := "off"
	if s.fastPath {
		fast = "auto"
	}
	fmt.Fprintf(&b, "[router.kernel]\nfast_path = %q\n", fast)
	if s.ingress {
		fmt.Fprintf(&b, "fast_path_interfaces = ['%s'", lab.WANPort)
		for _, v := range w.VMs {
			fmt.Fprintf(&b, ", '%s'", v.Port)
		}
		b.WriteString("]\n")
	}
	fmt.Fprintf(&b, "[control]\nsocket = %q\n", w.socket)
	must(w.t, os.WriteFile(w.file, []byte(b.String()), 0o600))
}

// process is an isthmus on the hypervisor.
type process struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when it says so
	ended chan struct{} // closed when it has

	mu  sync.Mutex
	log strings.Builder
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// launch starts isthmus and does not wait for it.
func (w *world) launch() *process {
	w.t.Helper()
	p := &process{
		cmd:   exec.Command(labtest.Isthmus(w.t), "run", "-c", w.file),
		ready: make(chan struct{}), ended: make(chan struct{}),
	}
	stderr, err := p.cmd.StderrPipe()
	must(w.t, err)
	must(w.t, w.Hypervisor.Start(p.cmd))
	go func() {
		var once sync.Once
		for s := bufio.NewScanner(stderr); s.Scan(); {
			p.mu.Lock()
			p.log.WriteString(s.Text() + "\n")
			p.mu.Unlock()
			if strings.Contains(s.Text(), `"message":"ready"`) {
				once.Do(func() { close(p.ready) })
			}
		}
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	w.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // most have ended already
		<-p.ended
	})
	return p
}

// start starts isthmus and waits until it is ready.
func (w *world) start() {
	w.t.Helper()
	p := w.launch()
	select {
	case <-p.ready:
	case <-p.ended:
		w.t.Fatalf("isthmus ended before it was ready; it said\n%s", p.said())
	case <-time.After(patience):
		w.t.Fatalf("isthmus is not ready; it said\n%s", p.said())
	}
	w.daemon = p
}

// stop ends isthmus by a signal, and wants status 0 unless it is SIGKILL.
func (w *world) stop(s syscall.Signal) {
	w.t.Helper()
	p := w.daemon
	must(w.t, p.cmd.Process.Signal(s))
	select {
	case <-p.ended:
	case <-time.After(patience):
		w.t.Fatalf("isthmus goes on after %v; it said\n%s", s, p.said())
	}
	if code := p.cmd.ProcessState.ExitCode(); s != syscall.SIGKILL && code != 0 {
		w.t.Fatalf("status %d after %v; it said\n%s", code, s, p.said())
	}
}

// isthmus runs a subcommand that asks the daemon.
func (w *world) isthmus(args ...string) string {
	w.t.Helper()
	out, err := exec.Command(labtest.Isthmus(w.t), append(args, "--socket", w.socket)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("isthmus %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// metric adds up the samples whose name and labels begin so.
func (w *world) metric(prefix string) (sum float64) {
	w.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: w.Hypervisor.Dial, DisableKeepAlives: true}}
	resp, err := client.Get("http://[::1]:9464/metrics")
	must(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(w.t, err)
	found := false
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		fields := strings.Fields(line)
		n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		must(w.t, err)
		sum += n
		found = true
	}
	if !found {
		w.t.Fatalf("no metric %s", prefix)
	}
	return sum
}

// service is where VMs reach the server.
func service(port int) string {
	return netip.AddrPortFrom(lab.Translated(lab.ServerAddr4), uint16(port)).String()
}

// dial connects a VM with the server.
func (w *world) dial(from *lab.Host, l net.Listener) (vm, server *net.TCPConn, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	near, err := from.Dial(ctx, "tcp6", service(l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		return nil, nil, err
	}
	far, err := accept(l)
	if err != nil {
		near.Close()
		return nil, nil, err
	}
	w.t.Cleanup(func() { near.Close(); far.Close() })
	return near.(*net.TCPConn), far, nil
}

// listen opens a listener on a host, for the length of the test.
func (w *world) listen(h *lab.Host, network string, port int) net.Listener {
	w.t.Helper()
	l, err := h.Listen(network, fmt.Sprintf(":%d", port))
	must(w.t, err)
	w.t.Cleanup(func() { l.Close() })
	return l
}

func accept(l net.Listener) (*net.TCPConn, error) {
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	c, err := l.Accept()
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// exchange sends a few bytes each way on a connection.
func exchange(a, b *net.TCPConn) error {
	for _, way := range [][2]*net.TCPConn{{a, b}, {b, a}} {
		if err := errors.Join(way[0].SetDeadline(time.Now().Add(patience)), way[1].SetDeadline(time.Now().Add(patience))); err != nil {
			return err
		}
		if _, err := way[0].Write([]byte("hello")); err != nil {
			return err
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(way[1], got); err != nil {
			return err
		}
		if string(got) != "hello" {
			return fmt.Errorf("%q arrived", got)
		}
	}
	return nil
}

// receiveBuffer makes room for what comes while the test has no CPU.
func receiveBuffer(t testing.TB, c syscall.Conn) {
	t.Helper()
	control(t, c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) })
}

func control(t testing.TB, c syscall.Conn, f func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = f(int(fd)) }))
	must(t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
