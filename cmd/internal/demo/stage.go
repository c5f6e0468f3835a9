package demo

import (
	"context"
	"errors"
	"fmt"

	"aarch64.com/isthmus/perf/lab"
)

// Sizes of the network that the checks count on.
const (
	linkMTU   = 1500
	narrowMTU = 1400
	queues    = 2
)

// stage is one network with its servers and isthmus running in it.
type stage struct {
	path    Path
	lab     *lab.Lab
	topo    *lab.Topology
	vm      *lab.VM
	serving []*services
	isthmus *daemon
	closed  bool
}

// newStage builds everything. On an error nothing is left.
func newStage(ctx context.Context, p Path, binary string) (s *stage, err error) {
	s = &stage{path: p}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
			s = nil
		}
	}()
	if s.lab, err = lab.New("demo-" + string(p)); err != nil {
		return s, err
	}
	s.topo, err = s.lab.Build(lab.TopologyConfig{
		Queues: queues, VMMTU: linkMTU, WANMTU: linkMTU, NarrowMTU: narrowMTU,
		// AF_XDP sees frames as on a wire; the kernel path carries superpackets.
		ChecksumOffload: p == Kernel, GRO: p == Kernel,
	})
	if err != nil {
		return s, err
	}
	s.vm = s.topo.VMs[0]
	for _, h := range []*lab.Host{s.vm.Host, s.topo.Server, s.topo.Far} {
		sv, err := serve(h)
		if err != nil {
			return s, fmt.Errorf("servers on %s: %w", h.Name(), err)
		}
		s.serving = append(s.serving, sv)
	}
	if ctx.Err() != nil {
		return s, ctx.Err()
	}
	dir, err := s.lab.Dir()
	if err != nil {
		return s, err
	}
	s.isthmus, err = startDaemon(ctx, binary, dir, p, s.topo)
	return s, err
}

// close takes everything down; a second call does nothing.
func (s *stage) close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	if s.isthmus != nil {
		errs = append(errs, s.isthmus.stop())
	}
	for _, sv := range s.serving {
		sv.close()
	}
	if s.lab != nil {
		errs = append(errs, s.lab.Close())
	}
	return errors.Join(errs...)
}
