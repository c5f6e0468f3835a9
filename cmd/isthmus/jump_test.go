package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"aarch64.com/isthmus/cmd/internal/control"
	"aarch64.com/isthmus/jump"
	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

const (
	jumpAddr = "[::1]:2222"
	vmAddr   = "2001:db8:64::aa64"
	nobody   = 65534
)

// jumpLab is a host with files for a jump server that runs as nobody, and a VM
// that sends back what it gets on port 22.
type jumpLab struct {
	t      *testing.T
	host   *lab.Host
	dir    string
	file   string // configuration
	socket string
}

func newJumpLab(t *testing.T, more string) *jumpLab {
	t.Helper()
	l := labtest.New(t, "jumpd")
	j := &jumpLab{t: t, host: labtest.Host(t, l, "host")}
	vm := labtest.Host(t, l, "vm")
	dir, err := os.MkdirTemp("", "isthmus-jump-")
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(err, os.Chown(dir, nobody, nobody),
		l.Link(j.host, vm, lab.LinkConfig{NameA: "vm0", NameB: "eth0"}),
		j.host.Addr("vm0", "2001:db8:64::1/64"), vm.Addr("eth0", vmAddr+"/64")); err != nil {
		t.Fatal(err)
	}
	j.dir, j.file, j.socket = dir, filepath.Join(dir, "isthmus.toml"), filepath.Join(dir, "control.sock")
	j.configure("2001:db8:64::/64", more)
	echo, err := vm.Listen("tcp", "["+vmAddr+"]:22")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { echo.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return j
}

// configure writes the configuration.
func (j *jumpLab) configure(prefix, more string) {
	j.t.Helper()
	j.write("isthmus.toml", fmt.Sprintf(`
[router]
state_dir = %q
[control]
socket = %q
[jump]
listen = [%q]
vm_prefixes = [%q]
%s`, j.dir, j.socket, jumpAddr, prefix, more))
}

func (j *jumpLab) write(name, content string) {
	j.t.Helper()
	path := filepath.Join(j.dir, name)
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chown(path, nobody, nobody)); err != nil {
		j.t.Fatal(err)
	}
}

// start starts the jump server alone, as a user without any capability.
func (j *jumpLab) start() *process {
	j.t.Helper()
	p := startAs(j.t, j.host, nobody, nil, "run", "--only", "jump", "-c", j.file)
	p.wait(`"message":"ready"`)
	return p
}

