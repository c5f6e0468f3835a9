package demo

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labdns"
)

const (
	sharing    = 3 // VMs that share an address
	serverName = "ipv4only.example"
	farName    = "far.example"
)

// refusedTimeout is enough for a connection within one machine. Where isthmus
// sends no ICMP error there is nothing to wait for; its counters tell.
const refusedTimeout = 500 * time.Millisecond

// names are what the resolver knows.
var names = labdns.Records{
	serverName: {lab.ServerAddr4.String()},
	farName:    {lab.FarAddr4.String()},
}

// forbidden are places that the hypervisor reaches and a VM must not, and
// isthmus's words for why: the hypervisor itself, the metadata service of a cloud
// that it may run in, a private network.
var forbidden = []struct {
	addr    netip.Addr
	verdict string
}{
	{lab.HypervisorAddr4, "local_destination4"},
	{netip.MustParseAddr("169.254.169.254"), "martian_destination4"},
	{netip.MustParseAddr("10.1.2.3"), "private_destination4"},
}

// shareChecks are those of VMs without an IPv4 address of their own.
func shareChecks() []Check {
	list := []Check{{"vm", "resolver", serverName, checkDNS64}}
	for i := range sharing {
		list = append(list, Check{vmName(i), "server", "GET by name", func(ctx context.Context, s *stage) (string, error) {
			return s.greetShared(ctx, i)
		}})
	}
	return append(list,
		Check{"isthmus", "", "map owner", checkOwners},
		Check{"vm", "server", "ping", func(ctx context.Context, s *stage) (string, error) {
			return checkPing(ctx, s.vm.Host, lab.Translated(lab.ServerAddr4))
		}},
		Check{"vm1", "server", "download 10 MB", func(ctx context.Context, s *stage) (string, error) {
			return download(ctx, s.topo.VMs[1].Host, serverName)
		}},
		Check{"vm", "far", "upload, MTU drops", func(ctx context.Context, s *stage) (string, error) {
			return checkUpload(ctx, s, farName)
		}},
		Check{"vm2", "server", "UDP round trip", func(ctx context.Context, s *stage) (string, error) {
			return checkUDP(ctx, s.topo.VMs[2].Host, lab.Translated(lab.ServerAddr4), 1, 512, 1400)
		}},
		Check{"vm2", "server", "UDP in fragments", func(ctx context.Context, s *stage) (string, error) {
			return checkUDP(ctx, s.topo.VMs[2].Host, lab.Translated(lab.ServerAddr4), 4000)
		}},
		Check{"vm", "", "forbidden places", checkForbidden},
		Check{"isthmus", "", "packets by path", checkCarried},
	)
}

// vmName is how the lab calls its VMs.
func vmName(i int) string {
	if i == 0 {
		return "vm"
	}
	return "vm" + strconv.Itoa(i)
}

// checkDNS64 wants the IPv6 address that the resolver makes of an IPv4 one.
func checkDNS64(ctx context.Context, s *stage) (string, error) {
	got, err := s.vm.Lookup(ctx, netip.AddrPortFrom(lab.ResolverAddr6, dnsPort), "ip6", serverName)
	if err != nil {
		return "", err
	}
	if want := lab.Translated(lab.ServerAddr4); !slices.Equal(got, []netip.Addr{want}) {
		return "", fmt.Errorf("%s should have the address %s only, and has %v", serverName, show(want), got)
	}
	return "is " + show(got[0]), nil
}

// greetShared has a VM fetch the front page, and keeps the port that it was
// seen with.
func (s *stage) greetShared(ctx context.Context, i int) (string, error) {
	seen, err := greet(ctx, s.topo.VMs[i].Host, serverName)
	if err != nil {
		return "", err
	}
	s.seen[i] = seen
	said := fmt.Sprintf("seen as %v port %d", seen.Addr(), seen.Port())
	if seen.Addr() != lab.HypervisorAddr4 {
		return said, fmt.Errorf("the server should see %v, which the VMs share", lab.HypervisorAddr4)
	}
	return said, nil
}

// checkOwners asks isthmus, as an operator would, whose the ports are that the
// server has seen.
func checkOwners(ctx context.Context, s *stage) (string, error) {
	said := fmt.Sprintf("%d ports, each of the right VM", len(s.seen))
	for i, seen := range s.seen {
		if !seen.IsValid() {
			return "", fmt.Errorf("the server has not seen %s", vmName(i))
		}
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, s.isthmus.cmd.Path, "map", "owner", seen.Addr().String(), strconv.Itoa(int(seen.Port())), "--socket", s.isthmus.socket)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("isthmus map owner: %w: %s", err, &out)
		}
		// ADDRESS (ADDRESS IN THE POOL)
		got, _, _ := strings.Cut(out.String(), " ")
		said += fmt.Sprintf("\n%5d %s", seen.Port(), got)
		if want := s.topo.VMs[i].Addr6.String(); got != want {
			return said, fmt.Errorf("port %d was used by %s, which is %s", seen.Port(), vmName(i), want)
		}
	}
	return said, nil
}

// checkForbidden wants isthmus to refuse what the hypervisor itself can reach.
func checkForbidden(ctx context.Context, s *stage) (string, error) {
	said := fmt.Sprintf("%d places, none reached", len(forbidden))
	for _, f := range forbidden {
		if _, err := greet(ctx, s.topo.Hypervisor, host(f.addr)); err != nil {
			return "", fmt.Errorf("there is nothing to forbid: %w", err)
		}
		before, err := s.isthmus.counted(ctx, packetsMetric, "verdict")
		if err != nil {
			return "", err
		}
		limit, cancel := context.WithTimeout(ctx, refusedTimeout)
		_, reached := greet(limit, s.vm.Host, host(lab.Translated(f.addr)))
		cancel()
		if reached == nil {
			return said, fmt.Errorf("the VM reaches %v", f.addr)
		}
		after, err := s.isthmus.counted(ctx, packetsMetric, "verdict")
		if err != nil {
			return "", err
		}
		said += fmt.Sprintf("\n%-20s %v", f.verdict, f.addr)
		if after[f.verdict] == before[f.verdict] {
			return said, fmt.Errorf("isthmus has not counted it; the VM had %w", reached)
		}
	}
	return said, nil
}

// openForbidden puts web servers where no VM may get: on the hypervisor, and
// behind it.
func (s *stage) openForbidden() error {
	for _, f := range forbidden {
		h := s.topo.Hypervisor
		if f.addr != lab.HypervisorAddr4 {
			h = s.topo.Router
			if err := h.Addr("lo", f.addr.String()+"/32"); err != nil {
				return err
			}
		}
		sv, err := serveHTTP(h, f.addr.String())
		if err != nil {
			return err
		}
		s.serving = append(s.serving, sv)
	}
	return nil
}
