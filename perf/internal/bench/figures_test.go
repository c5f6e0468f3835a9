package bench

import "testing"

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		v    []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}} {
		if got := Median(tt.v); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.v, got, tt.want)
		}
	}
}

func TestMedianRatio(t *testing.T) {
	for _, tt := range []struct {
		v, base []float64
		want    float64
		ok      bool
	}{
		{nil, nil, 0, false},
		{[]float64{6}, []float64{3}, 2, true},
		{[]float64{6, 1, 8}, []float64{3, 0, 2}, 3, true}, // a round without a figure
		{[]float64{6, 9}, []float64{3}, 2, true},          // a round that the other did not have
		{[]float64{6}, []float64{0}, 0, false},
	} {
		if got, ok := MedianRatio(tt.v, tt.base); got != tt.want || ok != tt.ok {
			t.Errorf("median of %v to %v is %v, %v; want %v, %v", tt.v, tt.base, got, ok, tt.want, tt.ok)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		v    []float64
		want string
	}{{nil, "-"}, {[]float64{12.34}, "12.3"}, {[]float64{4, 1, 2}, "1.0/2.0/4.0"}} {
		if got := Spread(tt.v, 1); got != tt.want {
			t.Errorf("spread of %v is %s, want %s", tt.v, got, tt.want)
		}
	}
}

func TestAim(t *testing.T) {
	for _, tt := range []struct {
		name    string
		a       Aim
		figures []float64
		want    string
	}{
		{"none", Aim{What: "x", Want: 2}, nil, "unknown  x: at least 2.00; not measured"},
		{"all reach it", Aim{What: "x", Want: 2}, []float64{3, 2, 4}, "met      x: at least 2.00; 2.00 (figure 1)"},
		{"one does not", Aim{What: "x", Want: 2}, []float64{3, 1, 4}, "missed   x: at least 2.00; 1.00 (figure 1)"},
		{"bounded above", Aim{What: "x", Want: 0.1, AtMost: true}, []float64{0.02, 0.1, 0.05}, "met      x: at most 0.10; 0.10 (figure 1)"},
		{"one above", Aim{What: "x", Want: 0.1, AtMost: true}, []float64{0.02, 0.2, 0.05}, "missed   x: at most 0.10; 0.20 (figure 1)"},
	} {
		for i, f := range tt.figures {
			tt.a.Consider(f, "figure "+string(rune('0'+i)))
		}
		if got := tt.a.String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