// login logs in as the jump user.
func (j *jumpLab) login(auth ...ssh.AuthMethod) (*ssh.Client, error) {
	raw, err := j.host.Dial(context.Background(), "tcp", jumpAddr)
	if err != nil {
		return nil, err
	}
	config := &ssh.ClientConfig{
		User: "jump", Auth: auth, Timeout: patience, ClientVersion: `SSH-2.0-"test"`,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}
	c, channels, requests, err := ssh.NewClientConn(raw, jumpAddr, config)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// vm connects to the VM, and shows that it answers.
func (j *jumpLab) vm(c *ssh.Client) net.Conn {
	j.t.Helper()
	ch, err := c.Dial("tcp", "["+vmAddr+"]:22")
	if err != nil {
		j.t.Fatal(err)
	}
	j.echo(ch, "hello")
	return ch
}

func (j *jumpLab) echo(ch net.Conn, text string) {
	j.t.Helper()
	if _, err := io.WriteString(ch, text); err != nil {
		j.t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(ch, got); err != nil || string(got) != text {
		j.t.Fatalf("the VM answers %q, %v", got, err)
	}
}

func (j *jumpLab) must(args ...string) string {
	j.t.Helper()
	status, out, errs := isthmus(args...)
	if status != 0 {
		j.t.Fatalf("isthmus %q: %d %s", args, status, errs)
	}
	return out
}

func TestJumpServer(t *testing.T) {
	j := newJumpLab(t, "")
	p := j.start()
	key := filepath.Join(j.dir, "jump", "ssh_host_ed25519_key")
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("host key: %v, %v", info, err)
	}
	if found := leftovers(t, j.host, "vm0"); found != nil {
		t.Errorf("a jump server alone made %q", found)
	}
	c, err := j.login()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ch := j.vm(c)

	var sessions []jump.Session
	if err := json.Unmarshal([]byte(j.must("jump", "sessions", "--json", "--socket", j.socket)), &sessions); err != nil ||
		len(sessions) != 1 || len(sessions[0].Channels) != 1 || sessions[0].Channels[0].Target.String() != vmAddr || sessions[0].Channels[0].Up != 5 {
		t.Errorf("sessions: %+v, %v", sessions, err)
	}
	if out := j.must("jump", "sessions", "--socket", j.socket); !strings.Contains(out, vmAddr+"  5     5") {
		t.Errorf("sessions:\n%s", out)
	}
	if out := j.must("status", "--socket", j.socket); !strings.Contains(out, "jump server    "+jumpAddr) || !strings.Contains(out, "sessions       1, and 0 not logged in") || strings.Contains(out, "pool6") {
		t.Errorf("status:\n%s", out)
	}
	for _, want := range []string{
		`isthmus_jump_logins_total{result="ok"} 1`, `isthmus_jump_connections 1`, `isthmus_jump_channels_open 1`,
		`isthmus_jump_bytes_total{direction="up"} 5`, `isthmus_jump_dial_seconds_count 1`,
	} {
		if _, body := p.get("/metrics"); !strings.Contains(body, want+"\n") {
			t.Errorf("/metrics: no %s", want)
		}
	}
	if code, _ := p.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	if status, _, errs := isthmus("jump", "end", "4711", "--socket", j.socket); status != 1 || !strings.Contains(errs, "there is no session 4711") {
		t.Errorf("end: %d %s", status, errs)
	}
	j.must("jump", "end", fmt.Sprint(sessions[0].ID), "--socket", j.socket)
	if _, err := ch.Read(make([]byte, 1)); err == nil {
		t.Error("the session goes on after its end")
	}
	line := p.wait(`"message":"jump channel"`)
	var audit map[string]any
	if err := json.Unmarshal([]byte(line), &audit); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"client": `"SSH-2.0-\"test\""`, "target": "[" + vmAddr + "]:22", "vm": vmAddr,
		"up_bytes": 5.0, "down_bytes": 5.0, "result": "killed",
	} {
		if audit[key] != want {
			t.Errorf("audit: %s is %v, want %v in %s", key, audit[key], want, line)
		}
	}
	if s := audit["source"]; !strings.HasPrefix(fmt.Sprint(s), "[::1]:") || audit["seconds"].(float64) < audit["dial_seconds"].(float64) {
		t.Errorf("audit: %s", line)
	}
	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
	}
	if _, err := os.Lstat(j.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is still there: %v", err)
	}
}

func TestJumpServerRefusesTheHost(t *testing.T) {
	j := newJumpLab(t, "")
	j.start()
	c, err := j.login()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// An address among the VMs', and loopback.
	for target, why := range map[string]string{"[2001:db8:64::1]:22": "no address of a VM", "[::1]:22": "a special address is no VM's"} {
		if _, err := c.Dial("tcp", target); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %s", target, err, why)
		}
	}
}

func TestJumpReload(t *testing.T) {
	j := newJumpLab(t, "")
	p := j.start()
	c, err := j.login()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	open := j.vm(c)
	secret, line := "", ""
	for field := range strings.Lines(j.must("jump", "token", "project-a")) {
		name, value, _ := strings.Cut(strings.TrimSpace(field), " ")
		if value = strings.TrimSpace(value); name == "token" {
			secret = value
		} else {
			line = value
		}
	}
	// A bad list of tokens changes nothing.
	listed := "access = 'listed'\ntokens = '" + j.dir + "/tokens'\naudit = '" + j.dir + "/audit.json'\n"
	j.write("tokens", "garbage")
	j.configure("2001:db8:65::/64", listed)
	p.signal(syscall.SIGHUP)
	p.wait("tokens:1: write a name")
	p.wait("reload rejected")
	another := j.vm(c)
	another.Close()
	if c, err := j.login(); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}

	// Nor does a host key that has gone: another one would look like an attack.
	key := filepath.Join(j.dir, "jump", "ssh_host_ed25519_key")
	j.configure("2001:db8:65::/64", "")
	if err := os.Rename(key, key+".moved"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	p.wait("ssh_host_ed25519_key: no such file")
	p.wait("reload rejected")
	if err := os.Rename(key+".moved", key); err != nil {
		t.Fatal(err)
	}

	// A good one holds for new logins and channels; what is open stays open.
	j.configure("2001:db8:65::/64", listed)
	j.write("tokens", line+"\n")
	p.signal(syscall.SIGHUP)
	p.wait(`"message":"reloaded"`)
	if _, err := j.login(); err == nil {
		t.Error("let in without a token")
	}
	if _, err := j.login(ssh.Password(secret + "x")); err == nil {
		t.Error("let in with a wrong token")
	}
	member, err := j.login(ssh.Password(secret))
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	for _, client := range []*ssh.Client{c, member} {
		if _, err := client.Dial("tcp", "["+vmAddr+"]:22"); err == nil || !strings.Contains(err.Error(), "no address of a VM") {
			t.Errorf("outside the new prefixes: %v", err)
		}
	}
	j.echo(open, "still here")
	open.Close()
	c.Close()
	member.Close()
	p.signal(syscall.SIGTERM)
	if status := p.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
	}
	content, err := os.ReadFile(filepath.Join(j.dir, "audit.json"))
	if err != nil || !bytes.Contains(content, []byte(`"who":"project-a"`)) || !bytes.Contains(content, []byte(`"result":"refused_target"`)) {
		t.Errorf("audit file: %s, %v", content, err)
	}
	for l := range bytes.Lines(content) {
		if !json.Valid(l) {
			t.Errorf("audit file: %s", l)
		}
	}
}

