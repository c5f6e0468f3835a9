package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"aarch64.com/isthmus/perf/lab"
)

const receivedMetric = "isthmus_router_port_receive_packets_total"

var portLabel = regexp.MustCompile(`[{,]port="([^"]+)"`)

// received reads, from the text that Prometheus gets, the packets taken from
// each port.
func received(text string) (map[string]float64, error) {
	ports := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, receivedMetric+"{") {
			continue
		}
		label := portLabel.FindStringSubmatch(line)
		n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if label == nil || err != nil {
			return nil, fmt.Errorf("can't read this line of /metrics: %s", line)
		}
		ports[label[1]] += n
	}
	if len(ports) == 0 {
		return nil, fmt.Errorf("/metrics has no %s", receivedMetric)
	}
	return ports, nil
}

// checkStop ends isthmus with SIGTERM and looks for what it left behind.
func checkStop(_ context.Context, s *stage) (string, error) {
	if err := s.isthmus.stop(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, s.isthmus.lastWords())
	}
	return "nothing left behind", leftBehind(s.topo.Hypervisor)
}

// leftBehind says what of isthmus is still in the namespace.
func leftBehind(h *lab.Host) error {
	nl, err := h.Netlink()
	if err != nil {
		return err
	}
	defer nl.Close()
	links, err := nl.LinkList()
	if err != nil {
		return err
	}
	var left []error
	for _, l := range links {
		a := l.Attrs()
		if a.Name == tunDevice {
			left = append(left, fmt.Errorf("the device %s is still there", a.Name))
		}
		if a.Xdp != nil && a.Xdp.Attached {
			left = append(left, fmt.Errorf("%s still has an XDP program", a.Name))
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := nl.RouteList(nil, family)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Dst == nil {
				continue
			}
			if d := r.Dst.String(); d == lab.Pool6.String() || lab.Mapped4.Contains(addrOf(r.Dst.IP)) {
				left = append(left, fmt.Errorf("the route to %s is still there", d))
			}
		}
	}
	return errors.Join(left...)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
