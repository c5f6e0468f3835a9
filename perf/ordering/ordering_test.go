package ordering_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"aarch64.com/isthmus/perf/ordering"
)

// dump builds a program of arm64 by "go args... -o FILE PACKAGE", and disassembles
// what it has of a package.
func dump(t *testing.T, symbols, pkg string, args ...string) *bytes.Buffer {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go to build programs of arm64 with")
	}
	file := filepath.Join(t.TempDir(), "program")
	c := exec.Command("go", append(args, "-o", file, pkg)...)
	c.Env = append(os.Environ(), "GOARCH=arm64", "GOOS=linux", "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	var out, errs bytes.Buffer
	c = exec.Command("go", "tool", "objdump", "-s", symbols, file)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("go tool objdump: %v\n%s", err, &errs)
	}
	return &out
}

func check(t *testing.T, dir string, dump *bytes.Buffer, still ...string) []string {
	t.Helper()
	found, err := ordering.Check(dir, dump, still...)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestRings: the AF_XDP rings as they are compiled for arm64.
func TestRings(t *testing.T) {
	found := check(t, "../../xsk", dump(t, `^aarch64\.com/isthmus/xsk\.`, "aarch64.com/isthmus/xsk", "test", "-c"),
		"aarch64.com/isthmus/xsk.(*UMEM).Audit")
	for _, f := range found {
		t.Error(f)
	}
}

// TestWrong: what is wrong is found, and nothing else.
func TestWrong(t *testing.T) {
	want := []string{
		"direct.go:4: flags is not the argument of a function of sync/atomic",
		"early.go:11: a slot is accessed when its index has been stored",
		"early.go:11: a slot is accessed, and its index is not stored",
		"forgotten.go:16: the program has no code of it",
		"forgotten.go:8: a slot is accessed, and its index is not stored",
		"late.go:7: a slot is accessed before its index is loaded",
		"plain.go:6: an index or flag is loaded without LDARW",
		"plain.go:7: a slot is accessed, and its index is not stored",
		"plain.go:9: an index is stored without STLRW",
	}
	got := check(t, "testdata/wrong", dump(t, `^main\.`, "./testdata/wrong", "build"))
	if !slices.Equal(got, want) {
		t.Errorf("found %d:", len(got))
		for _, f := range got {
			t.Error(f)
		}
	}
}
