// Package metrics is the HTTP endpoint of a running isthmus: /metrics for
// Prometheus, /healthz and /readyz for whoever starts and watches it.
//
//	router workers ── plain counters ──► router.Stats ──► collector ──► /metrics
//	                                         └──────────► alive? ─────► /healthz
//	run command ── phase ────────────────────────────────► ready? ────► /readyz
//
// The data plane knows nothing of Prometheus: a scrape asks for a copy of its
// counters and turns that into samples. Each metric is defined once, with
// name, labels and meaning; docs/metrics.md is made from the same definitions.
//
// Ownership: a Server owns its listener and its registry. Nothing is registered
// with Prometheus's global registry.
//
// Sources: prometheus.io "Metric and label naming", "Writing exporters".
package metrics
