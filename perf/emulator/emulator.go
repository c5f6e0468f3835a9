package emulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are what Run is asked for.
type Options struct {
	Root     string   // of the tree
	Cache    string   // for what is downloaded and unpacked
	Only     []string // machines, all if empty
	Packages []string // instead of each machine's own
	Full     bool     // all packages on each machine that has any, and all their tests
	Parallel int      // how many machines run at the same time
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
	LeftOut string // why it did not run
	Took    time.Duration
	CPU     time.Duration // of QEMU; of a processor alone, that of its jobs
	Err     error
}

// Run boots machines and prints what ran. The error says that something failed;
// the table says what.
func Run(ctx context.Context, o Options) error {
	machines, err := o.machines()
	if err != nil {
		return err
	}
	s, err := newSession(o)
	if err != nil {
		return err
	}
	results := make([]*Result, len(machines))
	next := make(chan int)
	var wait sync.WaitGroup
	for range max(1, o.Parallel) {
		wait.Go(func() {
			for i := range next {
				r := &Result{Machine: &machines[i]}
				begin := time.Now()
				if r.Machine.User {
					r.Err = r.runUser(ctx, s.root, &s.Options)
				} else {
					r.Err = r.run(ctx, s)
				}
				r.Took = time.Since(begin)
				results[i] = r
			}
		})
	}
	for i := range machines {
		next <- i
	}
	close(next)
	wait.Wait()
	err = table(s.Out, results)
	if ctx.Err() != nil {
		return fmt.Errorf("it was stopped: %w", context.Cause(ctx))
	}
	return err
}

// machines are those that are asked for, with what they are asked to run.
func (o *Options) machines() ([]Machine, error) {
	var list []Machine
	for _, m := range Machines {
		if len(o.Only) > 0 && !slices.Contains(o.Only, m.Name) {
			continue
		}
		if o.Full && m.Tags == "" {
			m.Packages, m.Tests, m.Patience = []string{"..."}, nil, 10*m.Patience
		}
		if len(o.Packages) > 0 {
			m.Packages, m.Tests = o.Packages, nil
		}
		list = append(list, m)
	}
	for _, name := range o.Only {
		if !slices.ContainsFunc(list, func(m Machine) bool { return m.Name == name }) {
			return nil, fmt.Errorf("no machine is called %s", name)
		}
	}
	return list, nil
}

// session is what the machines of a run share.
type session struct {
	Options
	root   string
	mu     sync.Mutex        // one prepares at a time
	builds map[string]*Build // by architecture and tags
}

func newSession(o Options) (*session, error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, err
	}
	if o.Cache, err = filepath.Abs(o.Cache); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return nil, err
	}
	o.Out = &lockedWriter{w: o.Out}
	return &session{Options: o, root: root, builds: map[string]*Build{}}, sweep(o.Cache)
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
		if r.Machine.User {
			r.CPU += time.Duration(e.Used) * time.Millisecond
		}
		if o.Verbose {
			how := "ok"
			if !e.OK {
				how = "FAILED"
			}
			fmt.Fprintf(o.Out, "%-15s %-34s %4d passed  %6.1f s  %s\n", r.Machine.Name, e.Job, e.Passed, float64(e.Millis)/1000, how)
		}
	case "used":
		r.CPU = time.Duration(e.Millis) * time.Millisecond
	case "end":
		if !e.OK {
			return errors.New(e.Text)
		}
	}
	return nil
}

// lockedWriter takes whole lines of several writers.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

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
