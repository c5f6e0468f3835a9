package jump

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// patience bounds what takes milliseconds on an idle machine.
const patience = 30 * time.Second

// Addresses of a world, from the ranges set apart for documentation.
const (
	jump4, jump6     = "198.51.100.1", "2001:db8:1::1"
	client4, client6 = "198.51.100.2", "2001:db8:1::2"
	gateway          = "2001:db8:64::1" // the hypervisor's own, inside the VMs' prefix
	vmAddr           = "2001:db8:64::aa64"
	absentVM         = "2001:db8:64::dead" // nobody answers
	vmPrefix         = "2001:db8:64::/64"
)

// world is a client, a hypervisor with a jump server, and a VM:
//
//	client eth0 --- eth0 hypervisor vm0 --- eth0 vm
//
// The client has no route to the VM.
type world struct {
	t                      testing.TB
	client, hypervisor, vm *lab.Host
	dir                    string // for files of the client's
	server                 *Server
	vmKey                  ssh.PublicKey // of the VM's sshd
	port                   string        // that the server listens on

	mu      sync.Mutex
	records []Record
	news    chan struct{} // closed and made anew with each record
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld builds the network and starts a jump server on port 22.
func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	l := labtest.New(t, "jump")
	w := &world{
		t: t, client: labtest.Host(t, l, "client"), hypervisor: labtest.Host(t, l, "hypervisor"), vm: labtest.Host(t, l, "vm"),
		dir: t.TempDir(), port: "22", news: make(chan struct{}),
	}
	fast := lab.LinkConfig{ChecksumOffload: true, GRO: true}
	must(t, l.Link(w.client, w.hypervisor, fast))
	fast.NameB = "vm0"
	must(t, l.Link(w.vm, w.hypervisor, fast))
	for _, a := range []struct {
		host       *lab.Host
		port, cidr string
	}{
		{w.client, "eth0", client4 + "/24"},
		{w.client, "eth0", client6 + "/64"},
		{w.hypervisor, "eth0", jump4 + "/24"},
		{w.hypervisor, "eth0", jump6 + "/64"},
		{w.hypervisor, "vm0", gateway + "/64"},
		{w.vm, "eth0", vmAddr + "/64"},
	} {
		must(t, a.host.Addr(a.port, a.cidr))
	}
	w.serve(change)
	return w
}

// serve starts the jump server, which ends with the test.
func (w *world) serve(change func(*Config)) {
	t := w.t
	t.Helper()
	config := Config{
		VMPrefixes: prefixes(vmPrefix),
		Reach:      reachIn(vmPrefix, gateway),
		HostKeys:   []ssh.Signer{newKey(w.t)},
		Audit:      w.audit,
		Log:        func(_ bool, message string) { t.Log(message) },
		within:     w.hypervisor.Do,
	}
	if change != nil {
		change(&config)
	}
	s, err := New(config)
	must(w.t, err)
	var l net.Listener
	must(w.t, w.hypervisor.Do(func() (err error) {
		l, err = Listen(context.Background(), ":"+w.port)
		return err
	}))
	w.server = s
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() { s.Watch(ctx); close(watched) }()
	w.t.Cleanup(func() {
		cancel()
		<-watched
		s.Shutdown(ctx)
		if err := <-served; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
	})
}

// newKey makes an Ed25519 key.
func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return signer
}

// keyFile makes an Ed25519 key and keeps it in a file that OpenSSH reads.
func keyFile(t testing.TB, path string) ssh.PublicKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	must(t, err)
	must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	must(t, os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o600))
	return signer.PublicKey()
}

func (w *world) audit(r Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = append(w.records, r)
	close(w.news)
	w.news = make(chan struct{})
}

// sub makes t the one that fails, until its end.
func (w *world) sub(t testing.TB) {
	before := w.t
	w.t = t
	t.Cleanup(func() { w.t = before })
}

