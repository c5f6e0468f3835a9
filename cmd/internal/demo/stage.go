package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labdns"
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
	vm      *lab.VM // the first one
	serving []*services
	dns     *labdns.Server
	seen    [sharing]netip.AddrPort // how the server has seen each VM
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
	vms := 1
	if p == Share {
		vms = sharing
	}
	s.topo, err = s.lab.Build(lab.TopologyConfig{
		VMs: vms, Resolver: true,
		Queues: queues, VMMTU: linkMTU, WANMTU: linkMTU, NarrowMTU: narrowMTU,
		// AF_XDP sees frames as on a wire; the kernel path carries superpackets.
		ChecksumOffload: p != XDP, GRO: p != XDP,
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
	s.dns, err = labdns.Serve(s.topo.Resolver, netip.AddrPortFrom(lab.ResolverAddr6, dnsPort), labdns.Config{Prefix: lab.Pool6, Records: names})
	if err != nil {
		return s, err
	}
	if p == Share {
		if err := s.openForbidden(); err != nil {
			return s, err
		}
	}
	if ctx.Err() != nil {
		return s, ctx.Err()
	}
	s.isthmus, err = startDaemon(ctx, binary, p, s.topo)
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
	if s.dns != nil {
		s.dns.Close()
	}
	if s.lab != nil {
		errs = append(errs, s.lab.Close())
	}
	return errors.Join(errs...)
}
