package lab_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// output runs a program in the host.
func output(t *testing.T, h *lab.Host, name string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, h.Start(cmd))
	err := cmd.Wait()
	return out.String(), err
}

// What covers a file is there for the host's programs only.
func TestCover(t *testing.T) {
	l := labtest.New(t, "test-cover")
	a, b := labtest.Host(t, l, "a"), labtest.Host(t, l, "b")
	dir := t.TempDir()
	target, with := filepath.Join(dir, "target"), filepath.Join(dir, "with")
	must(t, os.WriteFile(target, []byte("as it was"), 0o600))
	must(t, os.WriteFile(with, []byte("covered"), 0o600))
	must(t, a.Cover(target, with))
	for h, want := range map[*lab.Host]string{a: "covered", b: "as it was"} {
		if got, err := output(t, h, "cat", target); err != nil || got != want {
			t.Errorf("%s sees %q, %v", h.Name(), got, err)
		}
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "as it was" {
		t.Errorf("we see %q, %v", got, err)
	}
	own, err := a.OwnFiles()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(own, "run", "x"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(own, "lib", "y"), nil, 0o600))
	if got, err := output(t, a, "ls", "/run", "/var/lib"); err != nil || got != "/run:\nx\n\n/var/lib:\ny\n" {
		t.Errorf("it sees %q, %v", got, err)
	}
	err = a.Cover("/run/nothing", dir)
	if err == nil || !strings.HasPrefix(err.Error(), "a: put "+dir+" over /run/nothing: ") {
		t.Errorf("covering nothing: %v", err)
	}
	must(t, l.Close())
	if err := b.Cover(target, with); err == nil {
		t.Error("Cover works on a closed lab")
	}
}
