package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"aarch64.com/isthmus/perf/lab"
)

// Check is one line of the table.
type Check struct {
	From, To string // hosts of the topology
	Name     string
	// Run does it and says what came of it: one line, or more for a list.
	Run func(context.Context, *stage) (string, error)
}

// checks are those of a VM with a mapping, over AF_XDP and over the kernel path.
func checks() []Check {
	return []Check{
		{"vm", "server", "ping", func(ctx context.Context, s *stage) (string, error) {
			return checkPing(ctx, s.vm.Host, lab.Translated(lab.ServerAddr4))
		}},
		{"vm", "server", "HTTP GET", func(ctx context.Context, s *stage) (string, error) {
			return get(ctx, s.vm.Host, lab.Translated(lab.ServerAddr4), s.vm.Addr4)
		}},
		{"vm", "server", "download 10 MB", func(ctx context.Context, s *stage) (string, error) {
			return download(ctx, s.vm.Host, host(lab.Translated(lab.ServerAddr4)))
		}},
		{"vm", "server", "UDP round trip", func(ctx context.Context, s *stage) (string, error) {
			return checkUDP(ctx, s.vm.Host, lab.Translated(lab.ServerAddr4), 1, 512, 1400)
		}},
		{"vm", "server", "UDP in fragments", func(ctx context.Context, s *stage) (string, error) {
			return checkUDP(ctx, s.vm.Host, lab.Translated(lab.ServerAddr4), 4000)
		}},
		{"vm", "far", "traceroute", checkTraceTo4},
		{"vm", "far", "upload, MTU drops", func(ctx context.Context, s *stage) (string, error) {
			return checkUpload(ctx, s, host(lab.Translated(lab.FarAddr4)))
		}},

		{"server", "vm", "ping", func(ctx context.Context, s *stage) (string, error) {
			return checkPing(ctx, s.topo.Server, s.vm.Addr4)
		}},
		{"server", "vm", "HTTP GET", func(ctx context.Context, s *stage) (string, error) {
			return get(ctx, s.topo.Server, s.vm.Addr4, lab.Translated(lab.ServerAddr4))
		}},
		{"server", "vm", "download 10 MB", func(ctx context.Context, s *stage) (string, error) {
			return download(ctx, s.topo.Server, host(s.vm.Addr4))
		}},
		{"server", "vm", "UDP round trip", func(ctx context.Context, s *stage) (string, error) {
			return checkUDP(ctx, s.topo.Server, s.vm.Addr4, 1, 512, 1400)
		}},
		{"server", "vm", "UDP in fragments", func(ctx context.Context, s *stage) (string, error) {
			return checkUDP(ctx, s.topo.Server, s.vm.Addr4, 4000)
		}},
		{"server", "vm", "1500 bytes unsplit", checkTooBig},
		{"far", "vm", "traceroute", checkTraceTo6},

		{"isthmus", "", "packets by path", checkCarried},
	}
}

// stopCheck comes last, when isthmus is not needed any more.
var stopCheck = Check{"isthmus", "", "SIGINT", checkStop}

func checkPing(ctx context.Context, from *lab.Host, to netip.Addr) (string, error) {
	best, err := ping(ctx, from, to)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %[1]d, fastest %s", len(pingSizes), short(best)), nil
}

func checkUDP(ctx context.Context, from *lab.Host, to netip.Addr, sizes ...int) (string, error) {
	again, err := udp(ctx, from, to, sizes...)
	if err != nil {
		return "", err
	}
	said := strings.ReplaceAll(strings.Trim(fmt.Sprint(sizes), "[]"), " ", ", ") + " bytes"
	if again > 0 {
		said += fmt.Sprintf(", %d sent again", again)
	}
	return said, nil
}

// checkTraceTo4 wants to see, from the VM, isthmus's machine, then both IPv4
// routers by their translated errors, then the destination.
func checkTraceTo4(ctx context.Context, s *stage) (string, error) {
	to := lab.Translated(lab.FarAddr4)
	return s.trace(ctx, s.vm.Host, to, nil,
		[]netip.Addr{lab.Translated(lab.RouterAddr4), lab.Translated(lab.EdgeAddr4), to})
}

