package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	netnsDir   = "/run/netns" // where ip-netns(8) looks for names
	namePrefix = "isthmus-"   // of every namespace made here
	lockSuffix = ".lab"
)

// lock is a lab's file: held with flock by the living process, with one line
// for each namespace.
type lock struct {
	id   string
	path string
	file *os.File
}

// lockDir returns the directory of lock files, which exists afterwards.
func lockDir() (string, error) {
	var first error
	for _, parent := range []string{"/run", os.TempDir()} {
		dir := filepath.Join(parent, "isthmus-lab")
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = unix.Access(dir, unix.W_OK)
		}
		if err == nil {
			return dir, nil
		}
		if first == nil {
			first = err
		}
	}
	return "", fmt.Errorf("directory for lock files: %w", first)
}

// acquire sweeps and then takes the first free id of the form name, name.2, ...
// Both happen under a lock of the whole directory, so that a file that has just
// been created but not locked yet is never taken for an abandoned one.
func acquire(name string) (*lock, error) {
	dir, err := lockDir()
	if err != nil {
		return nil, err
	}
	whole, err := lockWhole(dir)
	if err != nil {
		return nil, err
	}
	defer whole.Close()
	if err := sweep(dir); err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		id := name
		if n > 1 {
			id = fmt.Sprintf("%s.%d", name, n)
		}
		path := filepath.Join(dir, id+lockSuffix)
		f, err := tryLock(path, os.O_CREATE)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lock file %s: %w", path, err)
		}
		return &lock{id: id, path: path, file: f}, nil
	}
}

// record writes a namespace's name down. It comes before the namespace is made.
func (l *lock) record(name string) error {
	if _, err := l.file.WriteString(name + "\n"); err != nil {
		return fmt.Errorf("lock file %s: %w", l.path, err)
	}
	return nil
}

// dir is the lab's directory for files of its own; it may not be there.
func (l *lock) dir() string { return dirOf(l.path) }

func dirOf(path string) string { return strings.TrimSuffix(path, lockSuffix) + ".d" }

// release removes the file and the directory and lets the lock go.
func (l *lock) release() error {
	whole, err := lockWhole(filepath.Dir(l.path))
	if err != nil {
		return err
	}
	defer whole.Close()
	return errors.Join(os.RemoveAll(l.dir()), os.Remove(l.path), l.file.Close())
}

// sweep removes the namespaces of every lab whose process is gone.
// The caller holds the lock of the directory.
func sweep(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+lockSuffix))
	if err != nil {
		return err
	}
	for _, path := range paths {
		f, err := tryLock(path, 0)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // alive
		}
		if err != nil {
			return fmt.Errorf("lock file %s: %w", path, err)
		}
		err = sweepOne(f)
		if err == nil {
			err = os.RemoveAll(dirOf(path))
		}
		if err == nil {
			err = os.Remove(path)
		}
		f.Close()
		if err != nil {
			return fmt.Errorf("sweep what %s lists: %w", path, err)
		}
	}
	return nil
}

func sweepOne(f *os.File) error {
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name := lines.Text()
		if !strings.HasPrefix(name, namePrefix) || strings.Contains(name, "/") {
			continue // torn by a crash, or not written by us
		}
		if err := removeNamed(name); err != nil {
			return err
		}
	}
	return lines.Err()
}

// removeNamed takes a namespace's name and files away. A name that is not there, or a
// file with nothing mounted on it, is what a crash between two steps leaves.
func removeNamed(name string) error {
	path := filepath.Join(netnsDir, name)
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return removeEtc(name)
}

func tryLock(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|flags, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lockWhole waits for the lock of the directory itself.
func lockWhole(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}
