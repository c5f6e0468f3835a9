package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"aarch64.com/isthmus/perf/lab"
)

// stopTimeout bounds the wait for a program that was asked to end.
const stopTimeout = 10 * time.Second

// Process is a program that runs in one of the hosts.
type Process struct {
	Cmd  *exec.Cmd
	log  string        // file
	Done chan struct{} // closed when it has ended
	Err  error         // how it ended; valid after Done
}

// StartProcess starts the command; what it prints goes to a file in dir.
func StartProcess(h *lab.Host, dir string, cmd *exec.Cmd) (*Process, error) {
	name := filepath.Base(cmd.Args[0])
	f, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	defer f.Close() // the child has its own
	cmd.Stdout, cmd.Stderr = f, f
	// A Ctrl-C on the terminal is for us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &Process{Cmd: cmd, log: f.Name(), Done: make(chan struct{})}
	if err := h.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.Err = cmd.Wait()
		close(p.Done)
	}()
	return p, nil
}

// Stop asks the program to end, and makes it end when it doesn't.
func (p *Process) Stop() error {
	// SIGTERM would have isthmus leave routes for its next start, which are in
	// the way of others.
	_ = p.Cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.Done:
		return nil
	case <-time.After(stopTimeout):
		_ = p.Cmd.Process.Kill()
		<-p.Done
		return fmt.Errorf("%s did not end within %v of SIGINT and was killed", p.Cmd.Path, stopTimeout)
	}
}

// WaitListening waits until something in the namespace listens on the TCP port. It
// looks it up, since iperf3 takes a connection for a measurement.
func (p *Process) WaitListening(h *lab.Host, port int) error {
	// The local address of a listening socket of either family (proc_net_tcp.rst).
	want := fmt.Sprintf(":%04X 00000000000000000000000000000000:0000 0A", port)
	for deadline := time.Now().Add(stopTimeout); ; time.Sleep(5 * time.Millisecond) {
		var table []byte
		err := h.Do(func() (err error) { table, err = os.ReadFile("/proc/thread-self/net/tcp6"); return err })
		if err != nil {
			return err
		}
		if strings.Contains(string(table), want) {
			return nil
		}
		select {
		case <-p.Done:
			return fmt.Errorf("%s ended: %v\n%s", p.Cmd.Path, p.Err, p.Said())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen on port %d\n%s", p.Cmd.Path, port, p.Said())
		}
	}
}

// Said is the end of what the program printed, for error messages.
func (p *Process) Said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// Keep writes a file into /var/lib of a host that has files of its own, and returns
// its path there.
func Keep(h *lab.Host, name string, content []byte) (string, error) {
	dir, err := h.Dir()
	if err != nil {
		return "", err
	}
	return "/var/lib/" + name, os.WriteFile(filepath.Join(dir, "lib", name), content, 0o600)
}
