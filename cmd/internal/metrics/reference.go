package metrics

import (
	"fmt"
	"strings"

	"aarch64.com/isthmus/jump"
	"aarch64.com/isthmus/proxy"
	"aarch64.com/isthmus/proxy/sniff"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// Reference is docs/metrics.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Metrics

<!-- Made from the definitions in cmd/internal/metrics by "make generate". -->

` + "`[metrics] listen`" + ` (default ` + "`[::1]:9464`" + `) serves over HTTP:

| path | answers |
| --- | --- |
| ` + "`/metrics`" + ` | all metrics below, in the formats of Prometheus |
| ` + "`/healthz`" + ` | 200 while every worker, the web proxy, the API and the jump server answer, else 503 with the reason: restart the process |
| ` + "`/readyz`" + ` | 200 while packets are forwarded, and visitors and clients let in, else 503: starting or stopping |

Counters start at 0 with the process. Metrics with the prefix ` + "`go_`, `process_` and `promhttp_`" + ` are
those of the Prometheus client library.

## All metrics

| metric | type | labels | meaning |
| --- | --- | --- | --- |
`)
	for _, m := range defined {
		labels := "none"
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.typeName(), labels, m.help)
	}

	fmt.Fprintf(&b, "\nThe label `worker` is the worker's number: worker 0 serves the first queue of every port, and so on.\n"+
		"The label `port` is an interface; the TUN device of `[router.kernel]` is one, too.\n"+
		"The label `direction` is `%s` or `%s`; that of the bytes of the web proxy and the jump server is `%s`, from clients to VMs, or `%s`.\n", directions[0], directions[1], up, down)

	b.WriteString("\n## `verdict` in isthmus_router_packets_total\n\n| verdict | what happens | by | meaning |\n| --- | --- | --- | --- |\n")
	for v := range translate.NumVerdicts {
		i := translate.Verdict(v).Info()
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", i.Label, i.Action, i.Section, i.Doc)
	}
	for _, table := range []struct {
		label, metric string
		drop          bool
	}{{"reason", "isthmus_router_drops_total", true}, {"event", "isthmus_router_events_total", false}} {
		fmt.Fprintf(&b, "\n## `%s` in %s\n\n| %s | meaning |\n| --- | --- |\n", table.label, table.metric, table.label)
		for r := router.ReasonNone + 1; r < router.NumReasons; r++ {
			if i := r.Info(); i.Drop == table.drop {
				fmt.Fprintf(&b, "| `%s` | %s |\n", i.Label, i.Doc)
			}
		}
	}
	b.WriteString("\n## `outcome` in isthmus_router_steering_packets_total\n\n| outcome | meaning |\n| --- | --- |\n")
	for _, o := range steeringOutcomes {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.label, o.doc)
	}
	b.WriteString("\n## `outcome` in isthmus_router_share_packets_total\n\n| outcome | meaning |\n| --- | --- |\n")
	for _, o := range shareOutcomes {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.label, o.doc)
	}
	b.WriteString("\n## `reason` in isthmus_router_fast_path_fell_through_total\n\n| reason | meaning |\n| --- | --- |\n")
	for r := fastpath.Forwarded + 1; r < fastpath.NumReasons; r++ {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r, r.Doc())
	}
	b.WriteString("\n## `result` in isthmus_proxy_results_total\n\nThe access log has the same words.\n\n| result | meaning |\n| --- | --- |\n")
	for r := range proxy.NumResults {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r, r.Doc())
	}
	b.WriteString("\n## `reason` in isthmus_proxy_hellos_refused_total\n\n| reason | meaning |\n| --- | --- |\n")
	for r := range sniff.NumReasons {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.Label(), r.Error())
	}
	b.WriteString("\n## `event` in isthmus_proxy_quic_events_total\n\n| event | meaning |\n| --- | --- |\n")
	for _, e := range quicEvents {
		fmt.Fprintf(&b, "| `%s` | %s |\n", e.label, e.doc)
	}
	b.WriteString("\n## `result` in isthmus_jump_logins_total\n\n| result | meaning |\n| --- | --- |\n")
	for _, l := range jump.Logins() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", l, l.Doc())
	}
	b.WriteString("\n## `result` in isthmus_jump_channels_total\n\nThe audit log has the same words.\n\n| result | meaning |\n| --- | --- |\n")
	for _, e := range jump.Ends() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", e, e.Doc())
	}
	return b.String()
}
