package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router"
	"aarch64.com/isthmus/translate/router/nat44"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

var (
	packets = counter("isthmus_router_packets_total", "worker direction verdict",
		"Packets by what the translator decided about them. The direction is by the family that came in. Worker \"kernel\" is the fast path.")
	drops = counter("isthmus_router_drops_total", "worker reason",
		"Packets lost outside the translator, by reason.")
	events = counter("isthmus_router_events_total", "worker event",
		"Packets by what else happened to them, without being lost.")
	rxPackets = counter("isthmus_router_port_receive_packets_total", "worker port",
		"IP packets taken from a port, or from the kernel through the TUN device. Worker \"kernel\" is the fast path, whose interfaces are the port \"fast_path_interfaces\".")
	rxBytes = counter("isthmus_router_port_receive_bytes_total", "worker port",
		"Bytes of these IP packets, without link-layer headers.")
	txPackets = counter("isthmus_router_port_transmit_packets_total", "worker port",
		"IP packets given to a port, or to the kernel through the TUN device. Worker \"kernel\" is the fast path, whose interfaces are the port \"fast_path_interfaces\".")
	txBytes = counter("isthmus_router_port_transmit_bytes_total", "worker port",
		"Bytes of these IP packets, without link-layer headers.")
	attached = gauge("isthmus_router_port_attached", "port mode",
		"1 while the steering program is attached, in mode driver or generic; 0 while the device is not there.")
	zeroCopy = gauge("isthmus_router_socket_zero_copy", "worker port",
		"1 if the driver hands its buffers over, 0 if the kernel copies every frame.")

	rxDropped = counter("isthmus_router_socket_receive_dropped_total", "worker port",
		"Frames dropped because the fill ring had no frame, or one too small (XDP_STATISTICS rx_dropped).")
	rxRingFull = counter("isthmus_router_socket_receive_ring_full_total", "worker port",
		"Frames dropped because the worker was too slow to take them (rx_ring_full).")
	rxFillEmpty = counter("isthmus_router_socket_fill_ring_empty_total", "worker port",
		"Times the kernel found the fill ring empty (rx_fill_ring_empty_descs).")
	rxInvalid = counter("isthmus_router_socket_receive_invalid_descriptors_total", "worker port",
		"Fill ring entries that the kernel refused (rx_invalid_descs). Anything but 0 is a fault of isthmus.")
	txInvalid = counter("isthmus_router_socket_transmit_invalid_descriptors_total", "worker port",
		"Transmit ring entries that the kernel refused (tx_invalid_descs). Anything but 0 is a fault of isthmus.")
	txEmpty = counter("isthmus_router_socket_transmit_ring_empty_total", "worker port",
		"Times the kernel was woken and found nothing to send (tx_ring_empty_descs).")
	txDropped = counter("isthmus_router_socket_transmit_dropped_total", "worker port",
		"Frames that the device dropped after it had taken them (EBUSY).")
	wakeups = counter("isthmus_router_socket_wakeups_total", "worker port",
		"System calls that told the kernel to send.")
	wakeupFailures = counter("isthmus_router_socket_wakeup_failures_total", "worker port cause",
		"Wake-ups that stopped early: again (queue full), memory, or error.")

	steered = counter("isthmus_router_steering_packets_total", "port outcome",
		"Frames by what the XDP program did with them. Only redirected ones reach a worker; all others go to the kernel.")
	nexthopBuilds = counter("isthmus_router_nexthop_table_builds_total", "",
		"Times the mirror of the kernel's routes and neighbours was built anew.")
	fastPackets = counter("isthmus_router_fast_path_packets_total", "point direction",
		"Packets that the kernel translated by itself (fast_path), at the TUN device or at an interface (fast_path_interfaces); no worker has seen them. isthmus_router_packets_total has them, too, as forwarded by worker \"kernel\". Superpackets count once.")
	fastBytes = counter("isthmus_router_fast_path_bytes_total", "point direction",
		"Bytes of those, as they came.")
	fastFell = counter("isthmus_router_fast_path_fell_through_total", "point reason",
		"Packets that the fast path left alone, and why: at the device to the workers, at an interface to the kernel's normal way.")
	fastAttached = gauge("isthmus_router_fast_path_attached", "interface",
		"1 while the fast path is attached to the TUN device or an interface of fast_path_interfaces; 0 while the interface is not there.")
	dynamicMappings = gauge("isthmus_router_dynamic_mappings", "",
		"Hosts that have an address of the dynamic pool ([router.dynamic] pool4).")
	sharePackets = counter("isthmus_router_share_packets_total", "outcome",
		"First packets of connections through a shared address ([router.share]), and what else was dropped there.")
	shareForgotten = counter("isthmus_router_share_forgotten_connections_total", "",
		"Connections that the kernel was made to forget, because their ports went to another host.")
	shareHosts = gauge("isthmus_router_share_hosts", "",
		"Hosts that have ports of a shared address.")
	shareCapacity = gauge("isthmus_router_share_capacity_hosts", "",
		"Hosts that the shared addresses have ports for.")
	policyRouting = gauge("isthmus_router_policy_routing", "",
		"1 if routing rules of this host make every packet take the kernel path.")
	planeRebuilds = counter("isthmus_router_port_rebuilds_total", "",
		"Times the ports were opened anew because a device had gone, come back or changed.")
)

