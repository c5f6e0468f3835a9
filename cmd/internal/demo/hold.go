package demo

import (
	"fmt"
	"os"
	"strings"

	"aarch64.com/isthmus/perf/lab"
)

// in is a command to be run in a host.
func in(h *lab.Host, command string) string {
	return fmt.Sprintf("  ip netns exec %s %s", h.NetNS(), command)
}

// toTry are the commands that differ between the paths.
func (s *stage) toTry() []string {
	out := []string{"from a VM, which has only IPv6:"}
	for _, vm := range s.topo.VMs {
		out = append(out, in(vm.Host, "curl http://"+serverName+"/"))
	}
	out = append(out,
		in(s.vm.Host, "curl 'http://["+show(lab.Translated(lab.ServerAddr4))+"]/'"),
		in(s.vm.Host, "ping "+serverName),
		in(s.vm.Host, "traceroute -6 "+farName))
	if s.path != Share {
		out = append(out, "from the server, which has only IPv4:",
			in(s.topo.Server, "ping "+s.vm.Addr4.String()),
			in(s.topo.Server, fmt.Sprintf("curl http://%s/", s.vm.Addr4)))
	}
	return out
}

// holding says what can be tried while the networks stay up.
func (r *report) holding(stages []*stage) {
	if len(stages) == 0 {
		return
	}
	s := stages[0]
	out := s.toTry()
	program, err := os.Executable()
	if err != nil {
		program = "isthmus"
	}
	out = append(out,
		"throughput (the first in a terminal of its own; -R for the other way):",
		in(s.topo.Server, "iperf3 -s"),
		in(s.vm.Host, "iperf3 -c "+serverName),
		"what isthmus was told, and what it counts:")
	if s.isthmus.file != "" {
		out = append(out, "  cat "+s.isthmus.file)
	}
	out = append(out,
		fmt.Sprintf("  %s status --socket %s", program, s.isthmus.socket),
		in(s.topo.Hypervisor, fmt.Sprintf("curl 'http://%s/metrics'", metricsListen)))
	if s.path == Share {
		out = append(out, "whose a port of the shared address is:",
			fmt.Sprintf("  %s map owner %v PORT --socket %s", program, lab.HypervisorAddr4, s.isthmus.socket))
	}
	var b strings.Builder
	b.WriteString("\n  " + r.paint(bold, "Up until Ctrl-C. To try as root:") + "\n")
	for _, l := range out {
		b.WriteString("\n  " + l)
	}
	b.WriteString("\n")
	for _, o := range stages[1:] {
		fmt.Fprintf(&b, "\n  With %s...: a VM that is %v, over the %s path\n", strings.TrimSuffix(o.vm.NetNS(), "vm"), o.vm.Addr4, o.path)
	}
	r.printf("%s\n", b.String())
}
