package hosts_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/cmd/internal/hosts"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// become is an edit that ends with this content.
func become(content string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return []byte(content), nil }
}

func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
	must(t, os.Chmod(path, mode))
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if string(got) != want {
		t.Errorf("%s has %q, want %q", path, got, want)
	}
}

// alone checks that nothing was left beside the file.
func alone(t *testing.T, path string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(list) != 1 || list[0].Name() != filepath.Base(path) {
		t.Errorf("beside %s: %v", path, list)
	}
}

func TestUpdate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	writeFile(t, path, "old\n", 0o640)
	var before, after unix.Stat_t
	if os.Geteuid() == 0 {
		must(t, os.Chown(path, 4711, 4712))
	}
	hasAttributes := unix.Setxattr(path, "user.label", []byte("kept"), 0) == nil
	must(t, unix.Stat(path, &before))

	changed, err := hosts.Update(path, become("new\n"))
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	wantContent(t, path, "new\n")
	must(t, unix.Stat(path, &after))
	if before.Mode != after.Mode || before.Uid != after.Uid || before.Gid != after.Gid {
		t.Errorf("mode %o of %d:%d, was %o of %d:%d", after.Mode, after.Uid, after.Gid, before.Mode, before.Uid, before.Gid)
	}
	if before.Ino == after.Ino {
		t.Error("written in place")
	}
	if hasAttributes {
		b := make([]byte, 16)
		if n, err := unix.Getxattr(path, "user.label", b); err != nil || string(b[:n]) != "kept" {
			t.Errorf("extended attribute: %q, %v", b[:max(n, 0)], err)
		}
	}
	alone(t, path)

	before = after
	if changed, err = hosts.Update(path, become("new\n")); err != nil || changed {
		t.Errorf("the same again: changed %v, %v", changed, err)
	}
	must(t, unix.Stat(path, &after))
	if before.Ino != after.Ino || before.Mtim != after.Mtim {
		t.Error("the file was touched for nothing")
	}
	refused := errors.New("refused")
	if changed, err = hosts.Update(path, func([]byte) ([]byte, error) { return nil, refused }); !errors.Is(err, refused) || changed {
		t.Errorf("an edit that fails: changed %v, %v", changed, err)
	}
	wantContent(t, path, "new\n")
	alone(t, path)
}

func TestUpdateFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "real"), 0o755))
	real := filepath.Join(dir, "real", "hosts")
	writeFile(t, real, "old\n", 0o644)
	link := filepath.Join(dir, "link")
	must(t, os.Symlink("real/hosts", link))
	_, err := hosts.Update(link, become("new\n"))
	must(t, err)
	wantContent(t, real, "new\n")
	if to, err := os.Readlink(link); err != nil || to != "real/hosts" {
		t.Errorf("the link: %q, %v", to, err)
	}
	alone(t, real)
}

func TestUpdateRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o644))
	// Somebody's trap: what would be truncated is another file.
	trapped := filepath.Join(dir, "trapped")
	writeFile(t, trapped, "old\n", 0o644)
	treasure := filepath.Join(dir, "treasure")
	writeFile(t, treasure, "precious", 0o600)
	must(t, os.Link(treasure, filepath.Join(dir, ".trapped.isthmus-hosts")))
	for path, want := range map[string]string{
		filepath.Join(dir, "nowhere"): "create it first",
		fifo:                          "no regular file",
		dir:                           "no regular file",
		trapped:                       "remove it",
	} {
		if _, err := hosts.Update(path, become("new\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	wantContent(t, trapped, "old\n")
	wantContent(t, treasure, "precious")
}

// Several at once: no update is lost.
func TestUpdatesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	writeFile(t, path, "", 0o644)
	const writers, each = 4, 25
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				_, err := hosts.Update(path, func(old []byte) ([]byte, error) { return append(bytes.Clone(old), "x\n"...), nil })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	wantContent(t, path, strings.Repeat("x\n", writers*each))
	alone(t, path)
}

// An editor that saves meanwhile does not lose its change.
func TestUpdateBesideAnEditor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	writeFile(t, path, "a\n", 0o644)
	calls := 0
	_, err := hosts.Update(path, func(old []byte) ([]byte, error) {
		if calls++; calls == 2 { // behind the lock, before the rename
			writeFile(t, path, "a\nb\n", 0o644)
		}
		return append(bytes.Clone(old), "ours\n"...), nil
	})
	must(t, err)
	wantContent(t, path, "a\nb\nours\n")
}

