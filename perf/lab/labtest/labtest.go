// Package labtest connects package lab with tests.
package labtest

import (
	"os"
	"os/exec"
	"testing"

	"aarch64.com/isthmus/perf/lab"
)

// RequireEnv names the environment variable that, set to 1, makes a machine
// without namespaces a failure instead of a reason to skip.
const RequireEnv = "ISTHMUS_REQUIRE_LAB"

// Need skips the test, with the reason, where labs cannot be made.
func Need(t testing.TB) {
	t.Helper()
	err := lab.Check()
	switch {
	case err == nil:
	case os.Getenv(RequireEnv) == "1":
		t.Fatalf("%s=1, but: %v", RequireEnv, err)
	default:
		t.Skip(err)
	}
}

// New makes a lab that is closed when the test ends, or skips (see [Need]).
func New(t testing.TB, name string) *lab.Lab {
	t.Helper()
	Need(t)
	l, err := lab.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// Host adds a host to a lab.
func Host(t testing.TB, l *lab.Lab, name string) *lab.Host {
	t.Helper()
	h, err := l.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// NeedProgram skips the test where a program is not installed, with the name of
// the package that brings it (see DEB_PACKAGES in the Makefile).
func NeedProgram(t testing.TB, program, pkg string) {
	t.Helper()
	_, err := exec.LookPath(program)
	if err != nil {
		_, err = os.Stat("/usr/sbin/" + program)
	}
	switch {
	case err == nil:
	case os.Getenv(RequireEnv) == "1":
		t.Fatalf("%s=1, but there is no %s; install the package %s (make deps)", RequireEnv, program, pkg)
	default:
		t.Skipf("there is no %s; install the package %s (make deps)", program, pkg)
	}
}
