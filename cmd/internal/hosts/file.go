package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// HostsFile is where the C library looks, see hosts(5).
const HostsFile = "/etc/hosts"

const (
	maxFile = 16 << 20 // bytes
	// tempName stands beside the file. It is always the same, so that nothing
	// piles up, and it is the lock among those who write.
	tempName = ".%s.isthmus-hosts"
	retries  = 5 // when somebody else changes the file meanwhile
)

// Update edits a file so that everybody always finds the whole old or the whole
// new content, also after a crash: the new content is written beside it, synced,
// and takes its place by rename(2), with the same owner, mode and extended
// attributes. Symbolic links are followed.
//
// Where the file cannot be replaced (it is a mount point, as in containers, or
// its directory takes no files), it is written in place; see overwrite.
// edit may be called more than once. Update reports whether anything changed.
func Update(path string, edit func(old []byte) ([]byte, error)) (changed bool, err error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, fmt.Errorf("%w; create it first", err)
	}
	var temp *os.File
	renamed := false
	defer func() {
		if temp != nil && !renamed { // afterwards the name may be that of the next one's
			_ = os.Remove(temp.Name())
		}
		if temp != nil {
			_ = temp.Close() // and with it the lock
		}
	}()
	for range retries {
		old, info, err := readWhole(real)
		if err != nil {
			return false, err
		}
		made, err := edit(old)
		if err != nil || bytes.Equal(made, old) {
			return false, err
		}
		if temp == nil {
			temp, err = openTemp(real)
			switch {
			case noTemp(err):
				err := overwrite(real, old, made)
				return err == nil, err
			case err != nil:
				return false, err
			}
			continue // what was read before the lock may be old
		}
		if err := fill(temp, made, real, info); err != nil {
			return false, err
		}
		// Editors and others do not take our lock.
		if now, _, err := readWhole(real); err != nil || !bytes.Equal(now, old) {
			continue
		}
		switch err := os.Rename(temp.Name(), real); {
		case errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EXDEV):
			err := overwrite(real, old, made)
			return err == nil, err
		case err != nil:
			return false, readOnly(real, err)
		}
		renamed = true
		return true, syncDir(filepath.Dir(real))
	}
	return false, fmt.Errorf("%s changes all the time; try again later", real)
}

// ErrReadOnly says that a file cannot be changed, by nobody or not by us.
var ErrReadOnly = errors.New("is not to be written")

// readOnly explains why a file could not be written.
func readOnly(path string, err error) error {
	why := "run as root"
	switch {
	case errors.Is(err, unix.EROFS):
		why = "it is on a read-only file system; add the lines where that is made"
	case !errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("write %s: %w", path, err)
	case os.Geteuid() == 0:
		why = "look for an immutable attribute (lsattr) or a security policy"
	}
	return fmt.Errorf("%s %w: %w; %s", path, ErrReadOnly, err, why)
}

func readWhole(path string) ([]byte, *unix.Stat_t, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not stop us
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	var info unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &info); err != nil {
		return nil, nil, fmt.Errorf("stat %s: %w", path, err)
	}
	if info.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, fmt.Errorf("%s is no regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes; that is no hosts file", path, maxFile)
	}
	return b, &info, err
}

// openTemp opens the file that will take the real one's place, and locks it.
func openTemp(real string) (*os.File, error) {
	path := filepath.Join(filepath.Dir(real), fmt.Sprintf(tempName, filepath.Base(real)))
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		var mine, there unix.Stat_t
		err = errors.Join(unix.Fstat(int(f.Fd()), &mine), unix.Lstat(path, &there))
		if err != nil || mine.Ino != there.Ino || mine.Dev != there.Dev {
			// Whoever had the lock has made it the real file.
			f.Close()
			continue
		}
		// In a directory that others can write to, it might be somebody's trap.
		if mine.Mode&unix.S_IFMT != unix.S_IFREG || mine.Nlink != 1 || int(mine.Uid) != os.Geteuid() {
			f.Close()
			return nil, fmt.Errorf("%s is not of isthmus; remove it", path)
		}
		return f, nil
	}
}

// noTemp tells a directory that takes no new file from other failures.
func noTemp(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}

// fill makes the temporary file what the real one shall be.
func fill(temp *os.File, content []byte, real string, like *unix.Stat_t) error {
	fd := int(temp.Fd())
	if err := temp.Truncate(0); err != nil {
		return fmt.Errorf("write beside %s: %w", real, err)
	}
	if _, err := temp.WriteAt(content, 0); err != nil {
		return fmt.Errorf("write beside %s: %w", real, err)
	}
	if err := unix.Fchown(fd, int(like.Uid), int(like.Gid)); err != nil {
		return fmt.Errorf("give the new %s the owner of the old: %w", real, err)
	}
	if err := copyAttributes(fd, real); err != nil {
		return fmt.Errorf("give the new %s the attributes of the old: %w", real, err)
	}
	if err := unix.Fchmod(fd, like.Mode&0o7777); err != nil {
		return fmt.Errorf("give the new %s the mode of the old: %w", real, err)
	}
	if err := temp.Sync(); err != nil {
		return fmt.Errorf("write beside %s: %w", real, err)
	}
	return nil
}

// copyAttributes copies extended attributes: SELinux labels and ACLs.
func copyAttributes(fd int, from string) error {
	names := make([]byte, 1<<16)
	n, err := unix.Listxattr(from, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names[:n], []byte{0}), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Getxattr(from, string(name), value)
		if err == nil {
			err = unix.Fsetxattr(fd, string(name), value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// overwrite writes the file in place, with room for it reserved. Between the two steps it has the new
// content and empty lines behind. The first step is one write(2) from the first
// byte that differs: a process that is killed has done it whole or not at all as
// long as it lies within one page of memory, but a power cut can leave a part.
func overwrite(path string, old, made []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return readOnly(path, err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	if now, err := io.ReadAll(io.NewSectionReader(f, 0, maxFile)); err != nil || !bytes.Equal(now, old) {
		return fmt.Errorf("%s has changed meanwhile; try again", path)
	}
	// A full disk must not stop us half-way.
	if more := len(made) - len(old); more > 0 {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, int64(len(old)), int64(more))
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENOSYS) {
			return readOnly(path, err)
		}
	}
	padded := made
	if more := len(old) - len(made); more > 0 {
		padded = append(bytes.Clone(made), bytes.Repeat([]byte("\n"), more)...)
	}
	same := 0
	for same < len(old) && same < len(padded) && old[same] == padded[same] {
		same++
	}
	if _, err := f.WriteAt(padded[same:], int64(same)); err != nil {
		return readOnly(path, err)
	}
	if err := f.Truncate(int64(len(made))); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
