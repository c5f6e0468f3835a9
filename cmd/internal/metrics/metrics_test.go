package metrics

import (
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"aarch64.com/isthmus/jump"
	"aarch64.com/isthmus/proxy"
	"aarch64.com/isthmus/proxy/control"
	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/proof"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router"
	"aarch64.com/isthmus/xsk"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// sample has a different number wherever the router counts something.
func sample() router.Stats {
	w := router.WorkerStats{ID: 3, CPU: 1}
	w.Verdicts[0][translate.Verdict(1)] = 101
	w.Verdicts[1][translate.Verdict(1)] = 102
	w.Reasons[router.NoFrame] = 103
	w.Reasons[router.ErrorSent] = 104
	w.Kernel = router.PortCounters{RxPackets: 105, RxBytes: 106, TxPackets: 107, TxBytes: 108}
	w.Wire = []router.WireStats{{
		Port:         "enp1s0",
		PortCounters: router.PortCounters{RxPackets: 109, RxBytes: 110, TxPackets: 111, TxBytes: 112},
		ZeroCopy:     true,
		Socket: xsk.Stats{
			RxDropped: 113, RxRingFull: 114, RxFillRingEmptyDescs: 115, RxInvalidDescs: 116, TxInvalidDescs: 117,
			TxRingEmptyDescs: 118, TxDropped: 119, Kicks: 120, KickAgain: 121, KickNoBufs: 122, KickFailed: 123,
		},
	}}
	return router.Stats{
		Workers: []router.WorkerStats{w},
		Ports: []router.PortStats{
			{Interface: "enp1s0", Attached: true, Mode: xsk.Driver, Steering: xsk.SteerCounters{Redirected: 124, NoSocket: 125, Other: 126, Group: 127, ND: 128, Malformed: 129, OtherHost: 132, Oversize: 133}},
			{Interface: "enp2s0"},
		},
		Tables: 130, Policy: true, Rebuilds: 131, Mappings: 134,
		FastPath: router.FastPathStats{Attached: true, Interfaces: []router.FastPathInterface{{Name: "vm0", Attached: true}, {Name: "vm1"}}, Counters: fastpath.Counters{
			fastpath.AtDevice:    {Packets: [2]uint64{135, 136}, Bytes: [2]uint64{13700, 13800}, Fell: [fastpath.NumReasons]uint64{fastpath.Size: 139}},
			fastpath.AtInterface: {Packets: [2]uint64{140, 150}, Bytes: [2]uint64{14200, 14300}, Fell: [fastpath.NumReasons]uint64{fastpath.NAT: 144}},
		}},
	}
}

func collector() *Router {
	return &Router{Stats: sample, Kernel: "isthmus0"}
}

func TestRouter(t *testing.T) {
	verdict := translate.Verdict(1).String()
	got := samples(t, collector())
	wanted := []string{
		`isthmus_router_packets_total{direction="ipv6_to_ipv4",verdict="` + verdict + `",worker="3"} 101`,
		`isthmus_router_packets_total{direction="ipv4_to_ipv6",verdict="` + verdict + `",worker="3"} 102`,
		`isthmus_router_drops_total{reason="no_frame",worker="3"} 103`,
		`isthmus_router_events_total{event="icmp_error_sent",worker="3"} 104`,
		`isthmus_router_port_receive_packets_total{port="isthmus0",worker="3"} 105`,
		`isthmus_router_port_receive_bytes_total{port="isthmus0",worker="3"} 106`,
		`isthmus_router_port_transmit_packets_total{port="isthmus0",worker="3"} 107`,
		`isthmus_router_port_transmit_bytes_total{port="isthmus0",worker="3"} 108`,
		`isthmus_router_port_receive_packets_total{port="enp1s0",worker="3"} 109`,
		`isthmus_router_port_receive_bytes_total{port="enp1s0",worker="3"} 110`,
		`isthmus_router_port_transmit_packets_total{port="enp1s0",worker="3"} 111`,
		`isthmus_router_port_transmit_bytes_total{port="enp1s0",worker="3"} 112`,
		`isthmus_router_socket_zero_copy{port="enp1s0",worker="3"} 1`,
		`isthmus_router_socket_receive_dropped_total{port="enp1s0",worker="3"} 113`,
		`isthmus_router_socket_receive_ring_full_total{port="enp1s0",worker="3"} 114`,
		`isthmus_router_socket_fill_ring_empty_total{port="enp1s0",worker="3"} 115`,
		`isthmus_router_socket_receive_invalid_descriptors_total{port="enp1s0",worker="3"} 116`,
		`isthmus_router_socket_transmit_invalid_descriptors_total{port="enp1s0",worker="3"} 117`,
		`isthmus_router_socket_transmit_ring_empty_total{port="enp1s0",worker="3"} 118`,
		`isthmus_router_socket_transmit_dropped_total{port="enp1s0",worker="3"} 119`,
		`isthmus_router_socket_wakeups_total{port="enp1s0",worker="3"} 120`,
		`isthmus_router_socket_wakeup_failures_total{cause="again",port="enp1s0",worker="3"} 121`,
		`isthmus_router_socket_wakeup_failures_total{cause="memory",port="enp1s0",worker="3"} 122`,
		`isthmus_router_socket_wakeup_failures_total{cause="error",port="enp1s0",worker="3"} 123`,
		`isthmus_router_steering_packets_total{outcome="redirected",port="enp1s0"} 124`,
		`isthmus_router_steering_packets_total{outcome="no_socket",port="enp1s0"} 125`,
		`isthmus_router_steering_packets_total{outcome="other",port="enp1s0"} 126`,
		`isthmus_router_steering_packets_total{outcome="group",port="enp1s0"} 127`,
		`isthmus_router_steering_packets_total{outcome="neighbour_discovery",port="enp1s0"} 128`,
		`isthmus_router_steering_packets_total{outcome="malformed",port="enp1s0"} 129`,
		`isthmus_router_steering_packets_total{outcome="other_host",port="enp1s0"} 132`,
		`isthmus_router_steering_packets_total{outcome="oversize",port="enp1s0"} 133`,
		`isthmus_router_dynamic_mappings 134`,
		`isthmus_router_fast_path_packets_total{direction="ipv6_to_ipv4",point="device"} 135`,
		`isthmus_router_fast_path_packets_total{direction="ipv4_to_ipv6",point="device"} 136`,
		`isthmus_router_fast_path_bytes_total{direction="ipv6_to_ipv4",point="device"} 13700`,
		`isthmus_router_fast_path_bytes_total{direction="ipv4_to_ipv6",point="device"} 13800`,
		`isthmus_router_fast_path_fell_through_total{point="device",reason="size"} 139`,
		`isthmus_router_fast_path_packets_total{direction="ipv6_to_ipv4",point="interface"} 140`,
		`isthmus_router_fast_path_packets_total{direction="ipv4_to_ipv6",point="interface"} 150`,
		`isthmus_router_fast_path_bytes_total{direction="ipv6_to_ipv4",point="interface"} 14200`,
		`isthmus_router_fast_path_bytes_total{direction="ipv4_to_ipv6",point="interface"} 14300`,
		`isthmus_router_fast_path_fell_through_total{point="interface",reason="nat"} 144`,
		`isthmus_router_fast_path_attached{interface="isthmus0"} 1`,
		`isthmus_router_fast_path_attached{interface="vm0"} 1`,
		// The same once more among those of the workers.
		`isthmus_router_packets_total{direction="ipv6_to_ipv4",verdict="forward",worker="kernel"} 275`,
		`isthmus_router_packets_total{direction="ipv4_to_ipv6",verdict="forward",worker="kernel"} 286`,
		`isthmus_router_port_receive_packets_total{port="isthmus0",worker="kernel"} 271`,
		`isthmus_router_port_receive_bytes_total{port="isthmus0",worker="kernel"} 27500`,
		`isthmus_router_port_transmit_packets_total{port="isthmus0",worker="kernel"} 271`,
		`isthmus_router_port_transmit_bytes_total{port="isthmus0",worker="kernel"} 27520`,
		`isthmus_router_port_receive_packets_total{port="fast_path_interfaces",worker="kernel"} 290`,
		`isthmus_router_port_receive_bytes_total{port="fast_path_interfaces",worker="kernel"} 28500`,
		`isthmus_router_port_transmit_packets_total{port="fast_path_interfaces",worker="kernel"} 290`,
		`isthmus_router_port_transmit_bytes_total{port="fast_path_interfaces",worker="kernel"} 28700`,
		`isthmus_router_nexthop_table_builds_total 130`,
		`isthmus_router_policy_routing 1`,
		`isthmus_router_port_rebuilds_total 131`,
		`isthmus_router_port_attached{mode="driver",port="enp1s0"} 1`,
	}
	for _, want := range append(wanted, `isthmus_router_port_attached{mode="driver",port="enp2s0"} 0`) {
		if !slices.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
	// Nothing else is anything but 0: no number stands in two places.
	if n := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return strings.HasSuffix(s, " 0") }); len(n) != len(wanted) {
		t.Errorf("%d samples are not 0, want %d:\n%s", len(n), len(wanted), strings.Join(n, "\n"))
	}
	// Every verdict and every reason is there from the start, so that
	// rate() sees the first one happen.
	for v := range translate.NumVerdicts {
		want := `isthmus_router_packets_total{direction="ipv4_to_ipv6",verdict="` + translate.Verdict(v).String() + `",worker="3"}`
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("missing: %s", want)
		}
	}
	for r := router.ReasonNone + 1; r < router.NumReasons; r++ {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, `="`+r.String()+`"`) }) {
			t.Errorf("reason %s is missing", r)
		}
	}
}