// checkTraceTo6 wants the same from the far IPv4 host: its routers first, then
// isthmus's machine, then the VM.
func checkTraceTo6(ctx context.Context, s *stage) (string, error) {
	return s.trace(ctx, s.topo.Far, s.vm.Addr4,
		[]netip.Addr{lab.FarAddr4.Prev(), lab.EdgeAddr4.Prev()}, []netip.Addr{s.vm.Addr4})
}

// trace lists the hops, which must begin and end as given, with isthmus's
// machine in between. One of the errors has to be isthmus's own.
func (s *stage) trace(ctx context.Context, from *lab.Host, to netip.Addr, first, last []netip.Addr) (string, error) {
	var hops []netip.Addr
	own, err := s.ownErrors(ctx, func() (err error) {
		hops, err = traceroute(ctx, from, to)
		return err
	})
	said := fmt.Sprintf("%d hops, %d by isthmus itself", len(hops), own)
	for i, h := range hops {
		said += fmt.Sprintf("\n%2d %s", i+1, show(h))
	}
	switch n := len(hops) - len(last); {
	case err != nil:
	case n <= len(first) || !slices.Equal(hops[:len(first)], first) || !slices.Equal(hops[n:], last):
		err = fmt.Errorf("expected %v, then isthmus, then %v", first, last)
	case own == 0:
		err = errors.New("isthmus itself has sent no ICMP error")
	}
	return said, err
}

// checkUpload sends more than the narrow link behind the Internet's router
// takes. Its IPv4 error has to reach the VM as Packet Too Big with the 20 bytes
// by which the headers differ (RFC 7915 section 4.2).
func checkUpload(ctx context.Context, s *stage, far string) (string, error) {
	before, after, speed, err := upload(ctx, s.vm.Host, far)
	if err != nil {
		return "", err
	}
	said := fmt.Sprintf("MTU %d > %d, %s", before, after, speed)
	if before != linkMTU || after != narrowMTU+20 {
		return said, fmt.Errorf("the path's MTU should be %d first, and %d after a Packet Too Big", linkMTU, narrowMTU+20)
	}
	return said, nil
}

// checkTooBig sends an IPv4 packet that fills the link and grows by 20 bytes in
// translation. isthmus itself has to say that 1480 bytes would fit, and they do.
func checkTooBig(ctx context.Context, s *stage) (string, error) {
	const headers = 20 + 8 // IPv4, UDP
	var said *icmpError
	own, err := s.ownErrors(ctx, func() (err error) {
		said, err = tooBig(ctx, s.topo.Server, s.vm.Addr4, linkMTU-headers)
		return err
	})
	if err != nil {
		return "", err
	}
	if own == 0 {
		return "", fmt.Errorf("the error came from %s, but not from isthmus", show(said.From))
	}
	if said.MTU != linkMTU-20 {
		return "", fmt.Errorf("%s says that %d bytes would fit, should be %d", show(said.From), said.MTU, linkMTU-20)
	}
	if _, err := udp(ctx, s.topo.Server, s.vm.Addr4, linkMTU-20-headers); err != nil {
		return "", err
	}
	return fmt.Sprintf("told %d by %s", said.MTU, show(said.From)), nil
}

// checkCarried asks isthmus's own counters which way the packets came: a table
// of successes would look the same if all of them had taken the slow path.
func checkCarried(ctx context.Context, s *stage) (string, error) {
	ports, err := s.isthmus.counted(ctx, receivedMetric, "port")
	if err != nil {
		return "", err
	}
	var wire, kernel float64
	for port, n := range ports {
		if port == tunDevice {
			kernel += n
		} else {
			wire += n
		}
	}
	fast, err := s.isthmus.counted(ctx, fastPathMetric, "direction")
	if err != nil {
		return "", err
	}
	said := fmt.Sprintf("AF_XDP %.0f, kernel %.0f", wire, kernel)
	if s.path != XDP {
		said = fmt.Sprintf("in BPF %.0f of %.0f", fast["ipv6_to_ipv4"]+fast["ipv4_to_ipv6"], kernel)
	}
	switch {
	case s.path == XDP && wire < 9*kernel, s.path == XDP && wire == 0:
		return said, errors.New("most packets should have come by AF_XDP")
	case s.path != XDP && wire > 0, s.path != XDP && kernel == 0:
		return said, errors.New("all packets should have come by the kernel")
	}
	return said, nil
}
