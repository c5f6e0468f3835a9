package l2fwd

import (
	"fmt"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// TestCompare: both forwarders carry traffic, in the laboratory and with the
// programs that the benchmark uses. How fast isn't the question here.
func TestCompare(t *testing.T) {
	labtest.Need(t)
	r, err := Compare(Config{Rounds: 2, Duration: 50 * time.Millisecond, Settle: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Ours) != 2 || len(r.Baseline) != 2 || r.Ratio() <= 0 {
		t.Errorf("%+v", r)
	}
	t.Logf("%.3f against %.3f Mpps", Median(r.Ours)/1e6, Median(r.Baseline)/1e6)
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 2}, 2}} {
		if got := Median(c.v); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.v, got, c.want)
		}
	}
}

// BenchmarkL2fwd prints millions of frames per second of either forwarder and
// their ratio (ours / asavie; above 1 ours is faster). One iteration is one
// comparison of nine interleaved rounds, so run it with -benchtime 1x.
func BenchmarkL2fwd(b *testing.B) {
	labtest.Need(b)
	for _, size := range []int{60, 1514} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			var r Result
			for range b.N {
				one, err := Compare(Config{Size: size})
				if err != nil {
					b.Fatal(err)
				}
				r.Ours, r.Baseline = append(r.Ours, one.Ours...), append(r.Baseline, one.Baseline...)
			}
			b.ReportMetric(0, "ns/op") // a comparison's duration says nothing
			b.ReportMetric(Median(r.Ours)/1e6, "Mpps")
			b.ReportMetric(Median(r.Baseline)/1e6, "Mpps(asavie)")
			b.ReportMetric(r.Ratio(), "ratio")
		})
	}
}
