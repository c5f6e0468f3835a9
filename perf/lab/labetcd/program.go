package labetcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Program is what Debian's package [Package] installs.
const (
	Program = "etcd"
	Package = "etcd-server"
)

// tool is the module that pins the current etcd, and its main package.
const (
	toolDir = "perf/tools/etcd"
	tool    = "go.etcd.io/etcd/server/v3"
)

// Debian returns the path of the etcd in PATH.
func Debian() (string, error) {
	path, err := exec.LookPath(Program)
	if err != nil {
		return "", fmt.Errorf("%w; install the package %s (make deps)", err, Package)
	}
	return path, nil
}

// Build compiles the current etcd, unless Go's build cache has it, and returns
// its path. It works anywhere in the source tree.
func Build(ctx context.Context) (string, error) {
	mod, err := output(exec.CommandContext(ctx, "go", "env", "GOMOD"))
	if err != nil {
		return "", err
	}
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("build etcd: not in isthmus's source tree, where go.mod says which one")
	}
	// -n prints the path instead of running it, and builds it all the same.
	path, err := output(exec.CommandContext(ctx, "go", "-C", filepath.Join(filepath.Dir(mod), toolDir), "tool", "-n", tool))
	if err != nil {
		return "", fmt.Errorf("build etcd: %w", err)
	}
	return path, nil
}

// output runs a command and returns what it printed, or what it complained of.
func output(cmd *exec.Cmd) (string, error) {
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}
