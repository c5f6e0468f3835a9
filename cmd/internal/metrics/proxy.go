package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aarch64.com/isthmus/proxy"
	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/sniff"
)

var (
	proxyResults = counter("isthmus_proxy_results_total", "protocol result",
		"Requests, and connections of TLS and QUIC, by what became of them. Counted when they end.")
	proxyRefused = counter("isthmus_proxy_hellos_refused_total", "protocol reason",
		"Connections whose first message could not be read, by why.")
	proxyBytes = counter("isthmus_proxy_bytes_total", "protocol direction",
		"Bytes between visitors and VMs; of HTTP the bodies.")
	proxyAccepted = counter("isthmus_proxy_accepted_total", "listener",
		"Connections accepted.")
	proxyAcceptFailed = counter("isthmus_proxy_accept_failed_total", "",
		"Connections that could not be accepted for want of file descriptors or memory.")
	proxyOpen = gauge("isthmus_proxy_connections", "listener",
		"Connections that are open; of HTTP without those that have been upgraded.")
	proxyQUICPending = gauge("isthmus_proxy_quic_pending", "",
		"Clients of QUIC whose hello is not complete.")
	proxyQUICEvents = counter("isthmus_proxy_quic_events_total", "event",
		"What happened to datagrams and connections of QUIC.")
	proxyConnect = histogram("isthmus_proxy_connect_seconds", "protocol",
		"How long it took until a VM had taken the connection. Those that did not are in isthmus_proxy_results_total as unreachable.")
	proxyFirst = histogram("isthmus_proxy_first_byte_seconds", "protocol",
		"How long it took until the first byte of a VM's answer, from the request or connection on.")
	proxyRoutes = gauge("isthmus_proxy_routes", "",
		"Routes that hold: of the file, and of the store.")
	proxyRevision = gauge("isthmus_proxy_routes_revision", "",
		"How often the routes of the file have changed since the start.")
	proxyRoutesLoaded = gauge("isthmus_proxy_routes_loaded_timestamp_seconds", "",
		"When the routes of the file that hold were read; absent without a file.")
	proxyRoutesErrors = counter("isthmus_proxy_routes_file_errors_total", "",
		"How often the file of routes was wrong or gone, and the routes before stayed.")
	proxyRoutesBad = gauge("isthmus_proxy_routes_file_bad", "",
		"1 while the file of routes is wrong or gone, else 0.")
	proxyDropped = counter("isthmus_proxy_access_log_dropped_total", "",
		"Lines of the access log that were dropped since the disk did not keep up.")
)

// Values of the label listener.
const (
	listenerHTTP  = "http"
	listenerHTTPS = "https"
	listenerQUIC  = "quic"
)

// quicEvents are the values of the label event, and what is counted there.
var quicEvents = []struct {
	label, doc string
	count      func(*proxy.QUICStats) uint64
}{
	{"version_negotiation", "The client was told which versions there are.", func(s *proxy.QUICStats) uint64 { return s.Versions }},
	{"refused", "A connection was closed by the proxy.", func(s *proxy.QUICStats) uint64 { return s.Refused }},
	{"stray", "A datagram belongs to no connection.", func(s *proxy.QUICStats) uint64 { return s.Stray }},
	{"evicted", "A connection or hello made room for another before its time.", func(s *proxy.QUICStats) uint64 { return s.Evicted }},
	{"moved", "A datagram of a known connection came from a new address.", func(s *proxy.QUICStats) uint64 { return s.Moved }},
	{"mixed", "A datagram was dropped or a connection refused on a client's port that has a connection to another project.", func(s *proxy.QUICStats) uint64 { return s.Mixed }},
	{"muted", "A client was told nothing, for there were too many answers in a second.", func(s *proxy.QUICStats) uint64 { return s.Muted }},
	{"lost", "A socket did not take a datagram.", func(s *proxy.QUICStats) uint64 { return s.Lost }},
	{"truncated", "A hello has more datagrams than are kept.", func(s *proxy.QUICStats) uint64 { return s.Truncated }},
}

