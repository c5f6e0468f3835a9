package nat44

import (
	"fmt"
	"os"
)

// LocalPorts reads net.ipv4.ip_local_port_range of the network namespace of the
// calling thread: the ports that the host's own connections leave from.
func LocalPorts() (Ports, error) {
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	b, err := os.ReadFile(file)
	if err != nil {
		return Ports{}, fmt.Errorf("read the host's own port range: %w", err)
	}
	var p Ports
	if _, err := fmt.Sscan(string(b), &p.First, &p.Last); err != nil {
		return Ports{}, fmt.Errorf("read the host's own port range: %s: %q: %w", file, b, err)
	}
	return p, nil
}
