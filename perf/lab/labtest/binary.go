package labtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var binaryDir string

// Main is for the TestMain of packages that use [Isthmus]: it runs the tests,
// and removes what was built. It gives the status to exit with.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "isthmus-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaryDir = dir
	return m.Run()
}

// Isthmus is the path of an isthmus that was built from this source, as
// `make build` does it. It needs [Main].
func Isthmus(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var build = sync.OnceValues(func() (string, error) {
	if binaryDir == "" {
		return "", errors.New("build isthmus: TestMain does not call labtest.Main")
	}
	root := "."
	for depth := 0; ; depth++ {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		} else if depth == 10 {
			return "", fmt.Errorf("build isthmus: find its module: %w", err)
		}
		root = filepath.Join(root, "..")
	}
	// "go test" takes a result from its cache unless a file has changed that the
	// test has looked at; it doesn't know what the command below looks at.
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		return "", err
	}
	path := filepath.Join(binaryDir, "isthmus")
	c := exec.Command("go", "build", "-o", path, "aarch64.com/isthmus/cmd/isthmus")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build isthmus: %w\n%s", err, out)
	}
	return path, nil
})
