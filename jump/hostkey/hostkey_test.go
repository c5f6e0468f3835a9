package hostkey

import (
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"aarch64.com/isthmus/perf/lab/labtest"
)

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestFirstStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jump", "ssh_host_ed25519_key")
	k, made, err := LoadOrMake(path)
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	for name, want := range map[string]os.FileMode{filepath.Dir(path): 0o700, path: 0o600, path + ".pub": 0o644} {
		if got := mode(t, name); got != want {
			t.Errorf("%s has mode %04o, want %04o", name, got, want)
		}
	}
	again, made, err := LoadOrMake(path)
	if err != nil || made || string(again.PublicKey().Marshal()) != string(k.PublicKey().Marshal()) {
		t.Errorf("the second start: made %v, %v", made, err)
	}
	if _, err := Make(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a key: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 {
		t.Errorf("files: %v, %v", left, err)
	}
}

// Two processes that start at once end up with one key.
func TestFirstStartOfTwo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jump", "key")
	var wait sync.WaitGroup
	var keys [8]string
	for i := range keys {
		wait.Go(func() {
			k, _, err := LoadOrMake(path)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = ssh.FingerprintSHA256(k.PublicKey())
		})
	}
	wait.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Errorf("different keys: %v", keys)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if _, err := Make(path); err != nil {
		t.Fatal(err)
	}
	readable := filepath.Join(dir, "readable")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]struct {
		data []byte
		mode os.FileMode
	}{"readable": {data, 0o640}, "garbage": {[]byte("garbage"), 0o600}, "empty": {nil, 0o600}}
	for name, f := range files {
		if err := os.WriteFile(filepath.Join(dir, name), f.data, f.mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(readable, 0o640); err != nil { // whatever the umask
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"readable": "mode 0640, with which others", "garbage": "not understood", "empty": "not understood",
		"nosuch": "no such file", ".": "is no file",
	} {
		if _, err := Load(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	labtest.NeedProgram(t, "ssh-keygen", "openssh-client")
	for name, args := range map[string][]string{
		"is of type": {"-t", "rsa", "-b", "2048", "-N", ""}, "has a passphrase": {"-t", "ed25519", "-N", "secret"},
	} {
		path := filepath.Join(dir, strings.Fields(name)[1])
		if out, err := exec.Command("ssh-keygen", append(args, "-q", "-f", path)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(filepath.Join(open, "key")); err == nil || !strings.Contains(err.Error(), "can replace files") {
		t.Errorf("a directory that all may write to: %v", err)
	}
}

// A key that root makes is for the user whose directory it is.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		labtest.Need(t)
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 4242, 4242); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "key")
	if _, err := Make(path); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("stat", "-c", "%u:%g %a", path, path+".pub").Output()
	if err != nil || string(out) != "4242:4242 600\n4242:4242 644\n" {
		t.Errorf("%s, %v", out, err)
	}
}

func TestSwitch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	first, err := Make(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Switch(path); err == nil || !strings.Contains(err.Error(), "there is no next key") {
		t.Errorf("without a next key: %v", err)
	}
	keys := []ssh.Signer{first}
	for range 2 { // an old one is in the way the second time
		next, err := Make(path + NextSuffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := Switch(path); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, next)
	}
	for name, want := range map[string]ssh.Signer{path: keys[2], path + OldSuffix: keys[1]} {
		got, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.PublicKey().Marshal()) != string(want.PublicKey().Marshal()) {
			t.Errorf("%s is another key", name)
		}
		public, err := os.ReadFile(name + ".pub")
		if err != nil || string(public) != string(ssh.MarshalAuthorizedKey(want.PublicKey())) {
			t.Errorf("%s.pub: %s, %v", name, public, err)
		}
	}
	if _, err := os.Stat(path + NextSuffix); !os.IsNotExist(err) {
		t.Errorf("the next key is still there: %v", err)
	}
}

func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	k, err := Make(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := Make(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := Make(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	good := ssh.Certificate{
		Key: k.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"dfw0.example.com"},
		ValidAfter: 1_000_000_000, ValidBefore: 2_000_000_000,
	}
	for _, tt := range []struct {
		name   string
		change func(*ssh.Certificate)
		want   string
	}{
		{"good", func(*ssh.Certificate) {}, ""},
		{"for users", func(c *ssh.Certificate) { c.CertType = ssh.UserCert }, "is a certificate for users"},
		{"of another key", func(c *ssh.Certificate) { c.Key = other.PublicKey() }, "which is none of host_keys"},
		{"with an unknown condition", func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"x": "y"} }, "critical option"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cert := good
			tt.change(&cert)
			if err := cert.SignCert(rand.Reader, ca); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "key-cert.pub")
			if err := os.WriteFile(path, ssh.MarshalAuthorizedKey(&cert), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := LoadCertificate(path, []ssh.Signer{other, k}[1:])
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Signer.PublicKey().Type() != ssh.CertAlgoED25519v01 || got.Expired(time.Unix(1_999_999_999, 0)) || !got.Expired(time.Unix(2_000_000_000, 0)) {
				t.Errorf("%+v", got)
			}
		})
	}
	if _, err := LoadCertificate(filepath.Join(dir, "key.pub"), nil); err == nil || !strings.Contains(err.Error(), "is a key and no certificate") {
		t.Error(err)
	}
}

// ssh-keygen makes the same of a key.
func TestRecords(t *testing.T) {
	labtest.NeedProgram(t, "ssh-keygen", "openssh-client")
	dir := t.TempDir()
	if _, err := Make(filepath.Join(dir, "ed25519")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", filepath.Join(dir, "ecdsa")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, kind := range map[string]string{"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-sha2-nistp256"} {
		path := filepath.Join(dir, name)
		k, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("ssh-keygen", "-r", "dfw0.example.com.", "-f", path+".pub").Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := SSHFP("dfw0.example.com", k.PublicKey()); !strings.Contains(string(out), got+"\n") {
			t.Errorf("got  %s\nwant one of\n%s", got, out)
		}
		out, err = exec.Command("ssh-keygen", "-l", "-f", path).Output() // the private half is readable, too
		if err != nil || !strings.Contains(string(out), " "+ssh.FingerprintSHA256(k.PublicKey())+" ") {
			t.Errorf("%s, %v", out, err)
		}
		for port, want := range map[string]string{"22": "dfw0.example.com " + kind + " ", "2222": "[dfw0.example.com]:2222 " + kind + " "} {
			if got := KnownHosts("dfw0.example.com", port, k.PublicKey()); !strings.HasPrefix(got, want) {
				t.Errorf("got %s", got)
			}
		}
	}
}
