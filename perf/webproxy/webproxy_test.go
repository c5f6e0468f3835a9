package webproxy

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{Rounds: -1}, "rounds: -1: it is 1 to 1000"},
		{Options{Rounds: 1001}, "rounds: 1001: it is 1 to 1000"},
		{Options{Connections: -1}, "connections: -1: at least 1"},
		{Options{Connections: math.MaxInt32}, "raise it with ulimit -Hn"},
		{Options{Window: -time.Second}, "less than nothing"},
		{Options{Parts: []string{"weight"}}, `measure "weight": there are connections, throughput, memory`},
		{Options{Proxies: []string{HAProxy, "squid"}}, `proxy "squid": there are isthmus, haproxy, haproxy-auto, nginx`},
	} {
		_, err := Run(context.Background(), tt.o)
		var usage UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want one of usage with %q", tt.o, err, tt.want)
		}
	}
}

func TestRoom(t *testing.T) {
	for _, tt := range []struct {
		files uint64
		want  int
	}{{0, 0}, {999, 0}, {1000, 0}, {1024, 12}, {20000, 9500}, {1 << 20, 523788}, {math.MaxUint64, 1 << 29}} {
		if got := room(tt.files); got != tt.want {
			t.Errorf("%d open files have room for %d connections, want %d", tt.files, got, tt.want)
		}
	}
}

// sample makes a round in which a connection takes so many milliseconds of CPU, and
// a megabyte as many in all streams.
func sample(connection, megabyte float64) Sample {
	s := Stream{Rate: 1e9, CPU: megabyte}
	return Sample{Connections: Connections{1000, 1000, connection * 1e-3}, Down: s, Up: s, Down8: s, Up8: s}
}

func TestTable(t *testing.T) {
	slow := sample(0.3, 0.4)
	slow.Up8.CPU = 0.9
	table := Table{
		Kernel: "6.12.0", CPUs: 2, Load: []float64{0.1, 1},
		Rows: []Row{
			{Key: Isthmus, Name: "isthmus", Memory: &Memory{Each: 2 << 10, Connections: 9500}, Rounds: []Sample{sample(0.2, 0.3), slow}},
			{Key: HAProxy, Name: "HAProxy", Memory: &Memory{Each: 4 << 10, Connections: 9500}, Rounds: []Sample{sample(0.2, 0.6), sample(0.2, 0.8)}},
			{Key: HAProxyAuto, Name: "HAProxy, auto", Rounds: []Sample{sample(0.25, 0.7), sample(0.3, 0.8)}},
			{Key: Nginx, Name: "nginx", Missing: "not installed: apt install nginx"},
		},
	}
	table.judge()
	var out strings.Builder
	if err := table.Print(&out); err != nil {
		t.Fatal(err)
	}
	want := `Linux 6.12.0, 2 CPUs, load 0.1 1.0. Figures are min/median/max of the rounds, ratios
medians of the rounds' ratios. The proxy has one CPU; clients and server share
another, and limit the rate of connections.

                                 isthmus            HAProxy            HAProxy, auto      nginx  isthmus to HAProxy  isthmus to HAProxy, auto  isthmus to nginx
TLS connections, 1/s             1000/1000/1000     1000/1000/1000     1000/1000/1000     -      1.00                1.00                      -
CPU per connection, ms           0.200/0.250/0.300  0.200/0.200/0.200  0.250/0.275/0.300  -      1.25                0.90                      -
CPU in use meanwhile, %          20/25/30           20/20/20           25/28/30           -      1.25                0.90                      -
one stream down, MB/s            1000/1000/1000     1000/1000/1000     1000/1000/1000     -      1.00                1.00                      -
one stream up, MB/s              1000/1000/1000     1000/1000/1000     1000/1000/1000     -      1.00                1.00                      -
eight streams down, MB/s         1000/1000/1000     1000/1000/1000     1000/1000/1000     -      1.00                1.00                      -
eight streams up, MB/s           1000/1000/1000     1000/1000/1000     1000/1000/1000     -      1.00                1.00                      -
CPU one down, ms/MB              0.300/0.350/0.400  0.600/0.700/0.800  0.700/0.750/0.800  -      0.50                0.46                      -
CPU one up, ms/MB                0.300/0.350/0.400  0.600/0.700/0.800  0.700/0.750/0.800  -      0.50                0.46                      -
CPU eight down, ms/MB            0.300/0.350/0.400  0.600/0.700/0.800  0.700/0.750/0.800  -      0.50                0.46                      -
CPU eight up, ms/MB              0.300/0.600/0.900  0.600/0.700/0.800  0.700/0.750/0.800  -      0.81                0.78                      -
memory per idle connection, KiB  2.0                4.0                -                  -      0.50                -                         -

Memory is that of 9500 idle connections; the aim speaks of 10000.
nginx: not installed: apt install nginx

missed   CPU per connection, to HAProxy: at most 1.00; 1.25 (new connections)
met      CPU per MB, to HAProxy: at most 1.00; 0.81 (eight up)
met      CPU per connection, to HAProxy, auto: at most 1.00; 0.90 (new connections)
met      CPU per MB, to HAProxy, auto: at most 1.00; 0.78 (eight up)
met      memory of an idle connection, KiB: at most 8.00; 2.00 (9500 connections)
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestAimsThatWereNotMeasured: nothing is met, and nothing fails.
func TestAimsThatWereNotMeasured(t *testing.T) {
	table := Table{Rows: []Row{{Key: Isthmus, Name: "isthmus"}, {Key: HAProxy, Name: "HAProxy", Missing: "not installed: apt install haproxy"}}}
	table.judge()
	if len(table.Aims) != 3 {
		t.Errorf("%d aims", len(table.Aims))
	}
	for _, a := range table.Aims {
		if a.Met || a.Where != "" {
			t.Errorf("%+v", a)
		}
	}
}
