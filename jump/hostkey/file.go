package hostkey

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// NextSuffix and OldSuffix end the names of the keys after and before the one in
// use.
const (
	NextSuffix = ".next"
	OldSuffix  = ".old"
)

// Load reads a private key. What others than its owner can read is no secret,
// and an error.
func Load(path string) (ssh.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("host key %s is no file", path)
	case mode.Perm()&0o077 != 0:
		return nil, fmt.Errorf("host key %s has mode %04o, with which others than its owner can use it; make a new one if they could, else `chmod 600 %s`", path, mode.Perm(), path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("host key %s is no key: %d bytes", path, info.Size())
	}
	data := make([]byte, info.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		return nil, fmt.Errorf("read host key %s: %w", path, err)
	}
	k, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, fmt.Errorf("host key %s has a passphrase, which nobody is there to type; remove it with `ssh-keygen -p -f %s`", path, path)
	case err != nil:
		return nil, fmt.Errorf("host key %s is not understood: %w", path, err)
	case sshfpAlgorithms[k.PublicKey().Type()] == 0:
		return nil, fmt.Errorf("host key %s is of type %s; make one with `ssh-keygen -t ed25519`", path, k.PublicKey().Type())
	}
	return k, nil
}

// maxFile bounds what is read, in bytes.
const maxFile = 64 << 10

// LoadOrMake reads a private key, or makes it where there is none, with its
// directory.
func LoadOrMake(path string) (k ssh.Signer, made bool, err error) {
	k, err = Load(path)
	if !errors.Is(err, os.ErrNotExist) {
		return k, false, err
	}
	if k, err = Make(path); errors.Is(err, os.ErrExist) {
		// Another process was faster; its key is the one.
		k, err = Load(path)
		return k, false, err
	}
	return k, err == nil, err
}

// Make writes a new key where there is none. The error is os.ErrExist where
// there is one.
func Make(path string) (ssh.Signer, error) {
	fail := func(err error) (ssh.Signer, error) { return nil, fmt.Errorf("make host key %s: %w", path, err) }
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fail(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "isthmus")
	if err != nil {
		return fail(err)
	}
	k, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return fail(err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fail(err)
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
		return fail(fmt.Errorf("others than its owner can replace files in %s (mode %04o); `chmod 700 %s`", dir, perm, dir))
	}
	if err := write(path, pem.EncodeToMemory(block), 0o600, info); err != nil {
		return fail(err)
	}
	public := ssh.MarshalAuthorizedKey(k.PublicKey())
	if err := write(path+".pub", public, 0o644, info); err != nil && !errors.Is(err, os.ErrExist) {
		return fail(err)
	}
	return k, nil
}

// write makes a file that is whole as soon as it is there, and was not there
// before. It belongs to whom the directory belongs: root may make a key for the
// user that isthmus runs as.
func write(path string, data []byte, mode os.FileMode, dir os.FileInfo) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".isthmus-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if owner, ok := dir.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 && owner.Uid != 0 {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	if err := errors.Join(f.Chmod(mode), f.Sync()); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces what is there.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Switch puts the next key of path into its place, and keeps the one that was
// there as the old one. At every moment path is a key.
func Switch(path string) error {
	next := path + NextSuffix
	k, err := Load(next)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no next key %s; make one and let clients learn it first", next)
	}
	if err != nil {
		return err
	}
	if _, err := Load(path); err != nil {
		return err
	}
	for _, suffix := range []string{"", ".pub"} {
		old := path + OldSuffix + suffix
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("switch host keys: %w", err)
		}
		if err := os.Link(path+suffix, old); err != nil && !(suffix != "" && errors.Is(err, os.ErrNotExist)) {
			return fmt.Errorf("switch host keys: %w", err)
		}
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("switch host keys: %w", err)
	}
	// The public half follows; a crash between leaves a stale one, which
	// nothing but people reads.
	if err := os.Rename(next+".pub", path+".pub"); errors.Is(err, os.ErrNotExist) {
		err = os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(k.PublicKey()), 0o644)
		if err != nil {
			return fmt.Errorf("switch host keys: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("switch host keys: %w", err)
	}
	return syncDir(filepath.Dir(path))
}
