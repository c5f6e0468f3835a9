package main

import (
	"context"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/perf/webproxy"
)

// TestPerfProxy runs the comparison in small: isthmus, and what else is installed,
// take connections, relay both ways, and keep idle connections.
func TestPerfProxy(t *testing.T) {
	labtest.Need(t)
	t.Setenv(asIsthmus, "1") // for the isthmus that it starts
	table, err := webproxy.Run(context.Background(), webproxy.Options{
		Rounds: 1, Window: 50 * time.Millisecond, Connections: 50, Note: func(text string) { t.Log(text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 4 || table.Rows[0].Missing != "" {
		t.Fatalf("rows: %+v", table.Rows)
	}
	for _, r := range table.Rows {
		if r.Missing != "" {
			t.Logf("%s: %s", r.Name, r.Missing)
			continue
		}
		s := r.Rounds[0]
		for what, v := range map[string]float64{
			"new connections": s.Connections.Rate, "one stream down": s.Down.Rate, "one stream up": s.Up.Rate,
			"eight streams down": s.Down8.Rate, "eight streams up": s.Up8.Rate,
		} {
			if v <= 0 {
				t.Errorf("%s: %s is %v", r.Name, what, v)
			}
		}
		if r.Key == webproxy.HAProxyAuto {
			continue // not weighed
		}
		if r.Memory == nil || r.Memory.Connections != 50 || r.Memory.Idle <= 0 || r.Memory.Full <= 0 {
			t.Errorf("%s: memory of idle connections: %+v", r.Name, r.Memory)
		}
	}
}
