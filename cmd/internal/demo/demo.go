package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"aarch64.com/isthmus/perf/lab"
)

// Path is a way that packets take through isthmus.
type Path string

// The paths, in the order in which they are shown.
const (
	Share  Path = "share"  // the kernel path as it is without a configuration file
	XDP    Path = "xdp"    // AF_XDP sockets on the hypervisor's interfaces
	Kernel Path = "kernel" // the kernel's routing and a TUN device
)

func (p Path) title() string {
	switch p {
	case Share:
		return fmt.Sprintf("Out of the box: %d VMs share %v", sharing, lab.HypervisorAddr4)
	case XDP:
		return "AF_XDP: the VM is 192.0.2.2 to IPv4 hosts"
	default:
		return "Kernel path: the VM is 192.0.2.2 to IPv4 hosts"
	}
}

func (p Path) checks() []Check {
	if p == Share {
		return shareChecks()
	}
	return checks()
}

// Options of a run.
type Options struct {
	Paths  []Path
	Hold   bool      // stay up after the checks until the context ends
	JSON   bool      // one JSON document instead of the table
	Out    io.Writer // table or document
	Color  bool
	Binary string // the isthmus to run; "" is this very program
}

// checkTimeout bounds one check; all of them are done in seconds.
const checkTimeout = 20 * time.Second

// Run builds the networks, runs the checks and takes everything down again.
// The error is nil only if every check held.
func Run(ctx context.Context, o Options) (err error) {
	if err := preflight(o.Paths); err != nil {
		return err
	}
	if o.Binary == "" {
		o.Binary = "/proc/self/exe"
	}
	rep := newReport(o)
	rep.intro()
	var stages []*stage
	defer func() {
		for _, s := range stages {
			err = errors.Join(err, s.close())
		}
	}()
	for _, p := range o.Paths {
		s, serr := newStage(ctx, p, o.Binary)
		if s != nil {
			stages = append(stages, s)
		}
		if ctx.Err() != nil {
			return errInterrupted
		}
		if serr != nil {
			return serr
		}
		rep.begin(s)
		list := p.checks()
		if !o.Hold {
			list = append(list, stopCheck)
		}
		for _, c := range list {
			r := run(ctx, s, c)
			if ctx.Err() != nil {
				return errInterrupted
			}
			rep.row(c, r)
		}
		rep.end(s)
		if !o.Hold {
			if err := s.close(); err != nil {
				return err
			}
			stages = stages[:len(stages)-1]
		}
	}
	if err := rep.finish(); err != nil {
		return err
	}
	if o.Hold {
		rep.holding(stages)
		if err := hold(ctx, stages); err != nil {
			return err
		}
	}
	return rep.verdict()
}

var errInterrupted = errors.New("interrupted; everything is taken down")

// result is what became of a Check.
type result struct {
	Said string
	Err  error
	Took time.Duration
}

// run runs one check with its own time limit.
func run(ctx context.Context, s *stage, c Check) result {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	start := time.Now()
	said, err := c.Run(ctx, s)
	return result{Said: said, Err: err, Took: time.Since(start)}
}

// hold waits for the end of the context, which is how a user ends it, or for
// isthmus to end, which it should not.
func hold(ctx context.Context, stages []*stage) error {
	ended := make(chan *stage)
	for _, s := range stages {
		go func() {
			select {
			case <-s.isthmus.done:
				select {
				case ended <- s:
				case <-ctx.Done():
				}
			case <-ctx.Done():
			}
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case s := <-ended:
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("isthmus ended by itself (%s path)\n%s", s.path, s.isthmus.lastWords())
	}
}