// directions are the values of the label direction, as router.WorkerStats
// orders them.
var directions = [2]string{"ipv6_to_ipv4", "ipv4_to_ipv6"}

// Router turns the counters of the data plane into metrics.
type Router struct {
	Stats  func() router.Stats
	Kernel string // name of the TUN device, as the label port
}

// Describe implements prometheus.Collector.
func (c *Router) Describe(ch chan<- *prometheus.Desc) {
	describe(ch, "isthmus_router_")
}

// Collect implements prometheus.Collector.
func (c *Router) Collect(ch chan<- prometheus.Metric) {
	s := c.Stats()
	for i := range s.Workers {
		c.worker(ch, &s.Workers[i])
	}
	for i := range s.Ports {
		port(ch, &s.Ports[i])
	}
	nexthopBuilds.send(ch, float64(s.Tables))
	c.fastPath(ch, &s.FastPath)
	dynamicMappings.send(ch, float64(s.Mappings))
	for _, o := range shareOutcomes {
		sharePackets.send(ch, float64(o.count(&s.Share)), o.label)
	}
	shareForgotten.send(ch, float64(s.Share.Forgotten))
	shareHosts.send(ch, float64(s.Share.VMs))
	shareCapacity.send(ch, float64(s.Share.Capacity))
	policyRouting.send(ch, number(s.Policy))
	planeRebuilds.send(ch, float64(s.Rebuilds))
}

// fastPath is what the kernel did by itself: once as the work of one more worker,
// so that sums over workers are whole, and once in detail.
func (c *Router) fastPath(ch chan<- prometheus.Metric, s *router.FastPathStats) {
	const worker = "kernel"
	ports := [fastpath.NumPoints]string{fastpath.AtDevice: c.Kernel, fastpath.AtInterface: "fast_path_interfaces"}
	for d, n := range s.Packets() {
		packets.send(ch, float64(n), worker, directions[d], translate.Forward.String())
	}
	for at := range fastpath.NumPoints {
		if at == fastpath.AtDevice || len(s.Interfaces) > 0 {
			t := s.Traffic(at)
			traffic(ch, &t, worker, ports[at])
		}
		count := &s.Counters[at]
		for d, name := range directions {
			fastPackets.send(ch, float64(count.Packets[d]), at.String(), name)
			fastBytes.send(ch, float64(count.Bytes[d]), at.String(), name)
		}
		for r := fastpath.Forwarded + 1; r < fastpath.NumReasons; r++ {
			if at == fastpath.AtInterface || r < fastpath.Foreign {
				fastFell.send(ch, float64(count.Fell[r]), at.String(), r.String())
			}
		}
	}
	fastAttached.send(ch, number(s.Attached), c.Kernel)
	for _, i := range s.Interfaces {
		fastAttached.send(ch, number(i.Attached), i.Name)
	}
}

func (c *Router) worker(ch chan<- prometheus.Metric, w *router.WorkerStats) {
	id := strconv.Itoa(w.ID)
	for d, name := range directions {
		for v, n := range w.Verdicts[d] {
			packets.send(ch, float64(n), id, name, translate.Verdict(v).String())
		}
	}
	for r := router.ReasonNone + 1; r < router.NumReasons; r++ {
		m := events
		if r.Info().Drop {
			m = drops
		}
		m.send(ch, float64(w.Reasons[r]), id, r.String())
	}
	traffic(ch, &w.Kernel, id, c.Kernel)
	for i := range w.Wire {
		wire(ch, &w.Wire[i], id)
	}
}

