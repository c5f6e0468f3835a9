package labetcd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"aarch64.com/isthmus/perf/lab"
)

// Member is one etcd server.
type Member struct {
	*lab.Host
	Addr netip.Addr // it serves clients and peers there

	cluster *Cluster
	dir     string // its data
	log     lab.Tail

	mu   sync.Mutex
	cmd  *exec.Cmd     // nil: it has not been started
	done chan struct{} // closed when cmd has ended
	err  error         // how; valid after done
}

// Endpoint is the URL for clients.
func (m *Member) Endpoint() string { return m.url(clientPort) }

func (m *Member) url(port uint16) string {
	return m.cluster.scheme() + "://" + netip.AddrPortFrom(m.Addr, port).String()
}

// Start starts it with the data it had and waits until it serves.
func (m *Member) Start() error {
	if err := m.launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return m.WaitReady(ctx)
}

// Launch starts it without waiting; without a majority it would not serve.
func (m *Member) Launch() error { return m.launch() }

func (m *Member) launch() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running() {
		return fmt.Errorf("%s is running", m.Name())
	}
	c := m.cluster
	args := []string{
		"--name", m.Name(), "--data-dir", m.dir,
		"--listen-client-urls", m.url(clientPort), "--advertise-client-urls", m.url(clientPort),
		"--listen-peer-urls", m.url(peerPort), "--initial-advertise-peer-urls", m.url(peerPort),
		"--initial-cluster", c.initial(), "--initial-cluster-state", "new", "--initial-cluster-token", c.lab.ID(),
		"--heartbeat-interval", strconv.FormatInt(c.config.Heartbeat.Milliseconds(), 10),
		"--election-timeout", strconv.FormatInt(10*c.config.Heartbeat.Milliseconds(), 10),
		"--logger", "zap", "--log-level", "warn",
	}
	if c.config.Quota > 0 {
		args = append(args, "--quota-backend-bytes", strconv.FormatInt(c.config.Quota, 10))
	}
	if c.config.Auth {
		args = append(args, "--bcrypt-cost", "4") // the least: who tests opens many connections
	}
	if c.config.TLS {
		f := c.Files
		args = append(args, "--cert-file", f.ServerCert, "--key-file", f.ServerKey, "--trusted-ca-file", f.CA, "--client-cert-auth",
			"--peer-cert-file", f.ServerCert, "--peer-key-file", f.ServerKey, "--peer-trusted-ca-file", f.CA, "--peer-client-cert-auth")
	}
	cmd := exec.Command(c.config.Program, append(args, c.config.Flags...)...)
	if runtime.GOARCH != "amd64" { // 3.4 takes others for unproven
		cmd.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH="+runtime.GOARCH)
	}
	cmd.Stdout, cmd.Stderr = &m.log, &m.log
	if err := m.Host.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", c.config.Program, err)
	}
	done := make(chan struct{})
	m.cmd, m.done = cmd, done
	go func() {
		m.err = cmd.Wait()
		close(done)
	}()
	return nil
}

// running needs mu.
func (m *Member) running() bool {
	if m.cmd == nil {
		return false
	}
	select {
	case <-m.done:
		return false
	default:
		return true
	}
}

// Running tells whether there is a process, frozen or not.
func (m *Member) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running()
}

// PID is the server's process, or 0 while none runs.
func (m *Member) PID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running() {
		return 0
	}
	return m.cmd.Process.Pid
}

// Kill ends it at once, as a crash would. Its data stay.
func (m *Member) Kill() { m.end(syscall.SIGKILL) }

// Stop ends it in an orderly way: a leader hands over first.
func (m *Member) Stop() { m.end(syscall.SIGTERM) }

func (m *Member) end(s syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running() {
		return
	}
	_ = m.cmd.Process.Signal(s)
	if s != syscall.SIGKILL {
		select {
		case <-m.done:
		case <-time.After(startTimeout):
			_ = m.cmd.Process.Kill()
		}
	}
	<-m.done
}

// Freeze stops the process as it is: its sockets stay open and nobody answers.
func (m *Member) Freeze() error { return m.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (m *Member) Thaw() error { return m.signal(syscall.SIGCONT) }

func (m *Member) signal(s syscall.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running() {
		return fmt.Errorf("%s is not running", m.Name())
	}
	return m.cmd.Process.Signal(s)
}

// Log is the end of what it has said; warnings and errors only.
func (m *Member) Log() string { return m.log.String() }

// Status is what the member says of itself.
func (m *Member) Status(ctx context.Context) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return m.cluster.admin.Status(ctx, m.Endpoint())
}

// WaitReady waits until it serves linearizable reads.
func (m *Member) WaitReady(ctx context.Context) error {
	client, err := m.cluster.Client(m)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		one, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), time.Second)
		_, err := client.Get(one, "ready")
		cancel()
		if err == nil {
			return nil
		}
		m.mu.Lock()
		done := m.done
		m.mu.Unlock()
		if done == nil {
			return fmt.Errorf("%s has not been started", m.Name())
		}
		select {
		case <-done:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", m.Name(), errors.Join(m.err, err), m.Log())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", m.Name(), errors.Join(context.Cause(ctx), err), m.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
