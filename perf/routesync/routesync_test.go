package routesync

import (
	"errors"
	"strings"
	"testing"

	"aarch64.com/isthmus/perf/lab/labetcd/etcdtest"
	"aarch64.com/isthmus/perf/lab/labtest"
)

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{Changes: -1}, "changes: -1: it is 1 to 1000000"},
		{Options{Nodes: 51}, "nodes: 51: it is 1 to 50"},
		{Options{Members: 10}, "members: 10: it is 1 to 9"},
		{Options{Routes: -5}, "routes: -5"},
	} {
		_, err := Run(t.Context(), tt.o)
		var usage UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want one of usage with %q", tt.o, err, tt.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	v := make([]float64, 1000)
	for i := range v {
		v[i] = float64(999 - i)
	}
	for p, want := range map[float64]float64{0: 0, 50: 500, 99: 990, 100: 999} {
		if got := percentile(v, p); got != want {
			t.Errorf("percentile %v: %v, want %v", p, got, want)
		}
	}
	if got := percentile(nil, 99); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestAim(t *testing.T) {
	for _, tt := range []struct {
		lag float64
		met bool
	}{{0.02, true}, {1.5, false}} {
		table := Table{Lags: []float64{tt.lag}}
		table.judge()
		if table.Aims[0].Met != tt.met {
			t.Errorf("%v s: %v", tt.lag, table.Aims[0])
		}
	}
}

// TestRun is a small run with all of its parts.
func TestRun(t *testing.T) {
	labtest.Need(t)
	table, err := Run(t.Context(), Options{
		Changes: 9, Routes: 2000, Nodes: 2, Members: 1, Watchers: 5, Binary: labtest.Isthmus(t), Etcd: etcdtest.Current(t), Note: func(s string) { t.Log(s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Lags) != 9 || table.Watchers == nil || table.NodeCPU <= 0 || table.EtcdCPU <= 0 {
		t.Errorf("%+v", table)
	}
	var out strings.Builder
	if err := table.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2000 routes", "then the slowest node serves it", "5 simulated nodes", "99th percentile"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}
