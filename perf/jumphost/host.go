package jumphost

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"golang.org/x/crypto/ssh"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
)

// Keys of the jump hosts, as in [Options] and in the JSON document.
const (
	Isthmus = "isthmus"
	SSHD    = "sshd"     // OpenSSH as it is installed
	SSHDGCM = "sshd-gcm" // OpenSSH with aes128-gcm alone
	Direct  = "direct"   // no jump host: the kernel forwards
)

// host is a way to the VM.
type host struct {
	key, name string
	cipher    string // what OpenSSH's client and this host agree on; "" without SSH
	weighed   bool   // its idle sessions; one sshd is like the other there
	start     func(*world, *Options) (*bench.Process, error)
}

// gcm is the cipher that the hosts are compared with.
const gcm = ssh.CipherAES128GCM

func hosts() []host {
	return []host{
		{Isthmus, "isthmus", gcm, true, isthmus},
		{SSHD, "sshd", ssh.CipherChaCha20Poly1305, true, sshd("")},
		{SSHDGCM, "sshd, aes128-gcm", gcm, false, sshd("Ciphers " + gcm + "\n")},
		{Direct, "no jump host", "", false, func(*world, *Options) (*bench.Process, error) { return nil, nil }},
	}
}

// isthmus starts the jump server alone.
func isthmus(w *world, o *Options) (*bench.Process, error) {
	file, err := bench.Keep(w.jump, "isthmus.toml", []byte(configuration()))
	if err != nil {
		return nil, err
	}
	p, err := bench.StartProcess(w.jump, w.dir, bench.Pinned(w.theirs, o.Binary, "run", "--only", "jump", "-c", file))
	if err != nil {
		return nil, err
	}
	return p, p.WaitListening(w.jump, jumpPort)
}

// configuration is isthmus's file. One machine plays all clients: what counts per
// source would count them as one.
func configuration() string {
	return fmt.Sprintf(`
[router]
state_dir = "/var/lib/isthmus"
[metrics]
listen = ""
[control]
socket = "/run/control.sock"
[jump]
listen = ["[::]:%d"]
vm_prefixes = ["%s"]
drain_timeout = "1s"
[jump.limits]
exempt = ["%s"]
`, jumpPort, vms, clients)
}

// sshd starts OpenSSH as a jump host, with further lines for its configuration.
func sshd(more string) func(*world, *Options) (*bench.Process, error) {
	return func(w *world, _ *Options) (*bench.Process, error) {
		var permit strings.Builder
		for _, a := range []netip.Addr{sinkAddr, sourceAddr, echoAddr, sshdAddr} {
			fmt.Fprintf(&permit, " [%s]:%d", a, vmPort)
		}
		config := sshdDefaults(jumpAddr, jumpPort) + "ForceCommand /bin/false\nPermitTTY no\nX11Forwarding no\n" +
			"AllowAgentForwarding no\nAllowStreamLocalForwarding no\nAllowTcpForwarding local\nPermitOpen" + permit.String() + "\n" + more
		return startSSHD(w.jump, w.dir, jumpPort, config, func(name string, args ...string) *exec.Cmd {
			return bench.Pinned(w.theirs, name, args...)
		})
	}
}

// sshdDefaults is sshd_config(5) with what lets the bench in.
func sshdDefaults(a netip.Addr, port int) string {
	return fmt.Sprintf("ListenAddress [%s]:%d\nHostKey /var/lib/hostkey\nPidFile none\nUsePAM no\nUseDNS no\n"+
		"PasswordAuthentication yes\nPermitEmptyPasswords yes\nAllowUsers %s\nMaxStartups 4096:30:8192\nMaxSessions 4096\n", a, port, user)
}

// startSSHD starts OpenSSH's server in a host whose files are its own.
func startSSHD(h *lab.Host, logs string, port int, config string, command func(string, ...string) *exec.Cmd) (*bench.Process, error) {
	key, err := hostKey()
	if err != nil {
		return nil, err
	}
	if _, err := bench.Keep(h, "hostkey", key); err != nil {
		return nil, err
	}
	file, err := bench.Keep(h, "sshd_config", []byte(config))
	if err != nil {
		return nil, err
	}
	p, err := bench.StartProcess(h, logs, command(sshdProgram, "-D", "-e", "-f", file))
	if err != nil {
		return nil, err
	}
	return p, p.WaitListening(h, port)
}

func hostKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}
