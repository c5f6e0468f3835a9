//go:build faults

package emulator

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFaultsAreSeen boots a machine whose tests fail, and one that dies: what
// can't fail proves nothing. It needs what "make test-arm64" needs, which runs it.
func TestFaultsAreSeen(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	machine := Machines[slices.IndexFunc(Machines, func(m Machine) bool { return m.Name == "debian13" })]
	machine.Name, machine.NICs, machine.Card, machine.Tags = "faulty", 0, "", "faults"
	machine.Packages, machine.Skips, machine.Demo = []string{"perf/emulator/faults"}, nil, false
	for _, c := range []struct {
		name, tests string
		patience    time.Duration
		want        []string
	}{
		{"tests", "Test(Fails|Skips|Panics)$", 5 * time.Minute, []string{
			"faulty: perf/emulator/faults: TestFails FAILED", "it fails on purpose",
			"TestSkips FAILED: it must not be skipped here: it skips on purpose",
			"faulty: perf/emulator/faults FAILED: ", "it panics on purpose",
		}},
		{"kernel", "TestKills", 5 * time.Minute, []string{
			"faulty FAILED: it stopped before its jobs were done; the end of its console:", "sysrq triggered crash",
		}},
		{"hang", "TestHangs", 30 * time.Second, []string{"faulty FAILED: it did not end within 30s; the end of its console:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := Machines
			defer func() { Machines = all }()
			machine.Tests, machine.Patience = map[string]string{"perf/emulator/faults": c.tests}, c.patience
			Machines = []Machine{machine}
			var out bytes.Buffer
			err := Run(t.Context(), Options{Root: "../..", Cache: filepath.Join(cache, "isthmus", "emulator"), Out: &out})
			if err == nil || !strings.Contains(err.Error(), "failed, see above") {
				t.Error(err)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, &out)
				}
			}
		})
	}
}
