package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Dir makes a directory for files of the host, which go with the lab, and
// returns its path; every call returns the same one.
func (h *Host) Dir() (string, error) {
	whole, err := h.lab.Dir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(whole, h.name)
	return dir, os.MkdirAll(dir, 0o700)
}

// Cover makes the programs that [Host.Start] starts from now on find the file
// or directory with where target is, which has to exist. Nobody else sees that.
// What is covered cannot be named as with any more.
func (h *Host) Cover(target, with string) error {
	err := h.onOwnThread(func() error {
		if err := h.ownMounts(); err != nil {
			return err
		}
		return unix.Mount(with, target, "", unix.MS_BIND, "")
	})
	if err != nil {
		return fmt.Errorf("%s: put %s over %s: %w", h.name, with, target, err)
	}
	return nil
}

// OwnFiles gives the programs that [Host.Start] starts from now on a /run and a
// /var/lib of their own, empty at first, so that a daemon with its usual paths
// does not meet the machine's. Outside they are run and lib in the directory
// returned.
func (h *Host) OwnFiles() (dir string, err error) {
	if dir, err = h.Dir(); err != nil {
		return "", err
	}
	// /run last: the directory is in there.
	for _, target := range []string{"/var/lib", "/run"} {
		own := filepath.Join(dir, filepath.Base(target))
		if err := os.Mkdir(own, 0o755); err != nil {
			return "", err
		}
		if err := h.Cover(target, own); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// ownMounts gives the host's thread, and with it the programs started from
// there, a mount namespace. It runs on that thread.
func (h *Host) ownMounts() error {
	if h.mounts {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	// What is unmounted outside goes here, too; nothing goes the other way.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	h.mounts = true
	return nil
}

// etcDir is where ip-netns(8) looks for files to put over those in /etc.
const etcDir = "/etc/netns"

// etc gives the host a file in /etc, for programs started by [Host.Start] and
// by `ip netns exec`. The machine's own /etc has to have one of that name.
func (h *Host) etc(name, content string) error {
	dir := filepath.Join(etcDir, h.file)
	var err error
	for range 3 { // another lab may take the empty etcDir away in between
		if err = os.MkdirAll(dir, 0o755); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	file := filepath.Join(dir, name)
	if err == nil {
		err = os.WriteFile(file, []byte(content), 0o644)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	return h.Cover(filepath.Join("/etc", name), file)
}

// removeEtc removes the files of a namespace.
func removeEtc(name string) error {
	if err := os.RemoveAll(filepath.Join(etcDir, name)); err != nil {
		return err
	}
	_ = os.Remove(etcDir) // stays where it is not empty, or was never made
	return nil
}