// A new process takes over while the old one's sessions go on: nobody is turned
// away.
func TestJumpTakeover(t *testing.T) {
	j := newJumpLab(t, "drain_timeout = '1h'\n")
	// The kernel hands over connections that nobody has accepted yet.
	if err := j.host.Sysctl("net.ipv4.tcp_migrate_req", "1"); err != nil {
		t.Fatal(err)
	}
	old := j.start()
	before, err := j.login()
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	session := j.vm(before)

	next := startAs(t, j.host, nobody, nil, "run", "--only", "jump", "-c", j.file)
	next.wait("going on without it until it is free")
	next.wait("taking over the control socket")
	next.wait(`"message":"ready"`)
	old.signal(syscall.SIGTERM)
	old.wait("waits for its sessions to end")
	for range 20 {
		c, err := j.login()
		if err != nil {
			t.Fatalf("while the old process drains: %v", err)
		}
		j.vm(c)
		c.Close()
	}
	j.echo(session, "still here")
	next.wait("metrics endpoint listens")
	if code, _ := next.get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d", code)
	}
	var s status
	answers := func(who string, p *process) {
		t.Helper()
		if err := control.Get(context.Background(), j.socket, statusPath, &s); err != nil || s.PID != p.cmd.Process.Pid {
			t.Errorf("%s: process %d answers on the control socket, %v", who, s.PID, err)
		}
	}
	answers("while the old one drains", next)
	session.Close()
	before.Close()
	if status := old.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(old.seen, "\n"))
	}
	answers("after the old one has ended", next)
	next.signal(syscall.SIGINT)
	if status := next.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(next.seen, "\n"))
	}
}

// How long sessions may go on, and what ends them at once.
func TestJumpDrain(t *testing.T) {
	for _, tt := range []struct {
		name, timeout string
		signals       []syscall.Signal
		status        int
		result        string // in the audit log
	}{
		{"timeout", "1s", []syscall.Signal{syscall.SIGTERM}, 0, "drained"},
		{"SIGINT", "1h", []syscall.Signal{syscall.SIGINT}, 0, "drained"},
		{"second signal", "1h", []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := newJumpLab(t, "drain_timeout = '"+tt.timeout+"'\n")
			p := j.start()
			c, err := j.login()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			j.vm(c)
			for i, s := range tt.signals {
				if i > 0 {
					p.wait("waits for its sessions to end")
				}
				p.signal(s)
			}
			if tt.result != "" {
				p.wait(`"result":"` + tt.result + `"`)
			}
			if status := p.end(); status != tt.status {
				t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
			}
		})
	}
}

// Both services in one process; the router goes on while sessions end.
func TestRouterAndJump(t *testing.T) {
	j := newJumpLab(t, "drain_timeout = '1h'\n")
	p := start(t, j.host, nil, "run", "-c", j.file)
	p.wait(`"message":"ready"`)
	c, err := j.login()
	if err != nil {
		t.Fatal(err)
	}
	session := j.vm(c)
	if out := j.must("status", "--socket", j.socket); !strings.Contains(out, "jump server") || !strings.Contains(out, "isthmus0") {
		t.Errorf("status:\n%s", out)
	}
	p.signal(syscall.SIGTERM)
	p.wait("waits for its sessions to end")
	if found := leftovers(t, j.host, "vm0"); len(found) != 2 {
		t.Errorf("while draining: %q", found)
	}
	session.Close()
	c.Close()
	if status := p.end(); status != 0 {
		t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
	}
	if found := leftovers(t, j.host, "vm0"); found != nil {
		t.Errorf("left behind: %q", found)
	}
}

