package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labtest"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// TestDemo runs the demo as a user sees it, with the real program.
func TestDemo(t *testing.T) {
	labtest.Need(t)
	binary := labtest.Isthmus(t)
	t.Run("all_paths", func(t *testing.T) { allPaths(t, binary) })
	t.Run("hold_share", func(t *testing.T) { holdAndTry(t, binary, Share, 7, "2001:db8:64:") })
	t.Run("hold_kernel", func(t *testing.T) { holdAndTry(t, binary, Kernel, 6, "mappings (eam)  1") })
	gone(t)
}

func allPaths(t *testing.T, binary string) {
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
	if failed != nil || !d.OK || len(d.Paths) != 3 {
		t.Errorf("exit: %v, %s", failed, &stderr)
	}
	for _, p := range d.Paths {
		if want := len(p.Path.checks()) + 1; len(p.Checks) != want {
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
}

// holdAndTry types the commands in that `isthmus demo --hold` prints, as far as
// they end by themselves and need no rare program, and then Ctrl-C. The last of
// them to ask isthmus itself has to hear answer.
func holdAndTry(t *testing.T, binary string, path Path, count int, answer string) {
	labtest.NeedProgram(t, "ip", "iproute2")
	labtest.NeedProgram(t, "curl", "curl")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "demo", "--hold", "--path", string(path))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	var commands []string
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "Up until Ctrl-C") {
	}
	for empty := 0; empty < 2 && lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			empty++
		}
		if strings.Contains(line, " curl ") || strings.Contains(line, "--socket") || strings.HasPrefix(line, "cat ") {
			commands = append(commands, line)
		}
	}
	if len(commands) != count {
		t.Errorf("%d commands, want %d: %q", len(commands), count, commands)
	}
	said, port := "", ""
	for _, line := range commands {
		got, err := exec.CommandContext(ctx, "sh", "-c", strings.ReplaceAll(line, "PORT", port)).CombinedOutput()
		if err != nil || len(got) == 0 {
			t.Errorf("%s: %v, %s", line, err, got)
		}
		if _, after, ok := strings.Cut(string(got), ", port "); ok {
			port = strings.TrimSuffix(after, ".\n")
		}
		if strings.Contains(line, "--socket") {
			said = string(got)
		}
	}
	if !strings.Contains(said, answer) {
		t.Errorf("isthmus said %q, want %q", said, answer)
	}
	must(t, cmd.Process.Signal(os.Interrupt))
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
}
