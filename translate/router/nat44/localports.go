package nat44

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// HostPorts are the ports that the host keeps for itself, in the network namespace
// of the calling thread: net.ipv4.ip_local_port_range, which its own connections
// leave from, and net.ipv4.ip_local_reserved_ports, which services listen on that
// nobody else shall get.
func HostPorts() ([]Ports, error) {
	var text [2]string
	for i, name := range []string{"ip_local_port_range", "ip_local_reserved_ports"} {
		b, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
		if err != nil {
			return nil, fmt.Errorf("read the host's own ports: %w", err)
		}
		text[i] = string(b)
	}
	return parseHostPorts(text[0], text[1])
}

func parseHostPorts(local, reserved string) ([]Ports, error) {
	var p Ports
	if _, err := fmt.Sscan(local, &p.First, &p.Last); err != nil {
		return nil, fmt.Errorf("read the host's own ports: ip_local_port_range: %q: %w", local, err)
	}
	list := []Ports{p}
	// As in "8080,9148,20000-20010"; empty if there are none.
	for part := range strings.SplitSeq(strings.TrimSpace(reserved), ",") {
		if part == "" {
			continue
		}
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		a, err := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil {
			return nil, fmt.Errorf("read the host's own ports: ip_local_reserved_ports: %q is no list of ranges", reserved)
		}
		list = append(list, Ports{uint16(a), uint16(b)})
	}
	return list, nil
}

// HostText writes ranges for people.
func HostText(list []Ports) string {
	var parts []string
	for _, p := range list {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, ", ")
}