// withMounts runs fn where mounts are nobody else's.
func withMounts(t *testing.T, fn func() error) {
	t.Helper()
	labtest.Need(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its mounts
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	must(t, <-done)
}

func bind(path string) error { return unix.Mount(path, path, "", unix.MS_BIND, "") }

func readOnlyMount(path string) error {
	if err := bind(path); err != nil {
		return err
	}
	return unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}

// As in containers: the file is a mount point, and rename gives EBUSY.
func TestUpdateOfAMountPoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	for _, c := range []struct{ old, content string }{
		{"old\n", "longer than before\n"}, {"longer than before\n", "old\n"}, {"old\n", ""}, {"", "new\n"},
		{strings.Repeat("a line\n", 5000), "x\n" + strings.Repeat("a line\n", 3000)},
	} {
		writeFile(t, path, c.old, 0o640)
		withMounts(t, func() error {
			if err := bind(path); err != nil {
				return err
			}
			changed, err := hosts.Update(path, become(c.content))
			if err == nil && !changed {
				err = errors.New("nothing changed")
			}
			return err
		})
		wantContent(t, path, c.content)
		alone(t, path)
	}
}

// As in containers with a read-only root: nothing can be put beside the file.
func TestUpdateInAReadOnlyDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	writeFile(t, path, "old\n", 0o644)
	withMounts(t, func() error {
		if err := bind(path); err != nil {
			return err
		}
		// Not recursive: the file's own mount, copied along, stays writable.
		if err := unix.Mount(filepath.Dir(path), filepath.Dir(path), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
		if err := unix.Mount("", filepath.Dir(path), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return err
		}
		_, err := hosts.Update(path, become("new\n"))
		return err
	})
	wantContent(t, path, "new\n")
	alone(t, path)
}

func TestUpdateReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	writeFile(t, path, "old\n", 0o644)
	for name, mount := range map[string]func() error{
		"the file":      func() error { return readOnlyMount(path) },
		"the directory": func() error { return readOnlyMount(filepath.Dir(path)) },
	} {
		withMounts(t, func() error {
			if err := mount(); err != nil {
				return err
			}
			if changed, err := hosts.Update(path, become("new\n")); !errors.Is(err, hosts.ErrReadOnly) || !errors.Is(err, unix.EROFS) || changed {
				t.Errorf("%s: changed %v, %v", name, changed, err)
			}
			return nil
		})
		wantContent(t, path, "old\n")
		alone(t, path)
	}
}

// A full disk leaves the old file, whichever way it is written.
func TestUpdateOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hosts")
	for name, place := range map[string]bool{"renamed": false, "in place": true} {
		withMounts(t, func() error {
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
				return err
			}
			writeFile(t, path, "old\n", 0o644)
			if place {
				if err := bind(path); err != nil {
					return err
				}
			}
			// In place, the new content fits beside the old, but not into it as well.
			size := 64 << 10
			if place {
				size = 10 << 10
			}
			changed, err := hosts.Update(path, become(strings.Repeat("new\n", size/4)))
			if !errors.Is(err, unix.ENOSPC) || changed {
				t.Errorf("%s: changed %v, %v", name, changed, err)
			}
			wantContent(t, path, "old\n")
			alone(t, path)
			return nil
		})
	}
}