// samples scrapes a collector and returns the lines that are no comments.
func samples(t *testing.T, c prometheus.Collector) []string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if answer.Code != 200 {
		t.Fatalf("scrape: %d %s", answer.Code, answer.Body)
	}
	var lines []string
	for l := range strings.Lines(answer.Body.String()) {
		if !strings.HasPrefix(l, "#") {
			lines = append(lines, strings.TrimSpace(l))
		}
	}
	return lines
}

func TestDaemon(t *testing.T) {
	d := &Daemon{POP: "dfw", Domain: "infra.example.com"}
	if got := samples(t, d); !slices.Contains(got, "isthmus_config_last_load_timestamp_seconds 0") {
		t.Errorf("nothing loaded yet, but got %q", got)
	}
	d.Loaded()
	d.Reloaded(true)
	d.Reloaded(false)
	d.Reloaded(false)
	got := samples(t, d)
	for _, want := range []string{
		`isthmus_instance_info{domain="infra.example.com",pop="dfw"} 1`,
		`isthmus_config_reloads_total{result="ok"} 1`,
		`isthmus_config_reloads_total{result="rejected"} 2`,
	} {
		if !slices.Contains(got, want) {
			t.Errorf("missing %s in %q", want, got)
		}
	}
	if slices.Contains(got, "isthmus_config_last_load_timestamp_seconds 0") {
		t.Error("the time of the last load is not set")
	}
}

// promlint's rules for names, help texts and types; and a pedantic registry
// sees whether what is collected is what was described.
func TestLint(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collector(), &Jump{Stats: func() jump.Stats { return jump.Stats{} }}, &Daemon{}, &Proxy{
		Stats: func() proxy.Stats { return proxy.Stats{} }, Routes: func() int { return 0 }, File: func() routes.FileStats { return routes.FileStats{Loaded: time.Now()} },
		Times: &ProxyTimes{}, Dropped: func() uint64 { return 0 },
	}, &Routes{Stats: func() mirror.Stats { return mirror.Stats{} }}, &API{Stats: func() control.Stats { return control.Stats{Answers: map[int]uint64{200: 1}} }, Proofs: func() proof.Stats { return proof.Stats{} }})
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != len(defined) {
		t.Errorf("%d metrics are collected, %d are defined", len(families), len(defined))
	}
}

func TestReferencePage(t *testing.T) {
	got, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Reference(), string(got)); diff != "" {
		t.Errorf("docs/metrics.md is out of date; run make generate (-want +got):\n%s", diff)
	}
}