func TestJumpThatCannotStart(t *testing.T) {
	j := newJumpLab(t, "")
	taken, err := j.host.Listen("tcp", jumpAddr)
	if err != nil {
		t.Fatal(err)
	}
	run := func(file, want string, args ...string) {
		t.Helper()
		p := startAs(t, j.host, nobody, nil, append([]string{"run", "-c", file}, args...)...)
		status := p.end()
		if last := p.seen[len(p.seen)-1]; status != 1 || !strings.HasPrefix(last, "isthmus: ") || !strings.Contains(last, want) {
			t.Errorf("status %d; it said\n%s", status, strings.Join(p.seen, "\n"))
		}
	}
	run(j.file, "listen on "+jumpAddr+": another program has this port, perhaps this host's sshd", "--only", "jump")
	taken.Close()
	run(j.file, "CAP_NET_ADMIN and CAP_NET_RAW missing") // the router wants to run, too
	if err := os.Chmod(filepath.Join(j.dir, "jump", "ssh_host_ed25519_key"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(j.file, "has mode 0644, with which others than its owner can use it", "--only", "jump")
	j.write("low.toml", "[jump]\nlisten = ['[::1]:22']\nvm_prefixes = ['2001:db8::/32']\n")
	run(filepath.Join(j.dir, "low.toml"), "CAP_NET_BIND_SERVICE missing, needed to listen on port 22", "--only", "jump")
	j.write("off.toml", "")
	run(filepath.Join(j.dir, "off.toml"), "--only jump: listen in [jump] is empty", "--only", "jump")
}

func TestJumpKeys(t *testing.T) {
	dir := t.TempDir()
	file := writeConfig(t, fmt.Sprintf("pop = 'dfw'\ndomain = 'example.com'\n[router]\nstate_dir = %q\n[jump]\nlisten = ['[::]:2222']\nvm_prefixes = ['2001:db8::/32']\n", dir))
	if status, _, errs := isthmus("jump", "keys", "-c", file); status != 1 || !strings.Contains(errs, "the first start of the jump server makes it") {
		t.Errorf("without a key: %d %s", status, errs)
	}
	must := func(args ...string) string {
		t.Helper()
		status, out, errs := isthmus(append(args, "-c", file)...)
		if status != 0 {
			t.Fatalf("%q: %d %s", args, status, errs)
		}
		return out
	}
	keys := func() []keyInfo {
		t.Helper()
		var info keysInfo
		if err := json.Unmarshal([]byte(must("jump", "keys", "--json")), &info); err != nil || info.Name != "dfw0.example.com" {
			t.Fatalf("%+v, %v", info, err)
		}
		return info.Keys
	}
	conf, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loadHostKeys(conf, true); err != nil {
		t.Fatal(err)
	}
	first := keys()
	if len(first) != 1 || first[0].State != "current" || !strings.HasPrefix(first[0].SSHFP, "dfw0.example.com. IN SSHFP 4 2 ") ||
		!strings.HasPrefix(first[0].KnownHosts, "[dfw0.example.com]:2222 ssh-ed25519 ") {
		t.Errorf("%+v", first)
	}
	must("jump", "keys", "next")
	if status, _, errs := isthmus("jump", "keys", "next", "-c", file); status != 1 || !strings.Contains(errs, "there is a next key already") {
		t.Errorf("next twice: %d %s", status, errs)
	}
	both := keys()
	if len(both) != 2 || both[0] != first[0] || both[1].State != "next" {
		t.Errorf("%+v", both)
	}
	must("jump", "keys", "switch")
	if after := keys(); len(after) != 1 || after[0].Fingerprint != both[1].Fingerprint || after[0].State != "current" {
		t.Errorf("%+v", after)
	}
	if out := must("jump", "keys"); !strings.Contains(out, "current key  SHA256:") || !strings.Contains(out, "known_hosts  [dfw0") {
		t.Errorf("got\n%s", out)
	}
	if out := must("check"); !strings.Contains(out, "on [::]:2222, lets anyone to port 22 of 2001:db8::/32") {
		t.Errorf("check:\n%s", out)
	}
}

func TestClientWord(t *testing.T) {
	for in, want := range map[string]string{
		"SSH-2.0-OpenSSH_9.2p1 Debian": "SSH-2.0-OpenSSH_9.2p1 Debian",
		"a\nb":                         `"a\nb"`,
		"\x1b[2J":                      `"\x1b[2J"`,
		"\u202egnp":                    `"\u202egnp"`,
		`say "x"`:                      `"say \"x\""`,
		strings.Repeat("x", 200):       strings.Repeat("x", 128) + "...",
	} {
		if got := clientWord(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}
