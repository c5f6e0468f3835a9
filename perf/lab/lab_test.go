package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// childEnv makes the test binary build a lab, report it on stdout and wait to
// be killed.
const childEnv = "ISTHMUS_LAB_TEST_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		child(name)
	}
	os.Exit(m.Run())
}

func child(name string) {
	l, err := lab.New(name)
	if err == nil {
		var a, b *lab.Host
		if a, err = l.Host("a"); err == nil {
			if b, err = l.Host("b"); err == nil {
				err = l.Link(a, b, lab.LinkConfig{})
			}
		}
		sleeper := exec.Command("sleep", "1000")
		if err == nil {
			var dir string
			if dir, err = l.Dir(); err == nil {
				err = os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
			}
		}
		if err == nil {
			err = a.UseResolver(netip.MustParseAddr("192.0.2.53"))
		}
		if err == nil {
			err = a.Start(sleeper)
		}
		if err == nil {
			fmt.Println(l.ID(), sleeper.Process.Pid)
			select {} // until killed
		}
	}
	fmt.Println("error:", err)
	os.Exit(1)
}

// crash runs a lab in another process and kills that with SIGKILL.
// It returns the lab's id.
func crash(t *testing.T, name string) string {
	t.Helper()
	cmd := labtest.Self()
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var id string
	var pid int
	if _, err := fmt.Sscan(line, &id, &pid); err != nil {
		t.Fatalf("child said %q", line)
	}
	// Another test's lab, in another process, would sweep before we have looked.
	release, err := lab.HoldSweeps()
	must(t, err)
	defer release()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, "the crashed lab's own child ends", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	if got := names(t, id); len(got) != 2 {
		t.Fatalf("a killed process should leave its names behind, there are %v", got)
	}
	if len(etcFiles(t, id)) == 0 {
		t.Fatal("a killed process should leave its files in /etc/netns behind")
	}
	return id
}

// names lists the named namespaces of a lab.
func names(t *testing.T, id string) []string {
	t.Helper()
	all, err := filepath.Glob("/run/netns/isthmus-" + id + "-*")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// etcFiles lists the files that `ip netns exec` puts over those in /etc.
func etcFiles(t *testing.T, id string) []string {
	t.Helper()
	all, err := filepath.Glob("/etc/netns/isthmus-" + id + "-*/*")
	must(t, err)
	return all
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}

func links(t *testing.T) []string {
	t.Helper()
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range ifs {
		out = append(out, i.Name)
	}
	slices.Sort(out)
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pair is two linked hosts, 192.0.2.1 and 192.0.2.2, 2001:db8::1 and ::2.
func pair(t *testing.T, l *lab.Lab, c lab.LinkConfig) (a, b *lab.Host) {
	t.Helper()
	a, b = labtest.Host(t, l, "a"), labtest.Host(t, l, "b")
	must(t, l.Link(a, b, c))
	must(t, a.Addr("eth0", "192.0.2.1/24"))
	must(t, b.Addr("eth0", "192.0.2.2/24"))
	must(t, a.Addr("eth0", "2001:db8::1/64"))
	must(t, b.Addr("eth0", "2001:db8::2/64"))
	return a, b
}

// ping sends one ICMPv4 echo and waits for its answer.
func ping(t *testing.T, from *lab.Host, to string) {
	t.Helper()
	c, err := from.ListenPacket("ip4:icmp", "0.0.0.0")
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(5*time.Second)))
	msg, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 7, Seq: 1, Data: []byte("lab")}}).Marshal(nil)
	must(t, err)
	_, err = c.WriteTo(msg, &net.IPAddr{IP: net.ParseIP(to)})
	must(t, err)
	buf := make([]byte, 1500)
	for {
		n, _, err := c.ReadFrom(buf)
		must(t, err)
		m, err := icmp.ParseMessage(1, buf[:n])
		must(t, err)
		if m.Type == ipv4.ICMPTypeEchoReply {
			return
		}
	}
}

