package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aarch64.com/isthmus/cmd/internal/version"
)

var (
	buildInfo = gauge("isthmus_build_info", "version revision goversion",
		"Always 1; the labels say which binary runs.")
	instanceInfo = gauge("isthmus_instance_info", "pop domain",
		"Always 1; the labels are pop and domain of the configuration.")
	configReloads = counter("isthmus_config_reloads_total", "result",
		"Configuration reloads since the start: ok, or rejected because of an error in the file.")
	configLoaded = gauge("isthmus_config_last_load_timestamp_seconds", "",
		"When the configuration in use was loaded, in seconds since 1970.")
)

// Daemon holds what is known about the process itself. It is a collector.
type Daemon struct {
	POP, Domain string

	mu           sync.Mutex
	ok, rejected uint64
	loaded       time.Time
}

// Loaded notes that a configuration took effect at the start.
func (d *Daemon) Loaded() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loaded = time.Now()
}

// Reloaded notes the outcome of a reload.
func (d *Daemon) Reloaded(ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !ok {
		d.rejected++
		return
	}
	d.ok++
	d.loaded = time.Now()
}

// Describe implements prometheus.Collector.
func (d *Daemon) Describe(ch chan<- *prometheus.Desc) {
	describe(ch, "isthmus_build_", "isthmus_instance_", "isthmus_config_")
}

// Collect implements prometheus.Collector.
func (d *Daemon) Collect(ch chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := version.Get()
	buildInfo.send(ch, 1, v.Version, v.Revision, v.Go)
	instanceInfo.send(ch, 1, d.POP, d.Domain)
	configReloads.send(ch, float64(d.ok), "ok")
	configReloads.send(ch, float64(d.rejected), "rejected")
	loaded := 0.0
	if !d.loaded.IsZero() {
		loaded = float64(d.loaded.UnixMilli()) / 1000
	}
	configLoaded.send(ch, loaded)
}
