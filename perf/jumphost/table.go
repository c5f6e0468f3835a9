package jumphost

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"aarch64.com/isthmus/perf/internal/bench"
)

// Sample is what one round measured at one host.
type Sample struct {
	Down       Stream     `json:"one_stream_down"` // from the VM to the client
	Up         Stream     `json:"one_stream_up"`
	Down8      Stream     `json:"eight_streams_down"`
	Up8        Stream     `json:"eight_streams_up"`
	Session    float64    `json:"ssh_j_bytes_per_second"` // by a whole ssh -J, with its login
	Latency    Times      `json:"latency"`                // of a byte to the VM and back
	Connect    Times      `json:"connect"`                // TCP, login, channel and first byte
	Handshakes Handshakes `json:"handshakes"`
}

// Row is one host.
type Row struct {
	Key    string   `json:"key"`
	Name   string   `json:"name"`
	Memory *Memory  `json:"memory,omitempty"`
	Rounds []Sample `json:"rounds"`
}

// Table is what a run found.
type Table struct {
	Kernel string      `json:"kernel"`
	CPUs   int         `json:"cpus"`
	Load   []float64   `json:"load"` // one-minute averages, before the run and after each round
	Rows   []Row       `json:"rows"`
	Aims   []bench.Aim `json:"aims"`
}

// measure is a line of the table: a figure of a Sample, in a unit for people.
type measure struct {
	name   string
	digits int
	of     func(*Sample) float64
	ssh    bool // it makes no sense without a jump host
}

const mb, micro, milli = 1e6, 1e-6, 1e-3

var measures = []measure{
	{"one stream down, MB/s", 0, func(s *Sample) float64 { return s.Down.Rate / mb }, false},
	{"one stream up, MB/s", 0, func(s *Sample) float64 { return s.Up.Rate / mb }, false},
	{"eight streams down, MB/s", 0, func(s *Sample) float64 { return s.Down8.Rate / mb }, false},
	{"eight streams up, MB/s", 0, func(s *Sample) float64 { return s.Up8.Rate / mb }, false},
	{"ssh -J down, MB/s", 0, func(s *Sample) float64 { return s.Session / mb }, false},
	{"CPU one down, s/GB", 2, func(s *Sample) float64 { return s.Down.CPU }, true},
	{"CPU one up, s/GB", 2, func(s *Sample) float64 { return s.Up.CPU }, true},
	{"CPU eight down, s/GB", 2, func(s *Sample) float64 { return s.Down8.CPU }, true},
	{"CPU eight up, s/GB", 2, func(s *Sample) float64 { return s.Up8.CPU }, true},
	{"handshakes, 1/s", 0, func(s *Sample) float64 { return s.Handshakes.Rate }, false},
	{"CPU per handshake, ms", 2, func(s *Sample) float64 { return s.Handshakes.CPU / milli }, true},
	{"connect p50, ms", 2, func(s *Sample) float64 { return s.Connect.P50 / milli }, false},
	{"connect p99, ms", 2, func(s *Sample) float64 { return s.Connect.P99 / milli }, false},
	{"round trip p50, us", 0, func(s *Sample) float64 { return s.Latency.P50 / micro }, false},
	{"round trip p99, us", 0, func(s *Sample) float64 { return s.Latency.P99 / micro }, false},
}

// Lines of the table that aims are about.
const (
	firstThroughput, lastThroughput = 0, 3
	handshakeRate                   = 9
)

func (t *Table) row(key string) *Row {
	for i := range t.Rows {
		if t.Rows[i].Key == key {
			return &t.Rows[i]
		}
	}
	return nil
}

// ratio is the median over the rounds of isthmus's figure divided by another's, and
// false where there is none.
func (t *Table) ratio(m *measure, base string) (float64, bool) {
	r, b := t.row(Isthmus), t.row(base)
	if r == nil || b == nil {
		return 0, false
	}
	return bench.MedianRatio(r.column(m), b.column(m))
}

