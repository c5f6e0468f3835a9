package metrics

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is the definition of one metric of ours.
type metric struct {
	name, help string
	kind       prometheus.ValueType // UntypedValue for histograms
	labels     []string
	desc       *prometheus.Desc
}

// defined is every metric of ours, in the order of the documentation.
var defined []*metric

func define(kind prometheus.ValueType, name, labels, help string) *metric {
	m := &metric{name: name, help: help, kind: kind, labels: strings.Fields(labels)}
	m.desc = prometheus.NewDesc(name, help, m.labels, nil)
	defined = append(defined, m)
	return m
}

func counter(name, labels, help string) *metric {
	return define(prometheus.CounterValue, name, labels, help)
}

func gauge(name, labels, help string) *metric {
	return define(prometheus.GaugeValue, name, labels, help)
}

func histogram(name, labels, help string) *metric {
	return define(prometheus.UntypedValue, name, labels, help)
}

// typeName is the metric's type as the documentation calls it.
func (m *metric) typeName() string {
	switch m.kind {
	case prometheus.CounterValue:
		return "counter"
	case prometheus.GaugeValue:
		return "gauge"
	}
	return "histogram"
}

// sendHistogram gives one histogram: counts below each bound, all of them added up.
func (m *metric) sendHistogram(ch chan<- prometheus.Metric, count uint64, sum float64, below map[float64]uint64, labels ...string) {
	ch <- prometheus.MustNewConstHistogram(m.desc, count, sum, below, labels...)
}

// send gives one sample, with the labels' values in the order of the definition.
func (m *metric) send(ch chan<- prometheus.Metric, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
}

// describe sends the definitions whose names start with a prefix.
func describe(ch chan<- *prometheus.Desc, prefixes ...string) {
	for _, m := range defined {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(m.name, p) }) {
			ch <- m.desc
		}
	}
}
