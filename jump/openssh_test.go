package jump

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// via are the addresses that clients come to.
var via = []string{"jump@" + jump4, "jump@[" + jump6 + "]"}

// roomy lets one client do what a few dozen people would in a minute.
func roomy(c *Config) { c.Limits.DialsPerMinute = 1000 }

// ssh runs OpenSSH's client.
func (w *world) ssh(args ...string) result {
	w.t.Helper()
	return w.run("ssh", append([]string{"-F", w.file("ssh_config")}, args...)...)
}

// randomFile makes a file for transfers, and gives its content.
func (w *world) randomFile(name string, size int) []byte {
	w.t.Helper()
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32.32s", name)))).Read(b)
	must(w.t, os.MkdirAll(filepath.Dir(w.file(name)), 0o755))
	must(w.t, os.WriteFile(w.file(name), b, 0o600))
	return b
}

// same compares a file with what was sent.
func (w *world) same(name string, want []byte) {
	w.t.Helper()
	got, err := os.ReadFile(w.file(name))
	if err != nil || !bytes.Equal(got, want) {
		w.t.Errorf("%s: %d bytes instead of %d, or others; %v", name, len(got), len(want), err)
	}
	if err := os.Remove(w.file(name)); err != nil && !os.IsNotExist(err) {
		w.t.Error(err)
	}
}

const fileSize = 5 << 20

// What people do with OpenSSH's programs, by IPv4 and IPv6.
func TestOpenSSH(t *testing.T) {
	w := newWorld(t, roomy)
	w.sshd()
	data := w.randomFile("data", fileSize)
	config, vm := w.file("ssh_config"), "root@["+vmAddr+"]:"
	up, down := w.file("up"), w.file("down")
	jump := func(v string) {
		w.ok(w.ssh("-J", v, "root@"+vmAddr, "echo hello"), "hello\n")
		r := w.ended(Finished)
		if r.Target != "["+vmAddr+"]:22" || r.Dialled.String() != vmAddr || r.Up < 1000 || r.Down < 1000 ||
			!strings.HasPrefix(r.Version, "SSH-2.0-OpenSSH") || r.Took < r.Dial || r.Dial <= 0 {
			w.t.Errorf("audit: %+v", r)
		}
		if from := r.Source.Addr().String(); from != client4 && from != client6 {
			w.t.Errorf("audit: comes from %s", from)
		}
	}
	for i, test := range []struct {
		name string
		do   func(v string)
	}{
		{"jump", jump},
		{"jump by the other protocol", jump},
		{"stdio", func(v string) {
			w.ok(w.ssh("-o", "ProxyCommand=ssh -F "+config+" -W [%h]:%p "+strings.NewReplacer("[", "", "]", "").Replace(v), "root@"+vmAddr, "echo hello"), "hello\n")
		}},
		{"configuration", func(v string) {
			whole, err := os.ReadFile(config)
			must(w.t, err)
			must(w.t, os.WriteFile(w.file("with_jump"), fmt.Appendf(whole, "Host 2001:db8:64:*\nProxyJump %s\n", v), 0o600))
			w.ok(w.run("ssh", "-F", w.file("with_jump"), "root@"+vmAddr, "echo hello"), "hello\n")
		}},
		{"scp", func(v string) {
			w.ok(w.run("scp", "-F", config, "-J", v, w.file("data"), vm+up), "")
			w.ok(w.run("scp", "-F", config, "-J", v, vm+up, down), "")
			w.same("down", data)
			w.same("up", data)
		}},
		{"scp_old_protocol", func(v string) {
			w.ok(w.run("scp", "-O", "-F", config, "-J", v, w.file("data"), vm+up), "")
			w.ok(w.run("scp", "-O", "-F", config, "-J", v, vm+up, down), "")
			w.same("down", data)
			w.same("up", data)
		}},
		{"sftp", func(v string) {
			batch := fmt.Sprintf("put %s %s\nget %s %s\n", w.file("data"), up, up, down)
			r := w.runWith(batch, "sftp", "-b", "-", "-F", config, "-J", v, "root@["+vmAddr+"]")
			if r.status != 0 {
				w.t.Errorf("sftp: %+v", r)
			}
			w.same("down", data)
			w.same("up", data)
		}},
		{"rsync", func(v string) {
			labtest.NeedProgram(w.t, "rsync", "rsync")
			shell := "ssh -F " + config + " -J " + v
			w.ok(w.run("rsync", "-a", "-e", shell, w.file("data"), vm+up), "")
			w.ok(w.run("rsync", "-az", "-e", shell, vm+up, down), "")
			w.same("down", data)
			w.same("up", data)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.sub(t)
			test.do(via[i%2])
			w.finished()
		})
	}
}

// finished waits until no channel is open, and takes all records: each has to
// be of an ordinary end.
func (w *world) finished() {
	w.t.Helper()
	w.wait("all channels end", func() bool { return w.server.Stats().Open == 0 })
	for {
		w.mu.Lock()
		n := len(w.records)
		w.mu.Unlock()
		if n == 0 {
			return
		}
		w.ended(Finished)
	}
}

// parallel runs one thing many times at once.
func parallel(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// socket waits until a program has made a socket or file.
func (w *world) socket(name string) {
	w.t.Helper()
	w.wait(name+" is there", func() bool {
		_, err := os.Stat(w.file(name))
		return err == nil
	})
}

// Ten sessions in one channel: the connection to the VM is shared.
func TestSharedSession(t *testing.T) {
	w := newWorld(t, roomy)
	w.sshd()
	master := w.background("ssh", "-F", w.file("ssh_config"), "-J", via[0], "-M", "-S", w.file("vm.sock"), "-N", "root@"+vmAddr)
	w.socket("vm.sock")
	parallel(10, func(i int) {
		w.ok(w.ssh("-S", w.file("vm.sock"), "root@"+vmAddr, fmt.Sprint("echo ", i)), fmt.Sprintln(i))
	})
	if n := w.server.Stats().Open; n != 1 {
		t.Errorf("%d channels for shared sessions", n)
	}
	must(t, master.Process.Kill())
	w.finished()
}

// Ten channels in one connection: the connection to the jump server is shared.
func TestSharedConnection(t *testing.T) {
	w := newWorld(t, roomy)
	w.sshd()
	sock := w.file("jump.sock")
	master := w.background("ssh", "-F", w.file("ssh_config"), "-M", "-S", sock, "-N", "jump@"+jump6)
	w.socket("jump.sock")
	parallel(10, func(i int) {
		proxy := "ProxyCommand=ssh -F " + w.file("ssh_config") + " -S " + sock + " -W [%h]:%p jump@" + jump6
		w.ok(w.ssh("-o", proxy, "root@"+vmAddr, fmt.Sprint("echo ", i)), fmt.Sprintln(i))
	})
	if s := w.server.Stats(); s.Connections != 1 || s.Logins[LoggedIn] != 1 {
		t.Errorf("%d connections, %d logins", s.Connections, s.Logins[LoggedIn])
	}
	w.finished()
	must(t, master.Process.Kill())
}

// A port of the client's that leads to the VM.
func TestLocalForward(t *testing.T) {
	w := newWorld(t, roomy)
	w.sshd()
	w.background("ssh", "-F", w.file("ssh_config"), "-N", "-L", "2222:["+vmAddr+"]:22", "-L", w.file("vm22")+":["+vmAddr+"]:22", "jump@"+jump4)
	w.socket("vm22") // the last one
	for range 3 {
		w.ok(w.ssh("-p", "2222", "root@127.0.0.1", "echo hello"), "hello\n")
	}
	w.finished()
}
