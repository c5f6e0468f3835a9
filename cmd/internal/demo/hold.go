package demo

import (
	"fmt"
	"strings"

	"aarch64.com/isthmus/perf/lab"
)

// holding says what can be tried while the networks stay up.
func (r *report) holding(stages []*stage) {
	if len(stages) == 0 {
		return
	}
	s := stages[0]
	vm, server, hypervisor := s.vm.NetNS(), s.topo.Server.NetNS(), s.topo.Hypervisor.NetNS()
	server6 := show(lab.Translated(lab.ServerAddr4))
	far6 := show(lab.Translated(lab.FarAddr4))
	out := []string{
		"from the VM, which has only IPv6:",
		fmt.Sprintf("  ip netns exec %s ping %s", vm, server6),
		fmt.Sprintf("  ip netns exec %s curl 'http://[%s]/'", vm, server6),
		fmt.Sprintf("  ip netns exec %s traceroute %s", vm, far6),
		"from the server, which has only IPv4:",
		fmt.Sprintf("  ip netns exec %s ping %s", server, s.vm.Addr4),
		fmt.Sprintf("  ip netns exec %s curl http://%s/", server, s.vm.Addr4),
		"throughput (the first in a terminal of its own; -R for the other way):",
		fmt.Sprintf("  ip netns exec %s iperf3 -s", server),
		fmt.Sprintf("  ip netns exec %s iperf3 -c %s", vm, server6),
		"what isthmus was told, and what it counts:",
		fmt.Sprintf("  cat %s", s.isthmus.file),
		fmt.Sprintf("  isthmus status --socket %s", s.isthmus.socket),
		fmt.Sprintf("  ip netns exec %s curl 'http://%s/metrics'", hypervisor, metricsListen),
	}
	var b strings.Builder
	b.WriteString("\n  " + r.paint(bold, "Up until Ctrl-C. To try as root:") + "\n")
	for _, l := range out {
		b.WriteString("\n  " + l)
	}
	b.WriteString("\n")
	for _, o := range stages[1:] {
		fmt.Fprintf(&b, "\n  The same over the %s path with %s...\n", o.path, strings.TrimSuffix(o.vm.NetNS(), "vm"))
	}
	r.printf("%s\n", b.String())
}
