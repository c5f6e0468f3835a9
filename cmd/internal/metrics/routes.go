package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"aarch64.com/isthmus/proxy/control"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/proof"
)

var (
	routesLag = histogram("isthmus_routes_apply_lag_seconds", "",
		"How long it took from a change of a proxy, by the clock of the host that made it, until it was in force here.")
	routesRevision = gauge("isthmus_routes_revision", "",
		"Revision of the store up to which all changes are in force.")
	routesUp = gauge("isthmus_routes_store_up", "",
		"1 while the store answers, else 0: the routes of before go on.")
	routesDoubt = gauge("isthmus_routes_store_doubted", "",
		"1 while what the store says is not believed, as after it has been emptied: the routes of before go on until an operator runs `isthmus routes accept`.")
	routesProxies = gauge("isthmus_routes_proxies", "state",
		"Proxies in the store, by what becomes of them here.")
	routesSkipped = gauge("isthmus_routes_skipped", "",
		"Proxies in the store that are not served here.")
	routesHidden = gauge("isthmus_routes_hidden", "",
		"Routes of the store that give way to those of routes_file.")
	routesNodes = gauge("isthmus_routes_nodes", "",
		"Hosts that share the store and are alive, as far as this one knows.")
	routesRelists = counter("isthmus_routes_relists_total", "",
		"Times that all of the store has been read, without the first.")
	routesReconciled = counter("isthmus_routes_reconciled_total", "",
		"Times that the copy has been compared with the store.")
	routesRepaired = counter("isthmus_routes_repaired_total", "",
		"Records that were not as in the store, though they should have been.")
	routesStuck = counter("isthmus_routes_stuck_watches_total", "",
		"Watches that told nothing though there were changes.")
	routesCopyRevision = gauge("isthmus_routes_copy_revision", "",
		"Revision of the copy on the disk; 0: there is none.")
	routesCopyErrors = counter("isthmus_routes_copy_errors_total", "",
		"Times that the copy could not be written to the disk.")
	proofLeads = gauge("isthmus_proof_leader", "",
		"1 while this host looks at the DNS for all host names that need a proof, else 0. One of all hosts does.")
	proofNames = gauge("isthmus_proof_names", "",
		"Host names that it looks at.")
	proofLooks = counter("isthmus_proof_looks_total", "result",
		"Looks for TXT records by result: found, gone, failed where name servers did not answer.")
	apiAnswers = counter("isthmus_api_answers_total", "status",
		"Requests of the API and the page, by the status of the answer.")
)

// Routes turns the figures of this host's copy of the store into metrics.
type Routes struct{ Stats func() mirror.Stats }

// Describe implements prometheus.Collector.
func (c *Routes) Describe(ch chan<- *prometheus.Desc) { describe(ch, "isthmus_routes_") }

// Collect implements prometheus.Collector.
func (c *Routes) Collect(ch chan<- prometheus.Metric) {
	s := c.Stats()
	var count uint64
	below := map[float64]uint64{}
	for i, n := range s.Lag.Counts {
		count += n
		if i < len(mirror.LagBounds) {
			below[mirror.LagBounds[i].Seconds()] = count
		}
	}
	routesLag.sendHistogram(ch, count, s.Lag.Sum.Seconds(), below)
	routesRevision.send(ch, float64(s.Applied))
	routesUp.send(ch, flag(s.Up))
	routesDoubt.send(ch, flag(s.Doubt != ""))
	for r, n := range s.Counts.Proxies {
		routesProxies.send(ch, float64(n), mirror.Reason(r).String())
	}
	routesSkipped.send(ch, float64(s.Counts.Skipped()))
	routesHidden.send(ch, float64(s.Hidden))
	routesNodes.send(ch, float64(s.Nodes))
	routesRelists.send(ch, float64(s.Relists))
	routesReconciled.send(ch, float64(s.Tallies))
	routesRepaired.send(ch, float64(s.Repaired))
	routesStuck.send(ch, float64(s.Stuck))
	routesCopyRevision.send(ch, float64(s.Disk.Revision))
	routesCopyErrors.send(ch, float64(s.Disk.Errors))
}

func flag(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// API turns the counters of the API into metrics.
type API struct {
	Stats  func() control.Stats
	Proofs func() proof.Stats
}

// Describe implements prometheus.Collector.
func (c *API) Describe(ch chan<- *prometheus.Desc) { describe(ch, "isthmus_api_", "isthmus_proof_") }

// Collect implements prometheus.Collector.
func (c *API) Collect(ch chan<- prometheus.Metric) {
	for status, n := range c.Stats().Answers {
		apiAnswers.send(ch, float64(n), strconv.Itoa(status))
	}
	p := c.Proofs()
	proofLeads.send(ch, flag(p.Leads))
	proofNames.send(ch, float64(p.Names))
	proofLooks.send(ch, float64(p.Found), "found")
	proofLooks.send(ch, float64(p.Gone), "gone")
	proofLooks.send(ch, float64(p.Failed), "failed")
}
