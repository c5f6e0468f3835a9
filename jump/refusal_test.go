package jump

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What OpenSSH's user sees who wants something else than to jump. Options of the
// real command are those between ssh and the destination.
func TestRefusals(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Timeouts.Dial = time.Second })
	w.sshd()
	const prohibited = "open failed: administratively prohibited: "
	for _, test := range []struct {
		name string
		args string // @@ is the jump server's address
		want string // in what ssh says
		end  End    // Running: not audited
	}{
		{"other port", "-W [" + vmAddr + "]:25 jump@@", prohibited + "only port 22 of VMs is reached", RefusedPort},
		{"other address", "-W [2001:db8:99::1]:22 jump@@", prohibited + "no address of a VM", RefusedTarget},
		{"the hypervisor itself", "-W [" + gateway + "]:22 jump@@", prohibited + "no address of a VM", RefusedTarget},
		{"loopback", "-W [::1]:22 jump@@", prohibited + "no address of a VM", RefusedTarget},
		{"IPv4", "-W 192.0.2.1:22 jump@@", prohibited + "VMs have IPv6 addresses only", RefusedTarget},
		{"name", "-W localhost:22 jump@@", prohibited + "give the VM's IPv6 address, not a name", RefusedTarget},
		{"nobody there", "-W [" + absentVM + "]:22 jump@@", "open failed: connect failed: connect failed", DialFailed},
		{"remote forwarding", "-o ExitOnForwardFailure=yes -N -R 8080:localhost:80 jump@@", "remote port forwarding failed for listen port 8080", Running},
		{"remote forwarding of a socket", "-o ExitOnForwardFailure=yes -N -R /tmp/x.sock:localhost:80 jump@@", "remote port forwarding failed for listen path /tmp/x.sock", Running},
		{"the jump server as destination of ssh -J", "-J jump@@ root@" + gateway + " true", prohibited + "no address of a VM", RefusedTarget},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.sub(t)
			r := w.ssh(strings.Fields(strings.ReplaceAll(test.args, "@@", "@"+jump4))...)
			if r.status != 255 || !strings.Contains(r.err, test.want) {
				t.Errorf("status %d, want 255 and %q:\n%s%s", r.status, test.want, r.out, r.err)
			}
			if test.end != Running {
				w.ended(test.end)
			}
		})
	}
}

// command finds the line with the command in a help text.
var command = regexp.MustCompile(`(?m)^  ((?:ssh|sftp) -J .*?)\r?$`)

// Whoever logs in to the jump server itself is told the command that goes on, for
// the VM that they seem to mean. It works as it stands there.
func TestHelp(t *testing.T) {
	w := newWorld(t, nil)
	w.sshd()
	shell := filepath.Join(w.dir, "functions")
	must(t, os.WriteFile(shell, fmt.Appendf(nil, "ssh() { command ssh -F %[1]s/ssh_config \"$@\"; }\nsftp() { command sftp -F %[1]s/ssh_config \"$@\"; }\n", w.dir), 0o600))
	for _, test := range []struct {
		name string
		args []string
		want string
		does bool // what the text says is tried
	}{
		{"shell", []string{"-T", "jump@" + jump4}, "ssh -J jump@" + jump4 + " root@" + vmAddr, true},
		{"shell with a terminal", []string{"-tt", "jump@" + jump4}, "ssh -J jump@" + jump4 + " root@" + vmAddr, true},
		{"IPv6", []string{"jump@" + jump6}, "ssh -J jump@'[" + jump6 + "]' root@" + vmAddr, true},
		{"command", []string{"jump@" + jump4, "ssh", "alice@2001:db8:64::7", "uptime"}, "ssh -J jump@" + jump4 + " alice@2001:db8:64::7", false},
		{"address", []string{"jump@" + jump4, "'[2001:db8:64::7]:22'"}, "ssh -J jump@" + jump4 + " root@2001:db8:64::7", false},
		{"nothing of a client's comes back", []string{"jump@" + jump4, "ssh '-oProxyCommand=evil@2001:db8:64::7'"}, "ssh -J jump@" + jump4 + " root@2001:db8:64::7", false},
		{"files", []string{"-s", "jump@" + jump4, "sftp"}, "sftp -J jump@" + jump4 + " 'root@[" + vmAddr + "]'", true},
		{"agent and display", []string{"-A", "-X", "jump@" + jump4}, "ssh -J jump@" + jump4 + " root@" + vmAddr, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.sub(t)
			r := w.ssh(test.args...)
			m := command.FindStringSubmatch(r.err)
			if r.status != 1 || r.out != "" || m == nil || m[1] != test.want || strings.Contains(r.err, "evil") {
				t.Errorf("status %d, want 1 and %q:\n%s%s", r.status, test.want, r.out, r.err)
				return
			}
			if !test.does {
				return
			}
			input := "echo hello\n"
			if strings.HasPrefix(m[1], "sftp") {
				input = "pwd\n"
			}
			did := w.runWith(input, "bash", "-c", ". "+shell+"; "+m[1])
			if did.status != 0 || did.out == "" {
				t.Errorf("%s: %+v", m[1], did)
			}
		})
	}
}

// A wrong user is told the right one, and how to use it, before being refused;
// the right one sees nothing of that.
func TestBanner(t *testing.T) {
	w := newWorld(t, nil)
	w.sshd()
	r := w.ssh("root@"+jump4, "true")
	if r.status != 255 || !strings.Contains(r.err, `its user is "jump"`) || !strings.Contains(r.err, "ssh -J jump@"+jump4+" root@") || !strings.Contains(r.err, "Permission denied") {
		t.Errorf("wrong user: %+v", r)
	}
	for range 2 { // at the first time, ssh says what it adds to known_hosts
		r = w.ssh("-J", "jump@"+jump4, "root@"+vmAddr, "true")
	}
	if r.status != 0 || r.err != "" {
		t.Errorf("right user: %+v", r)
	}
	w.wait("one login failed, two succeeded", func() bool {
		n := w.server.Stats().Logins
		return n[LoginFailed] == 1 && n[LoggedIn] == 2
	})
}
