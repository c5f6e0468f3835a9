package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// TestDemo is the demo as a user sees it: the real program, both paths.
func TestDemo(t *testing.T) {
	labtest.Need(t)
	binary := filepath.Join(t.TempDir(), "isthmus")
	if out, err := exec.Command("go", "build", "-o", binary, "aarch64.com/isthmus/cmd/isthmus").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "demo", "-o", "json")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	failed := cmd.Run()
	var d document
	if err := json.Unmarshal(stdout.Bytes(), &d); err != nil {
		t.Fatalf("%v: %v\n%s%s", failed, err, &stdout, &stderr)
	}
	if failed != nil || !d.OK || len(d.Paths) != 2 {
		t.Errorf("exit: %v, %s", failed, &stderr)
	}
	for _, p := range d.Paths {
		if want := len(checks()) + 1; len(p.Checks) != want {
			t.Errorf("%s: %d checks, want %d", p.Path, len(p.Checks), want)
		}
		for _, c := range p.Checks {
			if !c.OK {
				t.Errorf("%s: %s > %s %s: %s %s", p.Path, c.From, c.To, c.Name, c.Result, c.Error)
			}
		}
		for _, line := range p.Log {
			t.Logf("%s: %s", p.Path, line)
		}
	}
	gone(t)
}
