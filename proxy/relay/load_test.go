package relay

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// Tests that need descriptors of their own have another process do the rest: it
// is this binary again, told by this variable what to be.
const role = "RELAY_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "relay":
		os.Exit(relayProcess())
	}
	os.Exit(m.Run())
}

// relayProcess serves LISTEN for BACKEND with at most FILES descriptors until
// its input ends. It tells what it has then.
func relayProcess() int {
	var files uint64
	if _, err := fmt.Sscan(os.Getenv("FILES"), &files); err == nil {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files})
	}
	at, good := netip.MustParseAddrPort(os.Getenv("LISTEN")), netip.MustParseAddrPort(os.Getenv("BACKEND"))
	// The runtime opens its poller with the first pipe.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	before := descriptors()
	goroutines := runtime.NumGoroutine()
	s, err := New(Config{Loops: 2, ConnectTimeout: patience}, []netip.AddrPort{at}, to(good))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		runtime.GC()
		st := s.Stats()
		fmt.Printf("open %d descriptors %d goroutines %d rss %d failed %d starved %d\n", st.Open, descriptors()-before,
			runtime.NumGoroutine()-goroutines, residentSize(), st.AcceptFailed, st.DialStarved)
	}
	s.Shutdown(context.Background())
	for n := 0; runtime.NumGoroutine() > goroutines && n < 100; n++ {
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Printf("descriptors %d goroutines %d\n", descriptors()-before, runtime.NumGoroutine()-goroutines)
	return 0
}

func descriptors() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// residentSize is in KB.
func residentSize() (kb int) {
	b, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	_, _ = fmt.Sscan(after, &kb)
	return kb
}

// process is a relay in another process.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startProcess(t testing.TB, at, good netip.AddrPort, files int) *process {
	t.Helper()
	cmd := labtest.Self()
	cmd.Env = append(os.Environ(), role+"=relay", fmt.Sprint("LISTEN=", at), fmt.Sprint("BACKEND=", good))
	if files > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprint("FILES=", files))
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p := &process{t: t, cmd: cmd, in: in, lines: bufio.NewScanner(out)}
	if l := p.line(); l != "ready" {
		t.Fatal(l)
	}
	return p
}

func (p *process) line() string {
	p.t.Helper()
	if !p.lines.Scan() {
		p.t.Fatal("the relay's process has ended")
	}
	return p.lines.Text()
}

// status is what it has.
func (p *process) status() (open, descriptors, goroutines, rss, failed, starved int) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, "status\n"); err != nil {
		p.t.Fatal(err)
	}
	l := p.line()
	if _, err := fmt.Sscanf(l, "open %d descriptors %d goroutines %d rss %d failed %d starved %d",
		&open, &descriptors, &goroutines, &rss, &failed, &starved); err != nil {
		p.t.Fatal(l, err)
	}
	return
}

// stop has it shut down and tells whether it left anything.
func (p *process) stop() {
	p.t.Helper()
	p.in.Close()
	if l := p.line(); l != "descriptors 0 goroutines 0" {
		p.t.Errorf("after shutdown: %s", l)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Error(err)
	}
}

// Without descriptors connections wait; none is lost.
func TestOutOfDescriptors(t *testing.T) {
	const clients = 120
	at := unused(t)
	p := startProcess(t, at, backend(t, echo), 60)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(at))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(2 * patience))
			data := noise(40000, uint64(i))
			go func() { _, _ = c.Write(data); time.Sleep(50 * time.Millisecond); _ = c.CloseWrite() }()
			if got, err := io.ReadAll(c); err != nil || string(got) != string(data) {
				t.Errorf("%d bytes came back of %d, %v", len(got), len(data), err)
			}
		})
	}
	all.Wait()
	open, _, _, _, failed, starved := p.status()
	if open != 0 || failed+starved == 0 {
		t.Errorf("%d are open; accepting failed %d times and dialling %d times", open, failed, starved)
	}
	p.stop()
}

// 10,000 idle connections and 500 active ones. The relay's process has two
// sockets for each, and so has this one: the number is what RLIMIT_NOFILE lets.
func TestManyConnections(t *testing.T) {
	idle, active := 10000, 500
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max})
	if most := (int(limit.Max)-200)/2 - active; most < idle {
		t.Logf("RLIMIT_NOFILE is %d: %d idle connections instead of %d", limit.Max, most, idle)
		idle = most
	}
	if testing.Short() || raceEnabled {
		idle /= 10
	}
	at := unused(t)
	p := startProcess(t, at, backend(t, func(c *net.TCPConn) {
		_ = c.SetDeadline(time.Time{})
		echo(c)
	}), 0)
	_, baseFiles, _, baseRSS, _, _ := p.status()
	conns := make([]*net.TCPConn, idle)
	var all sync.WaitGroup
	for w := range 50 {
		all.Go(func() {
			for i := w; i < idle; i += 50 {
				c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(at))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err = c.Write([]byte("a")); err == nil {
					_, err = io.ReadFull(c, make([]byte, 1))
				}
				if err != nil {
					t.Error(err)
				}
				conns[i] = c
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	open, files, _, rss, _, _ := p.status()
	t.Logf("%d idle connections: %d descriptors, %d KB resident more, %.2f KB each", open, files-baseFiles, rss-baseRSS, float64(rss-baseRSS)/float64(idle))
	if open != idle || files-baseFiles != 2*idle {
		t.Errorf("%d open and %d descriptors for %d connections", open, files-baseFiles, idle)
	}
	for i := range active {
		all.Go(func() {
			c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(at))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			data := noise(300000, uint64(i))
			go func() { _, _ = c.Write(data); _ = c.CloseWrite() }()
			if got, err := io.ReadAll(c); err != nil || string(got) != string(data) {
				t.Errorf("%d bytes came back of %d, %v", len(got), len(data), err)
			}
		})
	}
	all.Wait()
	// Those that were idle are alive.
	for _, c := range conns {
		if _, err := c.Write([]byte("z")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	eventually(t, "all to end", func() bool { open, _, _, _, _, _ := p.status(); return open == 0 })
	_, files, goroutines, _, _, _ := p.status()
	// Empty pipes are kept for the next.
	if files-baseFiles > 2*2*pipesKept || goroutines != 2 {
		t.Errorf("%d descriptors and %d goroutines are left", files-baseFiles, goroutines)
	}
	p.stop()
}