func traffic(ch chan<- prometheus.Metric, n *router.PortCounters, worker, port string) {
	rxPackets.send(ch, float64(n.RxPackets), worker, port)
	rxBytes.send(ch, float64(n.RxBytes), worker, port)
	txPackets.send(ch, float64(n.TxPackets), worker, port)
	txBytes.send(ch, float64(n.TxBytes), worker, port)
}

// wire is one queue of an AF_XDP port.
func wire(ch chan<- prometheus.Metric, w *router.WireStats, worker string) {
	traffic(ch, &w.PortCounters, worker, w.Port)
	zeroCopy.send(ch, number(w.ZeroCopy), worker, w.Port)
	s := &w.Socket
	for _, c := range []struct {
		m *metric
		n uint64
	}{
		{rxDropped, s.RxDropped}, {rxRingFull, s.RxRingFull}, {rxFillEmpty, s.RxFillRingEmptyDescs},
		{rxInvalid, s.RxInvalidDescs}, {txInvalid, s.TxInvalidDescs}, {txEmpty, s.TxRingEmptyDescs},
		{txDropped, s.TxDropped}, {wakeups, s.Kicks},
	} {
		c.m.send(ch, float64(c.n), worker, w.Port)
	}
	wakeupFailures.send(ch, float64(s.KickAgain), worker, w.Port, "again")
	wakeupFailures.send(ch, float64(s.KickNoBufs), worker, w.Port, "memory")
	wakeupFailures.send(ch, float64(s.KickFailed), worker, w.Port, "error")
}

// port is what the steering program of one interface counted.
func port(ch chan<- prometheus.Metric, p *router.PortStats) {
	attached.send(ch, number(p.Attached), p.Interface, p.Mode.String())
	for _, o := range steeringOutcomes {
		steered.send(ch, float64(o.count(p)), p.Interface, o.label)
	}
}

// steeringOutcomes are the values of the label outcome.
var steeringOutcomes = []struct {
	label, doc string
	count      func(*router.PortStats) uint64
}{
	{"redirected", "To a worker's socket.", func(p *router.PortStats) uint64 { return p.Steering.Redirected }},
	{"no_socket", "For a translated prefix, but on a queue that no worker serves: kernel.", func(p *router.PortStats) uint64 { return p.Steering.NoSocket }},
	{"other", "Not for a translated prefix: kernel.", func(p *router.PortStats) uint64 { return p.Steering.Other }},
	{"group", "Broadcast or multicast: kernel.", func(p *router.PortStats) uint64 { return p.Steering.Group }},
	{"neighbour_discovery", "Neighbour discovery for an address in a translated prefix: kernel.", func(p *router.PortStats) uint64 { return p.Steering.ND }},
	{"malformed", "Too short, or not the IP version that its Ethertype says: kernel.", func(p *router.PortStats) uint64 { return p.Steering.Malformed }},
	{"other_host", "For another station's address, seen in promiscuous mode: kernel.", func(p *router.PortStats) uint64 { return p.Steering.OtherHost }},
	{"oversize", "Larger than a frame of the worker's memory: kernel, which leads it to the TUN device.", func(p *router.PortStats) uint64 { return p.Steering.Oversize }},
}

// shareOutcomes are the values of the label outcome of what the NAT counts.
var shareOutcomes = []struct {
	label, doc string
	count      func(*nat44.Stats) uint64
}{
	{"opened", "The connection was let through.", func(s *nat44.Stats) uint64 { return s.Opened }},
	{"too_many", "Refused: the host has max_connections.", func(s *nat44.Stats) uint64 { return s.TooMany }},
	{"too_fast", "Dropped: the host has opened new_per_second within a second; the next try may get through.", func(s *nat44.Stats) uint64 { return s.TooFast }},
	{"no_slice", "Refused: the host has no ports.", func(s *nat44.Stats) uint64 { return s.NoSlice }},
	{"protocol", "Refused: neither TCP, UDP nor ICMP.", func(s *nat44.Stats) uint64 { return s.Protocol }},
	{"invalid", "Dropped: of no connection that the kernel knows or would begin.", func(s *nat44.Stats) uint64 { return s.Invalid }},
	{"untranslatable", "Dropped: the connection was begun before the NAT was there.", func(s *nat44.Stats) uint64 { return s.Untranslatable }},
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
