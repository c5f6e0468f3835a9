package jump

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// PuTTY's plink, through another plink. It asks for channel requests that do not
// exist, many of them in a longer transfer.
func TestPlink(t *testing.T) {
	labtest.NeedProgram(t, "plink", "putty-tools")
	labtest.NeedProgram(t, "puttygen", "putty-tools")
	w := newWorld(t, nil)
	w.sshd()
	key := w.file("key.ppk")
	w.ok(w.run("puttygen", w.file("key"), "-O", "private", "-o", key), "")
	data := w.randomFile("data", fileSize)
	home := "HOME=" + w.dir
	for _, v := range via {
		proxy := fmt.Sprintf("env %s plink -ssh -batch -hostkey %s -nc [%%host]:%%port %s", home, w.fingerprint(), v)
		r := w.run("env", home, "plink", "-ssh", "-batch", "-noagent", "-i", key, "-hostkey", w.vmFingerprint(),
			"-proxycmd", proxy, "root@"+vmAddr, "cat "+w.file("data"))
		w.ok(r, string(data))
		w.finished()
	}
	r := w.run("env", home, "plink", "-ssh", "-batch", "-T", "-hostkey", w.fingerprint(), "jump@"+jump4)
	if r.status != 1 || !strings.Contains(r.err, "ssh -J jump@"+jump4) {
		t.Errorf("session: %+v", r)
	}
}

// dropbear's dbclient, through another one.
func TestDbclient(t *testing.T) {
	labtest.NeedProgram(t, "dbclient", "dropbear-bin")
	labtest.NeedProgram(t, "dropbearconvert", "dropbear-bin")
	w := newWorld(t, nil)
	w.sshd()
	// It starts itself for the first host, by the path that it was started with.
	dbclient, err := exec.LookPath("dbclient")
	must(t, err)
	key := w.file("key.dropbear")
	if r := w.run("dropbearconvert", "openssh", "dropbear", w.file("key"), key); r.status != 0 {
		t.Fatalf("dropbearconvert: %+v", r)
	}
	for _, v := range via {
		// dbclient takes no IPv6 address for the second host.
		hosts := strings.NewReplacer("[", "", "]", "").Replace(v) + ",root@" + strings.ReplaceAll(vmAddr, ":", "-") + ".ipv6-literal.net"
		w.ok(w.run("env", "HOME="+w.dir, dbclient, "-y", "-i", key, hosts, "echo hello"), "hello\n")
		w.finished()
	}
}

// fingerprint is the jump server's, vmFingerprint the VM's.
func (w *world) fingerprint() string {
	return ssh.FingerprintSHA256(w.server.config().HostKeys[0].PublicKey())
}

func (w *world) vmFingerprint() string {
	return ssh.FingerprintSHA256(w.vmKey)
}

// python is Debian's own, which has Debian's modules.
const python = "/usr/bin/python3"

// needParamiko skips the test without Paramiko, a Python module.
func (w *world) needParamiko() {
	w.t.Helper()
	labtest.NeedProgram(w.t, python, "python3-paramiko")
	if r := w.run(python, "-c", "import paramiko"); r.status != 0 {
		if os.Getenv(labtest.RequireEnv) == "1" {
			w.t.Fatalf("%s=1, but there is no paramiko; install the package python3-paramiko (make deps)", labtest.RequireEnv)
		}
		w.t.Skip("there is no paramiko; install the package python3-paramiko (make deps)")
	}
}

// Paramiko logs in without trying "none" first, and asks for what no command does.
func TestParamiko(t *testing.T) {
	w := newWorld(t, nil)
	w.needParamiko()
	w.sshd()
	script, err := os.ReadFile("testdata/odd.py")
	must(t, err)
	r := w.runWith(string(script), python, "-", jump4, vmAddr, w.file("key"))
	w.ok(r, "done\n")
	r = w.runWith(string(script), python, "-", jump6, vmAddr, w.file("key"))
	w.ok(r, "done\n")
}

// pattern is a stream that repeats after a length that no buffer has.
type pattern struct {
	block []byte
	left  int64
}

func newPattern(size int64) *pattern {
	p := &pattern{block: make([]byte, 1<<20+1), left: size}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(p.block)
	return p
}

func (p *pattern) WriteTo(to io.Writer) (n int64, err error) {
	for p.left > 0 {
		b := p.block[:min(p.left, int64(len(p.block)))]
		m, err := to.Write(b)
		n, p.left = n+int64(m), p.left-int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// A large transfer each way arrives as it was sent. The client changes keys again
// and again meanwhile, and either side's end of file leaves the other direction
// open: the VM answers when it has everything.
func TestBulk(t *testing.T) {
	const rekeyEach = 128 << 20
	w := newWorld(t, nil)
	w.sshConfig()
	labtest.NeedProgram(t, "ssh", "openssh-client")
	want := sha256.New()
	_, err := newPattern(bulkSize).WriteTo(want)
	must(t, err)

	l, err := w.vm.Listen("tcp6", "[::]:22")
	must(t, err)
	defer l.Close()
	received := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		got := sha256.New()
		_, err = io.CopyBuffer(struct{ io.Writer }{got}, c, make([]byte, 1<<20))
		received <- fmt.Sprint(sum(got), err)
		_, _ = newPattern(bulkSize).WriteTo(c)
	}()

	got, said := sha256.New(), &strings.Builder{}
	cmd := exec.Command("ssh", "-F", w.file("ssh_config"), "-o", "LogLevel=DEBUG1", "-o", fmt.Sprint("RekeyLimit=", rekeyEach),
		"-W", "["+vmAddr+"]:22", "jump@"+jump6)
	cmd.Stdout, cmd.Stderr = struct{ io.Writer }{got}, said
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, w.client.Start(cmd))
	_, err = newPattern(bulkSize).WriteTo(in)
	must(t, err)
	must(t, in.Close())
	if err := cmd.Wait(); err != nil {
		t.Errorf("ssh: %v\n%s", err, said)
	}
	if up := <-received; up != sum(want)+"<nil>" {
		t.Errorf("the VM received %s", up)
	}
	if sum(got) != sum(want) {
		t.Error("the client received something else")
	}
	r := w.ended(Finished)
	if r.Up != bulkSize || r.Down != bulkSize {
		t.Errorf("audit: %d bytes up, %d down; want %d", r.Up, r.Down, bulkSize)
	}
	if n := len(regexp.MustCompile(`SSH2_MSG_NEWKEYS sent`).FindAllString(said.String(), -1)); n <= bulkSize/rekeyEach {
		t.Errorf("%d changes of keys:\n%s", n, said)
	}
	if !strings.Contains(said.String(), "cipher: aes128-gcm@openssh.com") {
		t.Errorf("no AES-GCM:\n%s", said)
	}
}
