package emulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options are what Run is asked for.
type Options struct {
	Root     string   // of the tree
	Cache    string   // for what is downloaded and unpacked
	Only     []string // machines, all if empty
	Packages []string // instead of each machine's own
	Verbose  bool
	Out      io.Writer
}

// Result is what ran on one machine.
type Result struct {
	Machine *Machine
	Release string // of the kernel
	Pages   int    // bytes
	Jobs    []Event
	Failed  []Event
	Skipped []Event
	Took    time.Duration
	Err     error
}

// Run boots machines one after the other and prints what ran. The error says that
// something failed; the table says what.
func Run(ctx context.Context, o Options) error {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return err
	}
	var results []*Result
	for i := range Machines {
		m := Machines[i]
		if len(o.Only) > 0 && !slices.Contains(o.Only, m.Name) {
			continue
		}
		if len(o.Packages) > 0 {
			m.Packages = o.Packages
		}
		r := &Result{Machine: &m}
		begin := time.Now()
		if m.User {
			fmt.Fprintf(o.Out, "%s: %s, this machine's kernel\n", m.Name, m.Arch)
			r.Err = r.runUser(ctx, root, &o)
		} else {
			fmt.Fprintf(o.Out, "%s: %s, kernel of Debian %s\n", m.Name, m.Arch, m.Suite)
			r.Err = r.run(ctx, root, &o)
		}
		r.Took = time.Since(begin)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		results = append(results, r)
	}
	if len(results) == 0 {
		return fmt.Errorf("no machine is called %s", strings.Join(o.Only, ", "))
	}
	return table(o.Out, results)
}

// run makes what a machine needs and boots it.
func (r *Result) run(ctx context.Context, root string, o *Options) error {
	m := r.Machine
	k, err := findKernel(ctx, newDebian(o.Cache, m.Suite, m.Arch), m.Kernel)
	if err != nil {
		return err
	}
	programs, err := userland(ctx, newDebian(o.Cache, userSuite, m.Arch), userPackages)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.Cache, "run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	plan, files, err := m.plan(ctx, NewBuild(root, m.Arch, filepath.Join(o.Cache, "build-"+m.Arch)))
	if err != nil {
		return err
	}
	own := filepath.Join(dir, "own")
	if err := sources(ctx, root, filepath.Join(own, SourcePath)); err != nil {
		return err
	}
	if err := work(ctx, own, filepath.Join(dir, "own.cpio"), k, modules, plan, files); err != nil {
		return err
	}
	image := filepath.Join(dir, "initramfs")
	if err := writeImage(image, programs, filepath.Join(dir, "own.cpio")); err != nil {
		return err
	}
	var ended error
	err = boot(ctx, m, k, image, nil, (*exec.Cmd).Start, func(e Event) {
		ended = errors.Join(ended, r.take(e, o))
	})
	return errors.Join(ended, err)
}

// take notes an event.
func (r *Result) take(e Event, o *Options) error {
	switch e.Kind {
	case "boot":
		r.Release, r.Pages = e.Text, e.Pages
	case "fail":
		r.Failed = append(r.Failed, e)
	case "skip":
		r.Skipped = append(r.Skipped, e)
	case "job":
		r.Jobs = append(r.Jobs, e)
		if o.Verbose {
			fmt.Fprintf(o.Out, "  %-40s %4d passed  %6.1f s  %v\n", e.Job, e.Passed, float64(e.Millis)/1000, e.OK)
		}
	case "end":
		if !e.OK {
			return errors.New(e.Text)
		}
	}
	return nil
}

// plan is what a machine does, and the files that it needs for that.
func (m *Machine) plan(ctx context.Context, b *Build) (Plan, map[string]string, error) {
	var plan Plan
	files := map[string]string{}
	for at, pkg := range map[string]string{"/init": "perf/emulator/guest", isthmusPath: "cmd/isthmus"} {
		file, err := b.program(ctx, pkg)
		if err != nil {
			return plan, nil, err
		}
		files[at] = file
	}
	all, err := b.Packages(ctx, "")
	if err != nil {
		return plan, nil, err
	}
	for _, pkg := range all {
		if !m.wants(pkg) {
			continue
		}
		file, err := b.Test(ctx, pkg, "")
		if err != nil {
			return plan, nil, err
		}
		at := path.Join("/tests", testName(pkg))
		files[at] = file
		plan.Jobs = append(plan.Jobs, Job{
			Name: pkg, Dir: path.Join(SourcePath, pkg), Args: []string{at, "-test.v", "-test.timeout=240s"},
			Env: []string{"ISTHMUS_BINARY=" + isthmusPath}, Seconds: 250, Tests: true,
		})
	}
	if m.Demo {
		plan.Jobs = append(plan.Jobs, Job{Name: "isthmus demo", Dir: "/tmp", Args: []string{isthmusPath, "demo"}, Seconds: 120})
	}
	return plan, files, nil
}

// isthmusPath is where the guest has isthmus.
const isthmusPath = "/usr/bin/isthmus"

// wants tells whether a package's tests run here.
func (m *Machine) wants(pkg string) bool {
	in := false
	for _, p := range m.Packages {
		p, not := strings.CutPrefix(p, "!")
		below, all := strings.CutSuffix(p, "...")
		if pkg == p || all && strings.HasPrefix(pkg+"/", below) {
			in = !not
		}
	}
	return in
}
