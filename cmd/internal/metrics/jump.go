package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"aarch64.com/isthmus/jump"
)

var (
	jumpLogins = counter("isthmus_jump_logins_total", "result",
		"Connections to the jump server by what became of them on their way to being let in.")
	jumpChannels = counter("isthmus_jump_channels_total", "result",
		"Channels, and requests for other things, by what became of them. Counted when they end.")
	jumpConnections = gauge("isthmus_jump_connections", "",
		"Connections that are logged in.")
	jumpHandshakes = gauge("isthmus_jump_handshakes", "",
		"Connections that are not logged in yet.")
	jumpOpen = gauge("isthmus_jump_channels_open", "",
		"Channels that are open, those to VMs that have not answered yet included.")
	jumpBytes = counter("isthmus_jump_bytes_total", "direction",
		"Bytes that channels carried between clients and VMs.")
	jumpDial = histogram("isthmus_jump_dial_seconds", "",
		"How long VMs took to answer. Those that did not are in isthmus_jump_channels_total as dial_failed.")
	jumpSources = gauge("isthmus_jump_sources", "",
		"Sources (IPv4 addresses and IPv6 /64) that something is remembered of.")
)

// Values of the label direction of the jump server's bytes.
const (
	up   = "up"
	down = "down"
)

// Jump turns the counters of the jump server into metrics.
type Jump struct {
	Stats func() jump.Stats
}

// Describe implements prometheus.Collector.
func (c *Jump) Describe(ch chan<- *prometheus.Desc) { describe(ch, "isthmus_jump_") }

// Collect implements prometheus.Collector.
func (c *Jump) Collect(ch chan<- prometheus.Metric) {
	s := c.Stats()
	for _, l := range jump.Logins() {
		jumpLogins.send(ch, float64(s.Logins[l]), l.String())
	}
	for _, e := range jump.Ends() {
		jumpChannels.send(ch, float64(s.Channels[e]), e.String())
	}
	jumpConnections.send(ch, float64(s.Connections))
	jumpHandshakes.send(ch, float64(s.Handshakes))
	jumpOpen.send(ch, float64(s.Open))
	jumpBytes.send(ch, float64(s.Up), up)
	jumpBytes.send(ch, float64(s.Down), down)
	jumpSources.send(ch, float64(s.Sources))
	var count uint64
	below := map[float64]uint64{}
	for i, n := range s.Dials.Counts {
		count += n
		if i < len(jump.DialBounds) {
			below[jump.DialBounds[i].Seconds()] = count
		}
	}
	jumpDial.sendHistogram(ch, count, s.Dials.Sum.Seconds(), below)
}