func TestLabCarriesTrafficAndIsGoneAfterwards(t *testing.T) {
	labtest.Need(t)
	before := links(t)
	l, err := lab.New("test-life")
	must(t, err)
	defer l.Close()
	a, b := pair(t, l, lab.LinkConfig{})
	if got := names(t, l.ID()); len(got) != 2 {
		t.Errorf("named namespaces: %v", got)
	}
	ping(t, a, "192.0.2.2")
	ping(t, b, "192.0.2.1")

	// TCP over IPv6 with the helpers, without any wait after Addr.
	srv, err := b.Listen("tcp", "[2001:db8::2]:80")
	must(t, err)
	go func() {
		c, err := srv.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c)
		c.Close()
	}()
	c, err := a.Dial(context.Background(), "tcp", "[2001:db8::2]:80")
	must(t, err)
	_, err = c.Write([]byte("hello"))
	must(t, err)
	must(t, c.(*net.TCPConn).CloseWrite())
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("echo: %q, %v", got, err)
	}
	c.Close()
	srv.Close()

	if after := links(t); !slices.Equal(before, after) {
		t.Errorf("links in our own namespace: before %v, during %v", before, after)
	}
	dir, err := l.Dir()
	must(t, err)
	must(t, l.Close())
	must(t, l.Close())
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("directory left: %v", err)
	}
	if got := names(t, l.ID()); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
	for _, dir := range []string{"/run", os.TempDir()} {
		if _, err := os.Stat(filepath.Join(dir, "isthmus-lab", l.ID()+".lab")); err == nil {
			t.Errorf("lock file left in %s", dir)
		}
	}
	// A closed lab must not act on the caller's own namespace instead.
	if err := a.Up("lo"); err == nil {
		t.Error("Up works on a closed lab")
	}
	if err := a.Do(func() error { return nil }); err == nil {
		t.Error("Do works on a closed lab")
	}
	if _, err := l.Host("c"); err == nil {
		t.Error("a closed lab makes hosts")
	}
}

func TestDoReturnsToTheCallersNamespace(t *testing.T) {
	l := labtest.New(t, "test-do")
	a, b := labtest.Host(t, l, "a"), labtest.Host(t, l, "b")
	here := func() string {
		s, err := os.Readlink("/proc/thread-self/ns/net")
		must(t, err)
		return s
	}
	home := here()
	var inA, inB string
	must(t, a.Do(func() error {
		inA = here()
		err := b.Do(func() error { inB = here(); return nil })
		if here() != inA {
			t.Error("the inner Do did not return to the outer one's namespace")
		}
		return err
	}))
	if home == inA || inA == inB || home == inB {
		t.Errorf("not three namespaces: %s %s %s", home, inA, inB)
	}
	if here() != home {
		t.Error("Do did not come back")
	}
}

func TestSweepAfterKill(t *testing.T) {
	labtest.Need(t)
	id := crash(t, "test-crash")
	l := labtest.New(t, "test-sweep")
	if got := names(t, id); len(got) != 0 {
		t.Errorf("not swept: %v", got)
	}
	dir, err := l.Dir()
	must(t, err)
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), id+".d")); !os.IsNotExist(err) {
		t.Errorf("its directory was not swept: %v", err)
	}
	if left := etcFiles(t, id); len(left) != 0 {
		t.Errorf("files in /etc/netns were not swept: %v", left)
	}
	if l.ID() != "test-sweep" {
		t.Errorf("id %s", l.ID())
	}
}

func TestLabsDoNotDisturbEachOther(t *testing.T) {
	l1 := labtest.New(t, "test-two")
	a1, _ := pair(t, l1, lab.LinkConfig{})
	l2, err := lab.New("test-two")
	must(t, err)
	defer l2.Close()
	if l1.ID() == l2.ID() {
		t.Fatalf("both are %s", l1.ID())
	}
	a2, _ := pair(t, l2, lab.LinkConfig{})
	ping(t, a1, "192.0.2.2")
	ping(t, a2, "192.0.2.2")
	must(t, l2.Close())
	ping(t, a1, "192.0.2.2")
	if got := names(t, l1.ID()); len(got) != 2 {
		t.Errorf("the first lab has %v", got)
	}
}

func TestStartedProgramsEndWithTheLab(t *testing.T) {
	l := labtest.New(t, "test-start")
	a := labtest.Host(t, l, "a")
	cmd := exec.Command("sleep", "1000")
	must(t, a.Start(cmd))
	var inside, child string
	must(t, a.Do(func() (err error) { inside, err = os.Readlink("/proc/thread-self/ns/net"); return err }))
	child, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	must(t, err)
	if inside != child {
		t.Errorf("child is in %s, the host is %s", child, inside)
	}
	must(t, l.Close())
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("child ended with %v", err)
	}
}

func TestNamesAreChecked(t *testing.T) {
	labtest.Need(t)
	for _, name := range []string{"", "A", "a/b", "../x", "a b"} {
		if l, err := lab.New(name); err == nil {
			l.Close()
			t.Errorf("lab name %q accepted", name)
		}
	}
	l := labtest.New(t, "test-names")
	for _, name := range []string{"", "A", "a-b", "../x"} {
		if _, err := l.Host(name); err == nil {
			t.Errorf("host name %q accepted", name)
		}
	}
	labtest.Host(t, l, "a")
	if _, err := l.Host("a"); err == nil {
		t.Error("the same host twice")
	}
	if got := names(t, l.ID()); len(got) != 1 {
		t.Errorf("a refused duplicate took the first one's name: %v", got)
	}
}
