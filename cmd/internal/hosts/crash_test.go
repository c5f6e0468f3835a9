package hosts_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aarch64.com/isthmus/cmd/internal/hosts"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// asWriter names a file that this test binary rewrites until it is killed.
// inPlace makes it a mount point first.
const (
	asWriter = "ISTHMUS_TEST_WRITER"
	inPlace  = "ISTHMUS_TEST_IN_PLACE"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(asWriter); path != "" {
		if err := rewrite(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// rewrite does what two timers would do that disagree about the lines.
func rewrite(path string) error {
	if os.Getenv(inPlace) != "" {
		if err := bind(path); err != nil {
			return err
		}
	}
	for i := 0; ; i++ {
		lines := crashLines(i % 2 * 20)
		if _, err := hosts.Update(path, func(old []byte) ([]byte, error) { return hosts.Edit(old, lines, false) }); err != nil {
			return err
		}
		if i == 0 {
			fmt.Println("ready")
		}
	}
}

func crashLines(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf("64:ff9b::c633:%x host%d.example", i, i))
	}
	return lines
}

// TestKilled kills a process that rewrites the file, at any moment of its life,
// again and again. The file is always the old or the new one, and the next
// process goes on with it.
func TestKilled(t *testing.T) {
	for name, place := range map[string]bool{"renamed": false, "in place": true} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hosts")
			// In place, as much as promised: all within one page.
			rest := strings.Repeat("192.0.2.1 somebody.example\n", 20)
			if place {
				labtest.Need(t)
			} else {
				rest = strings.Repeat(rest, 50)
			}
			writeFile(t, path, rest, 0o644)
			valid := [2]string{edit(t, rest, crashLines(0)...), edit(t, rest, crashLines(20)...)}
			seen := map[string]int{}
			for range 40 {
				killWriter(t, path, place)
				got, err := os.ReadFile(path)
				must(t, err)
				state := "torn"
				for i, v := range valid {
					if string(got) == v {
						state = fmt.Sprint(i)
					}
				}
				// Between the two steps in place, see overwrite.
				if place && state == "torn" && len(got) == len(valid[1]) && strings.TrimRight(string(got), "\n")+"\n" == valid[0] {
					state = "padded"
				}
				seen[state]++
				if state == "torn" {
					t.Fatalf("the file is\n%s", got)
				}
				if state == "padded" { // what the next process makes of it
					writeFile(t, path, rest, 0o644)
				}
			}
			t.Logf("after a kill: %v", seen)
			list, err := os.ReadDir(filepath.Dir(path))
			must(t, err)
			if len(list) > 2 {
				t.Errorf("left behind: %v", list)
			}
			// A run that ends takes along what the killed ones left.
			_, err = hosts.Update(path, become("127.0.0.1 localhost\n"))
			must(t, err)
			alone(t, path)
		})
	}
}

// killWriter starts a writer, and kills it some time after its first write.
func killWriter(t *testing.T, path string, place bool) {
	t.Helper()
	c := labtest.Self()
	c.Env = append(os.Environ(), asWriter+"="+path)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if place {
		c.Env = append(c.Env, inPlace+"=1")
		c.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS // which makes its mounts its own
	}
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	b := make([]byte, 200)
	n, err := out.Read(b)
	if err != nil || !bytes.HasPrefix(b[:n], []byte("ready")) {
		t.Errorf("the writer said %q, %v", b[:n], err)
	}
	time.Sleep(rand.N(8 * time.Millisecond))
	must(t, c.Process.Kill())
	if err := c.Wait(); err == nil || c.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the writer ended by itself: %v", err)
	}
}
