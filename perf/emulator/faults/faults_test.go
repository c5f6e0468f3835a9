//go:build faults

package faults

import (
	"os"
	"testing"
)

// emulated keeps these tests from machines that somebody needs.
func emulated(t *testing.T) {
	t.Helper()
	if name, err := os.Hostname(); name != "guest" || os.Getuid() != 0 || err != nil {
		t.Fatal("this is no emulated machine")
	}
}

func TestFails(t *testing.T) { t.Error("it fails on purpose") }

func TestSkips(t *testing.T) { t.Skip("it skips on purpose") }

func TestPanics(*testing.T) { panic("it panics on purpose") }

func TestHangs(t *testing.T) {
	emulated(t)
	select {}
}

func TestKills(t *testing.T) {
	emulated(t)
	if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
		t.Fatal(err)
	}
}
