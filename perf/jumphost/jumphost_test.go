package jumphost

import (
	"context"
	"errors"
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
		{Options{Sessions: -1}, "sessions: -1: it is 1 to 5000"},
		{Options{Sessions: 5001}, "sessions: 5001: it is 1 to 5000"},
		{Options{Window: -time.Second}, "less than nothing"},
		{Options{Bytes: -1}, "less than nothing"},
		{Options{Hosts: []string{SSHD, "telnet"}}, `host "telnet": there are isthmus, sshd, sshd-gcm, direct`},
	} {
		_, err := Run(context.Background(), tt.o)
		var usage UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want one of usage with %q", tt.o, err, tt.want)
		}
	}
}

func TestQuantiles(t *testing.T) {
	hundred := make([]time.Duration, 101)
	for i := range hundred {
		hundred[(i*37)%101] = time.Duration(i) * time.Second
	}
	for _, tt := range []struct {
		d    []time.Duration
		want Times
	}{
		{nil, Times{}},
		{[]time.Duration{time.Second}, Times{1, 1, 1}},
		{hundred, Times{50, 99, 101}},
	} {
		if got := quantiles(tt.d); got != tt.want {
			t.Errorf("quantiles are %+v, want %+v", got, tt.want)
		}
	}
}

// sample makes a round whose streams all have the rate, in MB/s, at a second of CPU
// per gigabyte, and so many handshakes per second.
func sample(rate, handshakes float64) Sample {
	s := Stream{Rate: rate * 1e6, CPU: 1}
	return Sample{
		Down: s, Up: s, Down8: s, Up8: s, Session: rate * 1e6 / 2,
		Latency: Times{50e-6, 99e-6, 1000}, Connect: Times{1e-3, 2e-3, 100},
		Handshakes: Handshakes{handshakes, 1 / handshakes},
	}
}

func TestTable(t *testing.T) {
	slow := sample(1200, 1000)
	slow.Up8.Rate = 1100e6
	table := Table{
		Kernel: "6.12.0", CPUs: 2, Load: []float64{0.1, 1},
		Rows: []Row{
			{Key: Isthmus, Name: "isthmus", Memory: &Memory{Each: 50 << 10, Sessions: 1000}, Rounds: []Sample{sample(1250, 1000), slow}},
			{Key: SSHD, Name: "sshd", Memory: &Memory{Each: 2000 << 10, Sessions: 1000}, Rounds: []Sample{sample(500, 100), sample(500, 50)}},
			{Key: SSHDGCM, Name: "sshd, aes128-gcm", Rounds: []Sample{sample(1000, 1000), sample(1000, 1000)}},
			{Key: Direct, Name: "no jump host", Rounds: []Sample{sample(4000, 8000)}},
		},
	}
	table.judge()
	var out strings.Builder
	if err := table.Print(&out); err != nil {
		t.Fatal(err)
	}
	want := `Linux 6.12.0, 2 CPUs, load 0.1 1.0. Figures are min/median/max of the rounds, ratios
medians of the rounds' ratios. The jump host has one CPU, all others share one.

                          isthmus         sshd               sshd, aes128-gcm  no jump host  isthmus to sshd  isthmus to sshd, aes128-gcm
one stream down, MB/s     1200/1225/1250  500/500/500        1000/1000/1000    4000          2.45             1.23
one stream up, MB/s       1200/1225/1250  500/500/500        1000/1000/1000    4000          2.45             1.23
eight streams down, MB/s  1200/1225/1250  500/500/500        1000/1000/1000    4000          2.45             1.23
eight streams up, MB/s    1100/1175/1250  500/500/500        1000/1000/1000    4000          2.35             1.18
ssh -J down, MB/s         600/612/625     250/250/250        500/500/500       2000          2.45             1.23
CPU one down, s/GB        1.00/1.00/1.00  1.00/1.00/1.00     1.00/1.00/1.00    -             1.00             1.00
CPU one up, s/GB          1.00/1.00/1.00  1.00/1.00/1.00     1.00/1.00/1.00    -             1.00             1.00
CPU eight down, s/GB      1.00/1.00/1.00  1.00/1.00/1.00     1.00/1.00/1.00    -             1.00             1.00
CPU eight up, s/GB        1.00/1.00/1.00  1.00/1.00/1.00     1.00/1.00/1.00    -             1.00             1.00
handshakes, 1/s           1000/1000/1000  50/75/100          1000/1000/1000    8000          15.00            1.00
CPU per handshake, ms     1.00/1.00/1.00  10.00/15.00/20.00  1.00/1.00/1.00    -             0.08             1.00
connect p50, ms           1.00/1.00/1.00  1.00/1.00/1.00     1.00/1.00/1.00    1.00          1.00             1.00
connect p99, ms           2.00/2.00/2.00  2.00/2.00/2.00     2.00/2.00/2.00    2.00          1.00             1.00
round trip p50, us        50/50/50        50/50/50           50/50/50          50            1.00             1.00
round trip p99, us        99/99/99        99/99/99           99/99/99          99            1.00             1.00
memory per session, KiB   50.0            2000.0             -                 -             0.03             -

met      throughput, to sshd: at least 1.20; 2.35 (eight streams up)
met      handshakes, to sshd: at least 1.20; 15.00 (per second)
met      memory of an idle session, to sshd: at most 0.10; 0.03 (1000 sessions)
missed   throughput, to sshd, aes128-gcm: at least 1.20; 1.18 (eight streams up)
missed   handshakes, to sshd, aes128-gcm: at least 1.20; 1.00 (per second)
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestAimsThatWereNotMeasured: nothing is met, and nothing fails.
func TestAimsThatWereNotMeasured(t *testing.T) {
	table := Table{Rows: []Row{{Key: Isthmus, Name: "isthmus"}, {Key: SSHD, Name: "sshd"}}}
	table.judge()
	if len(table.Aims) != 2 {
		t.Errorf("%d aims", len(table.Aims))
	}
	for _, a := range table.Aims {
		if a.Met || a.Where != "" {
			t.Errorf("%+v", a)
		}
	}
}
