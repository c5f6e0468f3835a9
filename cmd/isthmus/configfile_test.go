package main

import "testing"

func TestErrorLimit(t *testing.T) {
	for perSecond, want := range map[int][2]int{0: {-1, -1}, 1: {1, 1}, 100: {100, 50}} {
		if rate, burst := errorLimit(perSecond); rate != want[0] || burst != want[1] {
			t.Errorf("%d: %d, %d", perSecond, rate, burst)
		}
	}
}