// record takes the next record that has not been taken, and waits for it.
func (w *world) record() Record {
	w.t.Helper()
	timeout := time.After(patience)
	for {
		w.mu.Lock()
		news := w.news
		if len(w.records) > 0 {
			r := w.records[0]
			w.records = w.records[1:]
			w.mu.Unlock()
			return r
		}
		w.mu.Unlock()
		select {
		case <-news:
		case <-timeout:
			w.t.Fatal("no record in the audit log")
		}
	}
}

// ended takes the next record and compares how it ended.
func (w *world) ended(want End) Record {
	w.t.Helper()
	r := w.record()
	if r.End != want {
		w.t.Errorf("the channel to %s ended with %v, want %v", r.Target, r.End, want)
	}
	return r
}

// wait waits until a condition holds.
func (w *world) wait(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not in %v", what, patience)
		}
	}
}

// sshd starts OpenSSH's server on port 22 of the VM. root gets in with the
// client's key, and nobody else does.
func (w *world) sshd() {
	w.t.Helper()
	labtest.NeedProgram(w.t, "ssh", "openssh-client")
	labtest.NeedProgram(w.t, "sshd", "openssh-server")
	dir := w.t.TempDir()
	w.vmKey = keyFile(w.t, filepath.Join(dir, "host"))
	keyFile(w.t, filepath.Join(w.dir, "key"))
	config := filepath.Join(dir, "sshd_config")
	must(w.t, os.WriteFile(config, fmt.Appendf(nil, `Port 22
HostKey %s/host
AuthorizedKeysFile %s/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PidFile none
UseDNS no
MaxSessions 20
MaxStartups 100
Subsystem sftp internal-sftp
`, dir, w.dir), 0o600))
	// sshd insists on /run/sshd, which not every machine has.
	own, err := w.vm.OwnFiles()
	must(w.t, err)
	must(w.t, os.Mkdir(filepath.Join(own, "run", "sshd"), 0o755))
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", config)
	cmd.Stderr = &testLog{w.t}
	must(w.t, w.vm.Start(cmd))
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	w.wait("sshd listens", func() bool {
		c, err := w.hypervisor.Dial(context.Background(), "tcp6", "["+vmAddr+"]:22")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	w.sshConfig()
}

// sshConfig gives the client a home of its own, with a configuration for ssh.
func (w *world) sshConfig() {
	w.t.Helper()
	me, err := user.Current()
	must(w.t, err)
	must(w.t, os.MkdirAll(filepath.Join(w.dir, ".ssh"), 0o700))
	must(w.t, os.WriteFile(w.file("ssh_config"), fmt.Appendf(nil, `IdentityFile %[1]s/key
IdentitiesOnly yes
UserKnownHostsFile %[1]s/known_hosts
GlobalKnownHostsFile none
StrictHostKeyChecking accept-new
BatchMode yes
ConnectTimeout 20
`, w.dir), 0o600))
	must(w.t, w.client.Cover(me.HomeDir, w.dir))
}

// file is the path of one of the client's files.
func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

// testLog is a program's output as part of the test's.
type testLog struct{ t testing.TB }

func (l *testLog) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		l.t.Log(strings.TrimSpace(line))
	}
	return len(p), nil
}

// result is what a program said.
type result struct {
	out, err string
	status   int
}

// run runs a program on the client until it ends.
func (w *world) run(name string, args ...string) result {
	w.t.Helper()
	return w.runWith("", name, args...)
}

// runWith runs a program with standard input.
func (w *world) runWith(input, name string, args ...string) result {
	w.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	must(w.t, w.client.Start(cmd))
	timer := time.AfterFunc(2*patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// background runs a program on the client until the test ends.
func (w *world) background(name string, args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &testLog{w.t}, &testLog{w.t}
	must(w.t, w.client.Start(cmd))
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// ok fails the test unless the program succeeded and wrote what it should.
func (w *world) ok(r result, want string) {
	w.t.Helper()
	if r.status != 0 || r.out != want {
		w.t.Errorf("status %d, output %.200q, want %q; errors: %s", r.status, r.out, want, r.err)
	}
}
