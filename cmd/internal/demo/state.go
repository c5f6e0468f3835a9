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

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"aarch64.com/isthmus/perf/lab"
)

// Metrics of isthmus that tell what it did itself.
const (
	receivedMetric = "isthmus_router_port_receive_packets_total"
	fastPathMetric = "isthmus_router_fast_path_packets_total"
	packetsMetric  = "isthmus_router_packets_total"
	eventsMetric   = "isthmus_router_events_total"
	errorSent      = "icmp_error_sent"
)

// sums reads, from the text that Prometheus gets, one metric by one of its
// labels; what differs in other labels only is added up.
func sums(text, metric, label string) (map[string]float64, error) {
	value := regexp.MustCompile(`[{,]` + label + `="([^"]+)"`)
	got := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, metric+"{") {
			continue
		}
		v := value.FindStringSubmatch(line)
		n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if v == nil || err != nil {
			return nil, fmt.Errorf("can't read this line of /metrics: %s", line)
		}
		got[v[1]] += n
	}
	if len(got) == 0 {
		return nil, fmt.Errorf("/metrics has no %s", metric)
	}
	return got, nil
}

// counted asks isthmus for the sums of a metric.
func (d *daemon) counted(ctx context.Context, metric, label string) (map[string]float64, error) {
	text, err := d.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	return sums(text, metric, label)
}

// ownErrors runs fn and returns how many ICMP errors isthmus itself sent
// meanwhile: the kernel it runs on sends such errors from the same addresses.
func (s *stage) ownErrors(ctx context.Context, fn func() error) (int, error) {
	before, err := s.isthmus.counted(ctx, eventsMetric, "event")
	if err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	after, err := s.isthmus.counted(ctx, eventsMetric, "event")
	return int(after[errorSent] - before[errorSent]), err
}

// checkStop ends isthmus for good and looks for what it left behind.
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
	nft, err := nftables.New(nftables.WithNetNSFd(int(h.NS())))
	if err != nil {
		return err
	}
	tables, err := nft.ListTables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		left = append(left, fmt.Errorf("the nftables table %s is still there", t.Name))
	}
	return errors.Join(left...)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
