package emulator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// module is what the packages are in.
const module = "aarch64.com/isthmus"

// Build is the tree's programs for one architecture.
type Build struct {
	root, arch, dir string

	mu   sync.Mutex
	done map[string]bool // files that are as they should be
}

// NewBuild builds in a folder for the tree at root.
func NewBuild(root, arch, dir string) *Build {
	return &Build{root: root, arch: arch, dir: dir, done: map[string]bool{}}
}

func (b *Build) env() []string {
	return []string{"GOOS=linux", "GOARCH=" + b.arch, "CGO_ENABLED=0"}
}

// program builds a command of the tree.
func (b *Build) program(ctx context.Context, pkg string) (string, error) {
	file := filepath.Join(b.dir, filepath.Base(pkg))
	return file, b.make(ctx, file, "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "./"+pkg)
}

// Packages lists those of the tree that have tests, without the module's name.
func (b *Build) Packages(ctx context.Context, tags string) ([]string, error) {
	c := exec.CommandContext(ctx, goProgram(), "list", "-tags", tags, "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "./...")
	c.Dir, c.Env = b.root, append(os.Environ(), b.env()...)
	out, err := c.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil, fmt.Errorf("go list: %w\n%s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("go list: %w", err)
	}
	var list []string
	for p := range strings.FieldsSeq(string(out)) {
		list = append(list, strings.TrimPrefix(p, module+"/"))
	}
	slices.Sort(list)
	return list, nil
}

// Test builds the tests of a package, and names the binary.
func (b *Build) Test(ctx context.Context, pkg, tags string) (string, error) {
	file := filepath.Join(b.dir, testName(pkg))
	return file, b.make(ctx, file, "test", "-c", "-tags", tags, "-ldflags", "-s -w", "-o", file, "./"+pkg)
}

// make builds a file once. Go is the one that runs this ($GO in the Makefile).
func (b *Build) make(ctx context.Context, file string, args ...string) error {
	b.mu.Lock()
	done := b.done[file]
	b.mu.Unlock()
	if done {
		return nil
	}
	// Other runs may have links to the old one.
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := command(ctx, b.root, b.env(), goProgram(), args...); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done[file] = true
	return nil
}

func goProgram() string {
	if g := os.Getenv("GO"); g != "" {
		return g
	}
	return "go"
}
