package emulator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// Of a run's own folder in the cache, whose name goes on with the process's number.
const runPrefix = "run-"

// isthmusPath is where the guest has isthmus.
const isthmusPath = "/usr/bin/isthmus"

// run makes what a machine needs and boots it.
func (r *Result) run(ctx context.Context, s *session) (err error) {
	m := r.Machine
	var (
		args []string
		net  *lab.Host
	)
	if m.NICs > 0 {
		if err := lab.Check(); err != nil && os.Getenv("ISTHMUS_REQUIRE_LAB") != "1" {
			r.LeftOut = "its cards need a network namespace here: " + err.Error()
			return nil
		}
		l, err := lab.New("emulator")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		if net, args, err = cards(l, m); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(s.Cache, fmt.Sprintf("%s%d-", runPrefix, os.Getpid()))
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	q, k, image, err := s.prepare(ctx, m, dir)
	if err != nil {
		return err
	}
	begin := (*exec.Cmd).Start
	if net != nil {
		begin = net.Start
	}
	accel, err := accelerator(ctx, q, m.Arch, k)
	if err != nil {
		return err
	}
	var ended error
	err = boot(ctx, q, m, k, image, append(accel, args...), begin, func(e Event) { ended = errors.Join(ended, r.take(e, &s.Options)) })
	return errors.Join(ended, err)
}

// prepare makes the initramfs of a machine in dir. One does at a time, of all runs
// that share the cache.
func (s *session) prepare(ctx context.Context, m *Machine, dir string) (q qemu, k *kernel, image string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, err := lock(ctx, filepath.Join(s.Cache, "lock"))
	if err != nil {
		return nil, nil, "", err
	}
	defer unlock()
	if err := needed(m); err != nil {
		return nil, nil, "", err
	}
	if q, err = findQEMU(ctx, s.Cache, m); err != nil {
		return nil, nil, "", err
	}
	if k, err = findKernel(ctx, newDebian(s.Cache, m.Suite, m.Arch), m.Kernel); err != nil {
		return nil, nil, "", err
	}
	programs, err := userland(ctx, newDebian(s.Cache, userSuite, m.Arch), userPackages)
	if err != nil {
		return nil, nil, "", err
	}
	plan, files, err := s.plan(ctx, m)
	if err != nil {
		return nil, nil, "", err
	}
	own := filepath.Join(dir, "own")
	if err := sources(ctx, s.root, filepath.Join(own, SourcePath)); err != nil {
		return nil, nil, "", err
	}
	if err := work(ctx, own, filepath.Join(dir, "own.cpio"), k, modules, plan, files); err != nil {
		return nil, nil, "", err
	}
	image = filepath.Join(dir, "initramfs")
	return q, k, image, writeImage(image, programs, filepath.Join(dir, "own.cpio"))
}

// build is the one for an architecture and tags; what it has built stays.
func (s *session) build(m *Machine) *Build {
	key := strings.Trim(m.Arch+"-"+m.Tags, "-")
	if s.builds[key] == nil {
		s.builds[key] = NewBuild(s.root, m.Arch, filepath.Join(s.Cache, "build-"+key))
	}
	return s.builds[key]
}

// testSeconds is how long the tests of a package may take. It bounds a hang, and
// says nothing about speed.
const testSeconds = 600

// plan is what a machine does, and the files that it needs for that.
func (s *session) plan(ctx context.Context, m *Machine) (Plan, map[string]string, error) {
	var plan Plan
	b, files := s.build(m), map[string]string{}
	for at, pkg := range map[string]string{"/init": "perf/emulator/guest", isthmusPath: "cmd/isthmus"} {
		file, err := b.program(ctx, pkg)
		if err != nil {
			return plan, nil, err
		}
		files[at] = file
	}
	all, err := b.Packages(ctx, m.Tags)
	if err != nil {
		return plan, nil, err
	}
	for _, pkg := range all {
		if !m.wants(pkg) {
			continue
		}
		file, err := b.Test(ctx, pkg, m.Tags)
		if err != nil {
			return plan, nil, err
		}
		at := path.Join("/tests", testName(pkg))
		files[at] = file
		args := []string{at, "-test.v", "-test.timeout=" + strconv.Itoa(testSeconds) + "s"}
		if !s.Full {
			args = append(args, "-test.short") // a processor is ten times as slow here
		}
		if only := m.Tests[pkg]; only != "" {
			args = append(args, "-test.run="+only)
		}
		plan.Jobs = append(plan.Jobs, Job{
			Name: pkg, Dir: path.Join(SourcePath, pkg), Args: args,
			Env: []string{"ISTHMUS_BINARY=" + isthmusPath, "ISTHMUS_REQUIRE_LAB=1"}, Seconds: testSeconds + 10, Tests: true,
		})
	}
	if m.Demo {
		plan.Jobs = append(plan.Jobs, Job{Name: "isthmus demo", Dir: "/tmp", Args: []string{isthmusPath, "demo"}, Seconds: testSeconds})
	}
	if len(plan.Jobs) == 0 {
		return plan, nil, fmt.Errorf("nothing to run: no package with tests is called %s", strings.Join(m.Packages, ", "))
	}
	return plan, files, nil
}

// needed tells which programs are missing here.
func needed(m *Machine) error {
	p := processors[m.Arch]
	for _, n := range []struct{ program, pkg string }{
		{p.program, p.pkg}, {"apt-get", "apt"}, {"dpkg-deb", "dpkg"}, {"cpio", "cpio"}, {"depmod", "kmod"}, {"git", "git"},
	} {
		if _, err := exec.LookPath(n.program); err != nil {
			return fmt.Errorf("%s is not here; on Debian install the package %s (make deps-arm64)", n.program, n.pkg)
		}
	}
	return nil
}

// lock waits until no other process has the file locked.
func lock(ctx context.Context, file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	got := make(chan error, 1)
	go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err = <-got:
	case <-ctx.Done():
		// The lock comes and goes with this process.
		return nil, ctx.Err()
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", file, err)
	}
	return func() { f.Close() }, nil
}

// sweep removes what runs have left that were killed.
func sweep(cache string) error {
	left, err := filepath.Glob(filepath.Join(cache, runPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), runPrefix), "-")
		if n, err := strconv.Atoi(pid); err != nil || errors.Is(unix.Kill(n, 0), unix.ESRCH) {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}
