// Package etcdtest connects package labetcd with tests.
package etcdtest

import (
	"testing"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// Debian is the path of Debian's etcd. It skips the test where there is none.
func Debian(t testing.TB) string {
	t.Helper()
	labtest.NeedProgram(t, labetcd.Program, labetcd.Package)
	path, err := labetcd.Debian()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Current is the path of the current etcd, which it compiles if need be. It skips
// the test where there is nothing to compile it with, or no lab to run it in.
func Current(t testing.TB) string {
	t.Helper()
	labtest.Need(t)
	labtest.NeedProgram(t, "go", "golang-go")
	path, err := labetcd.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Start starts a cluster that is closed when the test ends; a failed one shows
// what the members have said.
func Start(t testing.TB, l *lab.Lab, config labetcd.Config) *labetcd.Cluster {
	t.Helper()
	c, err := labetcd.Start(l, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the cluster: %v", err)
		}
		if t.Failed() {
			for _, m := range c.Members {
				t.Logf("%s:\n%s", m.Name(), m.Log())
			}
		}
	})
	return c
}