// memoryRatio is the same for an idle session.
func (t *Table) memoryRatio(base string) (float64, bool) {
	r, b := t.row(Isthmus), t.row(base)
	if r == nil || b == nil || r.Memory == nil || b.Memory == nil || b.Memory.Each <= 0 {
		return 0, false
	}
	return r.Memory.Each / b.Memory.Each, true
}

// servers are what isthmus is compared with.
var servers = []string{SSHD, SSHDGCM}

// judge fills in the aims.
func (t *Table) judge() {
	for _, base := range servers {
		b := t.row(base)
		if b == nil {
			continue
		}
		throughput := bench.Aim{What: "throughput, to " + b.Name, Want: 1.2}
		for i := firstThroughput; i <= lastThroughput; i++ {
			if q, ok := t.ratio(&measures[i], base); ok {
				name, _, _ := strings.Cut(measures[i].name, ",")
				throughput.Consider(q, name)
			}
		}
		rate := bench.Aim{What: "handshakes, to " + b.Name, Want: 1.2}
		if q, ok := t.ratio(&measures[handshakeRate], base); ok {
			rate.Consider(q, "per second")
		}
		t.Aims = append(t.Aims, throughput, rate)
		if q, ok := t.memoryRatio(base); ok {
			memory := bench.Aim{What: "memory of an idle session, to " + b.Name, Want: 0.1, AtMost: true}
			memory.Consider(q, fmt.Sprintf("%d sessions", t.row(Isthmus).Memory.Sessions))
			t.Aims = append(t.Aims, memory)
		}
	}
}

// Print writes the table for people.
func (t *Table) Print(out io.Writer) error {
	loads := make([]string, len(t.Load))
	for i, l := range t.Load {
		loads[i] = fmt.Sprintf("%.1f", l)
	}
	fmt.Fprintf(out, "Linux %s, %d CPUs, load %s. Figures are min/median/max of the rounds, ratios\n", t.Kernel, t.CPUs, strings.Join(loads, " "))
	fmt.Fprintf(out, "medians of the rounds' ratios. The jump host has one CPU, all others share one.\n\n")
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(name string, figure func(*Row) string, ratio func(base string) (float64, bool)) {
		fmt.Fprint(w, name)
		for i := range t.Rows {
			fmt.Fprint(w, "\t", figure(&t.Rows[i]))
		}
		for _, base := range servers {
			if t.row(base) == nil {
				continue
			}
			if q, ok := ratio(base); ok {
				fmt.Fprintf(w, "\t%.2f", q)
			} else {
				fmt.Fprint(w, "\t-")
			}
		}
		fmt.Fprintln(w)
	}
	for i := range t.Rows {
		fmt.Fprint(w, "\t", t.Rows[i].Name)
	}
	for _, base := range servers {
		if b := t.row(base); b != nil {
			fmt.Fprint(w, "\tisthmus to ", b.Name)
		}
	}
	fmt.Fprintln(w)
	for i := range measures {
		m := &measures[i]
		line(m.name, func(r *Row) string { return r.spread(m) }, func(base string) (float64, bool) { return t.ratio(m, base) })
	}
	line("memory per session, KiB", func(r *Row) string {
		if r.Memory == nil {
			return "-"
		}
		return fmt.Sprintf("%.1f", r.Memory.Each/1024)
	}, t.memoryRatio)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, a := range t.Aims {
		if _, err := fmt.Fprintln(out, a); err != nil {
			return err
		}
	}
	return nil
}

// spread is what a row's rounds have for a line.
func (r *Row) spread(m *measure) string {
	if m.ssh && r.Key == Direct {
		return "-"
	}
	return bench.Spread(r.column(m), m.digits)
}

// column is a row's figures for a line, one of each round.
func (r *Row) column(m *measure) (v []float64) {
	for i := range r.Rounds {
		v = append(v, m.of(&r.Rounds[i]))
	}
	return v
}
