package kernelpath

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// samples makes rounds out of Gbit/s forward and reverse, and Mpps flooded, lost
// part and without loss.
func samples(rounds ...[5]float64) []Sample {
	var out []Sample
	for _, r := range rounds {
		out = append(out, Sample{
			Forward: r[0] * 1e9, Reverse: r[1] * 1e9,
			Flood:    Flood{Offered: r[2] / (1 - r[3]) * 1e6, Delivered: r[2] * 1e6},
			Lossless: r[4] * 1e6,
		})
	}
	return out
}

func example() Table {
	return Table{
		Kernel: "6.12.0", CPUs: 2, Load: []float64{0.1, 1},
		Rows: []Row{
			{Key: Plain, Name: "plain IPv6 forwarding", Rounds: samples([5]float64{20, 16, 0.5, 0, 0.5}, [5]float64{10, 12, 0.4, 0, 0.4}, [5]float64{16, 18, 0.6, 0, 0.6})},
			{Key: Fast, Name: "isthmus, fast path", Rounds: samples([5]float64{16, 12, 0.4, 0, 0.4}, [5]float64{9, 9, 0.3, 0, 0.3}, [5]float64{8, 9, 0.5, 0, 0.5})},
			{Key: Ingress, Name: "isthmus, fast path at ingress", Missing: "not here"},
			{Key: Tayga, Name: "TAYGA", Rounds: samples([5]float64{2, 2, 0.1, 0.5, 0.2}, [5]float64{2, 2, 0.1, 0.5, 0.2}, [5]float64{2, 2, 0.2, 0.75, 0.1})},
		},
	}
}

func TestTable(t *testing.T) {
	table := example()
	table.judge()
	var out strings.Builder
	if err := table.Print(&out); err != nil {
		t.Fatal(err)
	}
	want := `Linux 6.12.0, 2 CPUs, load 0.1 1.0. Figures are min/median/max of the rounds,
ratios those of the best rounds. TCP: one stream, Gbit/s. UDP: 18 bytes of payload, Mpps.

                       TCP forward     to plain  TCP reverse     to plain  UDP flood       loss    to plain  to TAYGA  UDP no loss     to plain  to TAYGA
plain IPv6 forwarding  10.0/16.0/20.0  1.00      12.0/16.0/18.0  1.00      0.40/0.50/0.60  0.0 %   1.00      3.00      0.40/0.50/0.60  1.00      3.00
isthmus, fast path     8.0/9.0/16.0    0.80      9.0/9.0/12.0    0.67      0.30/0.40/0.50  0.0 %   0.83      2.50      0.30/0.40/0.50  0.83      2.50
TAYGA                  2.0/2.0/2.0     0.10      2.0/2.0/2.0     0.11      0.10/0.10/0.20  50.0 %  0.33      1.00      0.10/0.20/0.20  0.33      1.00
isthmus, fast path at ingress: not here

missed   TCP with the fast path, to plain forwarding: at least 0.70; 0.67 (TCP reverse, fast path)
unknown  TCP with the fast path at ingress, to plain forwarding: at least 0.90; not measured
unknown  TCP in user space alone, to plain forwarding: at least 0.55; not measured
met      TCP with the fast path, to TAYGA: at least 5.00; 6.00 (TCP reverse, fast path)
unknown  TCP in user space alone, to TAYGA: at least 5.00; not measured
met      small packets with the fast path, to TAYGA: at least 2.40; 2.50 (UDP flood, fast path)
unknown  small packets with the fast path and NAT44, to TAYGA without: at least 2.40; not measured
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestOneRoundHasNoSpread(t *testing.T) {
	r := Row{Rounds: samples([5]float64{12.34, 1, 0.123, 0, 0.1})}
	if got := r.spread(forward, 1e9, 1); got != "12.3" {
		t.Errorf("TCP forward is shown as %s", got)
	}
	if got := (&Row{}).spread(forward, 1e9, 1); got != "-" {
		t.Errorf("nothing is shown as %s", got)
	}
}
