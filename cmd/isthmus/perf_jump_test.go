package main

import (
	"context"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/jumphost"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// TestPerfJump runs the comparison in small: every kind of host relays both ways,
// lets clients in, and keeps idle sessions.
func TestPerfJump(t *testing.T) {
	labtest.Need(t)
	labtest.NeedProgram(t, "ssh", "openssh-client")
	labtest.NeedProgram(t, "sshd", "openssh-server")
	t.Setenv(asIsthmus, "1") // for the isthmus that it starts
	table, err := jumphost.Run(context.Background(), jumphost.Options{
		Rounds: 1, Window: 50 * time.Millisecond, Bytes: 1 << 20, Sessions: 20,
		Hosts: []string{jumphost.SSHDGCM, jumphost.Direct}, Note: func(text string) { t.Log(text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 3 {
		t.Fatalf("%d rows for 3 hosts", len(table.Rows))
	}
	for _, r := range table.Rows {
		s := r.Rounds[0]
		for what, v := range map[string]float64{
			"one stream down": s.Down.Rate, "one stream up": s.Up.Rate, "eight streams down": s.Down8.Rate, "eight streams up": s.Up8.Rate,
			"ssh -J": s.Session, "handshakes": s.Handshakes.Rate, "connect": s.Connect.P50, "latency": s.Latency.P50,
		} {
			if v <= 0 {
				t.Errorf("%s: %s is %v", r.Name, what, v)
			}
		}
	}
	if m := table.Rows[0].Memory; m == nil || m.Full <= m.Idle || m.Processes != 1 {
		t.Errorf("memory of idle sessions: %+v", m)
	}
}
