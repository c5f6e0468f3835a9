package main

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/kernelpath"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// TestKernelPathCarriesTraffic runs the whole comparison in small: every path that
// can be had here carries TCP both ways and small packets.
func TestKernelPathCarriesTraffic(t *testing.T) {
	labtest.Need(t)
	if _, err := exec.LookPath("iperf3"); err != nil {
		t.Skip("iperf3 is not installed: apt install iperf3")
	}
	t.Setenv(asIsthmus, "1") // for the isthmus that it starts
	table, err := kernelpath.Run(context.Background(), kernelpath.Options{
		Rounds: 1, Bytes: 20 << 20, Flood: 50 * time.Millisecond, Steps: 3, Note: func(text string) { t.Log(text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != len(kernelpath.Keys()) {
		t.Fatalf("%d rows for %d paths", len(table.Rows), len(kernelpath.Keys()))
	}
	for _, r := range table.Rows {
		if r.Missing != "" {
			if _, err := exec.LookPath("tayga"); r.Key != kernelpath.Tayga || err == nil {
				t.Errorf("%s was not measured: %s", r.Name, r.Missing)
			}
			continue
		}
		// The rate without loss may be 0 on a machine that is busy.
		if s := r.Rounds[0]; s.Forward <= 0 || s.Reverse <= 0 || s.Flood.Delivered <= 0 {
			t.Errorf("%s carried nothing somewhere: %+v", r.Name, s)
		}
	}
}