// proxyBounds are the upper bounds of the histograms.
var proxyBounds = [...]time.Duration{
	time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond,
	300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second,
}

// times counts durations.
type times struct {
	counts [len(proxyBounds) + 1]atomic.Uint64
	sum    atomic.Int64
}

func (t *times) observe(took time.Duration) {
	i := 0
	for i < len(proxyBounds) && took > proxyBounds[i] {
		i++
	}
	t.counts[i].Add(1)
	t.sum.Add(int64(took))
}

func (t *times) send(ch chan<- prometheus.Metric, m *metric, labels ...string) {
	var count uint64
	below := map[float64]uint64{}
	for i := range t.counts {
		count += t.counts[i].Load()
		if i < len(proxyBounds) {
			below[proxyBounds[i].Seconds()] = count
		}
	}
	m.sendHistogram(ch, count, time.Duration(t.sum.Load()).Seconds(), below, labels...)
}

// ProxyTimes is how long VMs took, by protocol. Its zero value is empty.
type ProxyTimes struct{ connect, first [proxy.NumProtocols]times }

// Observe counts what one record says.
func (t *ProxyTimes) Observe(r *proxy.Record) {
	if r.Connect > 0 {
		t.connect[r.Protocol].observe(r.Connect)
	}
	if r.First > 0 {
		t.first[r.Protocol].observe(r.First)
	}
}

// Proxy turns the counters of the web proxy into metrics.
type Proxy struct {
	Stats   func() proxy.Stats
	Routes  func() int // that hold, from everywhere
	File    func() routes.FileStats
	Times   *ProxyTimes
	Dropped func() uint64 // lines of the access log
}

// Describe implements prometheus.Collector.
func (c *Proxy) Describe(ch chan<- *prometheus.Desc) { describe(ch, "isthmus_proxy_") }

// Collect implements prometheus.Collector.
func (c *Proxy) Collect(ch chan<- prometheus.Metric) {
	s, r := c.Stats(), c.File()
	for p := range proxy.NumProtocols {
		for result, n := range s.Results[p] {
			proxyResults.send(ch, float64(n), p.String(), proxy.Result(result).String())
		}
		proxyBytes.send(ch, float64(s.Up[p]), p.String(), up)
		proxyBytes.send(ch, float64(s.Down[p]), p.String(), down)
		c.Times.connect[p].send(ch, proxyConnect, p.String())
		c.Times.first[p].send(ch, proxyFirst, p.String())
	}
	for _, p := range []proxy.Protocol{proxy.TLS, proxy.QUIC} {
		for reason, n := range s.Refused[p] {
			proxyRefused.send(ch, float64(n), p.String(), sniff.Reason(reason).Label())
		}
	}
	proxyAccepted.send(ch, float64(s.AcceptedHTTP), listenerHTTP)
	proxyAccepted.send(ch, float64(s.Accepted), listenerHTTPS)
	proxyOpen.send(ch, float64(s.OpenHTTP), listenerHTTP)
	proxyOpen.send(ch, float64(s.Open), listenerHTTPS)
	proxyOpen.send(ch, float64(s.QUIC.Flows), listenerQUIC)
	proxyQUICPending.send(ch, float64(s.QUIC.Pending))
	for _, e := range quicEvents {
		proxyQUICEvents.send(ch, float64(e.count(&s.QUIC)), e.label)
	}
	proxyAcceptFailed.send(ch, float64(s.AcceptFailed))
	proxyRoutes.send(ch, float64(c.Routes()))
	proxyRevision.send(ch, float64(r.Revision))
	if !r.Loaded.IsZero() {
		proxyRoutesLoaded.send(ch, float64(r.Loaded.UnixMilli())/1000)
	}
	proxyRoutesErrors.send(ch, float64(r.Errors))
	bad := 0.0
	if r.Problem != "" {
		bad = 1
	}
	proxyRoutesBad.send(ch, bad)
	proxyDropped.send(ch, float64(c.Dropped()))
}
