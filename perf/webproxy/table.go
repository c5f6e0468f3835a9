package webproxy

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"aarch64.com/isthmus/perf/internal/bench"
)

// Sample is what one round measured at one proxy.
type Sample struct {
	Connections Connections `json:"new_connections"`
	Down        Stream      `json:"one_stream_down"` // from the VM to the client
	Up          Stream      `json:"one_stream_up"`
	Down8       Stream      `json:"eight_streams_down"`
	Up8         Stream      `json:"eight_streams_up"`
}

// Row is one proxy.
type Row struct {
	Key     string   `json:"key"`
	Name    string   `json:"name"`
	Missing string   `json:"missing,omitempty"` // why it was not measured
	Memory  *Memory  `json:"memory,omitempty"`
	Rounds  []Sample `json:"rounds,omitempty"`
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
}

const mb, milli, percent = 1e6, 1e-3, 1e-2

// A second per gigabyte is a millisecond per megabyte.
var measures = []measure{
	{"TLS connections, 1/s", 0, func(s *Sample) float64 { return s.Connections.Rate }},
	{"CPU per connection, ms", 3, func(s *Sample) float64 { return s.Connections.CPU / milli }},
	{"CPU in use meanwhile, %", 0, func(s *Sample) float64 { return s.Connections.Rate * s.Connections.CPU / percent }},
	{"one stream down, MB/s", 0, func(s *Sample) float64 { return s.Down.Rate / mb }},
	{"one stream up, MB/s", 0, func(s *Sample) float64 { return s.Up.Rate / mb }},
	{"eight streams down, MB/s", 0, func(s *Sample) float64 { return s.Down8.Rate / mb }},
	{"eight streams up, MB/s", 0, func(s *Sample) float64 { return s.Up8.Rate / mb }},
	{"CPU one down, ms/MB", 3, func(s *Sample) float64 { return s.Down.CPU }},
	{"CPU one up, ms/MB", 3, func(s *Sample) float64 { return s.Up.CPU }},
	{"CPU eight down, ms/MB", 3, func(s *Sample) float64 { return s.Down8.CPU }},
	{"CPU eight up, ms/MB", 3, func(s *Sample) float64 { return s.Up8.CPU }},
}

// Lines of the table that aims are about.
const (
	perConnection         = 1
	firstPerMB, lastPerMB = 7, 10
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

// memoryRatio is the same for an idle connection.
func (t *Table) memoryRatio(base string) (float64, bool) {
	r, b := t.row(Isthmus), t.row(base)
	if r == nil || b == nil || r.Memory == nil || b.Memory == nil || b.Memory.Each <= 0 {
		return 0, false
	}
	return r.Memory.Each / b.Memory.Each, true
}

// judge fills in the aims.
func (t *Table) judge() {
	for _, base := range []string{HAProxy, HAProxyAuto} {
		b := t.row(base)
		if b == nil {
			continue
		}
		connection := bench.Aim{What: "CPU per connection, to " + b.Name, Want: 1, AtMost: true}
		if q, ok := t.ratio(&measures[perConnection], base); ok {
			connection.Consider(q, "new connections")
		}
		bulk := bench.Aim{What: "CPU per MB, to " + b.Name, Want: 1, AtMost: true}
		for i := firstPerMB; i <= lastPerMB; i++ {
			if q, ok := t.ratio(&measures[i], base); ok {
				name, _, _ := strings.Cut(strings.TrimPrefix(measures[i].name, "CPU "), ",")
				bulk.Consider(q, name)
			}
		}
		t.Aims = append(t.Aims, connection, bulk)
	}
	memory := bench.Aim{What: "memory of an idle connection, KiB", Want: 8, AtMost: true}
	if r := t.row(Isthmus); r != nil && r.Memory != nil {
		memory.Consider(r.Memory.Each/1024, fmt.Sprintf("%d connections", r.Memory.Connections))
	}
	t.Aims = append(t.Aims, memory)
}

// Print writes the table for people.
func (t *Table) Print(out io.Writer) error {
	loads := make([]string, len(t.Load))
	for i, l := range t.Load {
		loads[i] = fmt.Sprintf("%.1f", l)
	}
	fmt.Fprintf(out, "Linux %s, %d CPUs, load %s. Figures are min/median/max of the rounds, ratios\n", t.Kernel, t.CPUs, strings.Join(loads, " "))
	fmt.Fprintf(out, "medians of the rounds' ratios. The proxy has one CPU; clients and server share\nanother, and limit the rate of connections.\n\n")
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(name string, figure func(*Row) string, ratio func(base string) (float64, bool)) {
		fmt.Fprint(w, name)
		for i := range t.Rows {
			fmt.Fprint(w, "\t", figure(&t.Rows[i]))
		}
		for i := range t.Rows {
			if t.Rows[i].Key == Isthmus {
				continue
			}
			if q, ok := ratio(t.Rows[i].Key); ok {
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
	for i := range t.Rows {
		if t.Rows[i].Key != Isthmus {
			fmt.Fprint(w, "\tisthmus to ", t.Rows[i].Name)
		}
	}
	fmt.Fprintln(w)
	for i := range measures {
		m := &measures[i]
		line(m.name, func(r *Row) string { return r.spread(m) }, func(base string) (float64, bool) { return t.ratio(m, base) })
	}
	line("memory per idle connection, KiB", func(r *Row) string {
		if r.Memory == nil {
			return "-"
		}
		return fmt.Sprintf("%.1f", r.Memory.Each/1024)
	}, t.memoryRatio)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	t.remarks(out)
	for _, a := range t.Aims {
		if _, err := fmt.Fprintln(out, a); err != nil {
			return err
		}
	}
	return nil
}

// remarks says what the table lacks.
func (t *Table) remarks(out io.Writer) {
	said := false
	for i := range t.Rows {
		r := &t.Rows[i]
		if r.Missing != "" {
			fmt.Fprintf(out, "%s: %s\n", r.Name, r.Missing)
			said = true
		}
		if r.Key == Isthmus && r.Memory != nil && r.Memory.Connections < wanted {
			fmt.Fprintf(out, "Memory is that of %d idle connections; the aim speaks of %d.\n", r.Memory.Connections, wanted)
			said = true
		}
	}
	if said {
		fmt.Fprintln(out)
	}
}

// spread is what a row's rounds have for a line.
func (r *Row) spread(m *measure) string {
	// What was not measured is 0.
	return bench.Spread(slices.DeleteFunc(r.column(m), func(v float64) bool { return v == 0 }), m.digits)
}

// column is a row's figures for a line, one of each round.
func (r *Row) column(m *measure) (v []float64) {
	for i := range r.Rounds {
		v = append(v, m.of(&r.Rounds[i]))
	}
	return v
}
