package emulator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// userEmulator runs single programs of arm64: QEMU plays the processor, and hands
// system calls to this machine's kernel. It has no bpf(2) and cannot set up
// namespaces, so tests that need those skip themselves, as for everybody who is not
// root.
const userEmulator = "qemu-aarch64-static"

// nobody runs the tests where root starts them.
const nobody = 65534

// runUser runs the unit tests of a machine that is only a processor. They are the
// short ones where a number of rounds is arbitrary: an instruction takes about ten
// times as long as on a processor.
func (r *Result) runUser(ctx context.Context, root string, o *Options) error {
	emulator, err := exec.LookPath(userEmulator)
	if err != nil {
		return fmt.Errorf("%w; install the package qemu-user-static (make deps-arm64)", err)
	}
	if err := r.host(); err != nil {
		return err
	}
	// Not in the cache, which is in a home where nobody else may look.
	dir, err := os.MkdirTemp("", "isthmus-processor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	src, tmp := filepath.Join(dir, "src"), filepath.Join(dir, "tmp")
	if err := errors.Join(sources(ctx, root, src), os.Mkdir(tmp, 0o755), os.Chmod(dir, 0o755), os.Chmod(tmp, 0o777)); err != nil {
		return err
	}
	env := []string{"ISTHMUS_EMULATOR=" + emulator, "HOME=" + tmp, "TMPDIR=" + tmp}
	b := NewBuild(root, r.Machine.Arch, dir)
	list, err := b.Packages(ctx, "")
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(p string) bool { return !r.Machine.wants(p) })
	return inParallel(list, func(pkg string, tell func(func())) error {
		binary, err := b.Test(ctx, pkg, "")
		if err != nil {
			return err
		}
		j := Job{
			Name: pkg, Dir: filepath.Join(src, pkg), Env: env, Seconds: 250, Tests: true,
			Args: []string{emulator, binary, "-test.v", "-test.short", "-test.timeout=240s"},
		}
		if os.Getuid() == 0 {
			j.User = nobody
		}
		j.Run(ctx, func(e Event) { tell(func() { err = errors.Join(err, r.take(e, o)) }) })
		return errors.Join(err, os.Remove(binary))
	})
}

// host notes the kernel that runs this.
func (r *Result) host() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	release := unix.ByteSliceToString(u.Release[:])
	return r.take(Event{Kind: "boot", Text: strings.TrimSpace(release), Pages: os.Getpagesize()}, nil)
}

// inParallel does something for each of a list, with a processor each; do gets a
// function that runs another one alone.
func inParallel(list []string, do func(string, func(func())) error) error {
	var (
		wait sync.WaitGroup
		mu   sync.Mutex
		errs error
		next = make(chan string)
	)
	alone := func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		f()
	}
	for range runtime.NumCPU() {
		wait.Go(func() {
			for s := range next {
				err := do(s, alone)
				alone(func() { errs = errors.Join(errs, err) })
			}
		})
	}
	for _, s := range list {
		next <- s
	}
	close(next)
	wait.Wait()
	return errs
}
