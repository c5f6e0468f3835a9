package kernelpath

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{Rounds: -1}, "rounds: -1: it is 1 to 1000"},
		{Options{Rounds: 1001}, "rounds: 1001: it is 1 to 1000"},
		{Options{Seconds: -2}, "seconds: -2: it is 1 to 3600"},
		{Options{Steps: 31}, "steps: 31: it is 1 to 30"},
		{Options{Senders: 9}, "senders: 9: it is 1 to 8"},
		{Options{Bytes: -1}, "less than nothing"},
		{Options{Flood: -time.Second}, "less than nothing"},
		{Options{Paths: []string{"fast", "slow"}}, `path "slow": there are plain, fast, fast-nat44, user, user-nat44, ingress, tayga`},
	} {
		_, err := Run(context.Background(), tt.o)
		var usage UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want one of usage with %q", tt.o, err, tt.want)
		}
	}
}

// link delivers what is offered up to its capacity and loses the rest.
type link struct {
	capacity float64
	tried    int
	fails    map[int]bool // tries that other work on the machine spoils
}

func (l *link) try(rate float64) (Flood, error) {
	l.tried++
	f := Flood{Offered: rate, Delivered: min(rate, l.capacity)}
	if l.fails[l.tried] {
		f.Delivered = rate / 2
	}
	return f, nil
}

func TestSearch(t *testing.T) {
	const steps = 10
	for _, tt := range []struct {
		name     string
		top      float64
		capacity float64
		fails    map[int]bool
		want     float64
	}{
		{"between", 1000, 300, nil, 300},
		{"all of it", 1000, 2000, nil, 1000},
		{"nearly nothing", 1000, 2, nil, 2},
		{"nothing", 1000, 0, nil, 0},
		// 500 fails twice, 250 is held by the second of its tries.
		{"one spoiled try", 1000, 300, map[int]bool{3: true}, 300},
	} {
		l := &link{capacity: tt.capacity, fails: tt.fails}
		got, err := search(tt.top, steps, l.try)
		if err != nil {
			t.Fatal(err)
		}
		// What is found lies at most one last interval below, and never above
		// by more than what counts as no loss.
		if got > tt.want || got < tt.want-tt.top/math.Pow(2, steps) {
			t.Errorf("%s: %v after %d tries, want %v", tt.name, got, l.tried, tt.want)
		}
	}
}

func TestSearchEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	tried := 0
	_, err := search(1000, 10, func(float64) (Flood, error) { tried++; return Flood{}, broken })
	if !errors.Is(err, broken) || tried != 1 {
		t.Errorf("error %v after %d tries", err, tried)
	}
}

func TestLoss(t *testing.T) {
	for _, tt := range []struct {
		f    Flood
		want float64
	}{
		{Flood{}, 0},
		{Flood{Offered: 100, Delivered: 100}, 0},
		{Flood{Offered: 100, Delivered: 101}, 0},
		{Flood{Offered: 100, Delivered: 75}, 0.25},
		{Flood{Offered: 100}, 1},
	} {
		if got := tt.f.Loss(); got != tt.want {
			t.Errorf("loss of %+v is %v, want %v", tt.f, got, tt.want)
		}
	}
}

func TestParseIperf(t *testing.T) {
	for _, tt := range []struct {
		out, fails string
		want       float64
	}{
		{`{"end":{"sum_sent":{"bits_per_second":9e9},"sum_received":{"bits_per_second":8.5e9}}}`, "", 8.5e9},
		{`{"error":"unable to connect to server"}`, "iperf3: unable to connect to server", 0},
		{`{"end":{}}`, "nothing arrived", 0},
		{`iperf3: parameter error`, "read what iperf3 says", 0},
		{``, "read what iperf3 says", 0},
	} {
		got, err := parseIperf([]byte(tt.out))
		if got != tt.want || (err == nil) != (tt.fails == "") || (err != nil && !strings.Contains(err.Error(), tt.fails)) {
			t.Errorf("%s: %v, %v; want %v, %q", tt.out, got, err, tt.want, tt.fails)
		}
	}
}
