package metrics

import (
	"slices"
	"testing"
	"time"

	"aarch64.com/isthmus/jump"
)

func TestJump(t *testing.T) {
	s := jump.Stats{Up: 11, Down: 12, Connections: 13, Handshakes: 14, Open: 15, Sources: 16}
	s.Logins[jump.LoginPenalty] = 17
	s.Channels[jump.RefusedPort] = 18
	s.Dials.Sum = 1500 * time.Millisecond
	s.Dials.Counts[0], s.Dials.Counts[6], s.Dials.Counts[len(jump.DialBounds)] = 1, 2, 4
	got := samples(t, &Jump{Stats: func() jump.Stats { return s }})
	for _, want := range []string{
		`isthmus_jump_logins_total{result="penalty"} 17`,
		`isthmus_jump_logins_total{result="ok"} 0`,
		`isthmus_jump_channels_total{result="refused_port"} 18`,
		`isthmus_jump_channels_total{result="finished"} 0`,
		`isthmus_jump_connections 13`,
		`isthmus_jump_handshakes 14`,
		`isthmus_jump_channels_open 15`,
		`isthmus_jump_bytes_total{direction="up"} 11`,
		`isthmus_jump_bytes_total{direction="down"} 12`,
		`isthmus_jump_sources 16`,
		`isthmus_jump_dial_seconds_bucket{le="0.001"} 1`,
		`isthmus_jump_dial_seconds_bucket{le="0.3"} 1`,
		`isthmus_jump_dial_seconds_bucket{le="1"} 3`,
		`isthmus_jump_dial_seconds_bucket{le="10"} 3`,
		`isthmus_jump_dial_seconds_bucket{le="+Inf"} 7`,
		`isthmus_jump_dial_seconds_sum 1.5`,
		`isthmus_jump_dial_seconds_count 7`,
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
}
