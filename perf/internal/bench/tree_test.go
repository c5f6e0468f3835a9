package bench

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestParseStat(t *testing.T) {
	for _, tt := range []struct {
		line string
		want stat
		bad  bool
	}{
		{line: "7 (sshd) S 3 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1", want: stat{3, 70}},
		{line: "7 (a) b (c) R 3 7 7 0 -1 4194560 1 2 3 4 5 6 0 1 20 0 1", want: stat{3, 1}},
		{line: "7 (sshd) S 3", bad: true},
		{line: "", bad: true},
		{line: "7 (sshd) S x 7 7 0 -1 4194560 1 2 3 4 10 20 30 40", bad: true},
		{line: "7 (sshd) S 3 7 7 0 -1 4194560 1 2 3 4 10 20 30 -40", bad: true},
	} {
		got, err := parseStat(tt.line)
		if (err != nil) != tt.bad || err == nil && got != tt.want {
			t.Errorf("%q: %+v, %v", tt.line, got, err)
		}
	}
}

// TestTree looks at a shell with a child of its own.
func TestTree(t *testing.T) {
	cmd := exec.Command("sh", "-c", `sleep 60 & echo $!; wait`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Process{Cmd: cmd}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	tree, err := p.Tree()
	if err != nil || len(tree) != 2 || tree[0] != cmd.Process.Pid {
		t.Errorf("tree %v, %v; the shell is %d", tree, err, cmd.Process.Pid)
	}
	bytes, n, err := p.Memory()
	if err != nil || n != 2 || bytes <= 0 {
		t.Errorf("%d bytes in %d processes, %v", bytes, n, err)
	}
	if _, err := p.CPU(); err != nil {
		t.Error(err)
	}
	for _, pid := range slices.Backward(tree) {
		if q, err := os.FindProcess(pid); err == nil {
			_ = q.Kill()
		}
	}
	_ = cmd.Wait()
}
