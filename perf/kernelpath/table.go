package kernelpath

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"aarch64.com/isthmus/perf/internal/bench"
)

// Sample is what one round measured on one path.
type Sample struct {
	Forward  float64 `json:"tcp_forward_bps"` // TCP payload from the VM to the server, bit/s
	Reverse  float64 `json:"tcp_reverse_bps"` // and the other way
	Flood    Flood   `json:"flood"`           // small packets as fast as they could be sent
	Lossless float64 `json:"lossless_pps"`    // the highest rate that arrived without loss, packets/s
}

// Row is one path.
type Row struct {
	Key     string   `json:"key"`
	Name    string   `json:"name"`
	Missing string   `json:"missing,omitempty"` // why it was not measured
	Rounds  []Sample `json:"rounds"`
}

// Table is what a run found.
type Table struct {
	Kernel string      `json:"kernel"`
	CPUs   int         `json:"cpus"`
	Load   []float64   `json:"load"` // one-minute averages, before the run and after each round
	Rows   []Row       `json:"rows"`
	Aims   []bench.Aim `json:"aims"`
}

// column is one of the four figures of a Sample.
type column struct {
	name string
	of   func(Sample) float64
}

var (
	forward  = column{"TCP forward", func(s Sample) float64 { return s.Forward }}
	reverse  = column{"TCP reverse", func(s Sample) float64 { return s.Reverse }}
	flooded  = column{"UDP flood", func(s Sample) float64 { return s.Flood.Delivered }}
	lossless = column{"UDP without loss", func(s Sample) float64 { return s.Lossless }}
)

func (t *Table) row(key string) *Row {
	for i := range t.Rows {
		if t.Rows[i].Key == key {
			return &t.Rows[i]
		}
	}
	return nil
}

// best is the highest of a row's figures, 0 if there are none.
func (r *Row) best(c column) (v float64) {
	for _, s := range r.Rounds {
		v = max(v, c.of(s))
	}
	return v
}

// ratio is one path's best round divided by another's, and false where there is none.
func (t *Table) ratio(c column, key, base string) (float64, bool) {
	r, b := t.row(key), t.row(base)
	if r == nil || b == nil || r.Missing != "" || b.Missing != "" || b.best(c) <= 0 {
		return 0, false
	}
	return r.best(c) / b.best(c), true
}

// Print writes the table for people.
func (t *Table) Print(out io.Writer) error {
	loads := make([]string, len(t.Load))
	for i, l := range t.Load {
		loads[i] = fmt.Sprintf("%.1f", l)
	}
	fmt.Fprintf(out, "Linux %s, %d CPUs, load %s. Figures are min/median/max of the rounds,\n", t.Kernel, t.CPUs, strings.Join(loads, " "))
	fmt.Fprintf(out, "ratios those of the best rounds. TCP: one stream, Gbit/s. UDP: %d bytes of payload, Mpps.\n\n", payload)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\tTCP forward\tto plain\tTCP reverse\tto plain\tUDP flood\tloss\tto plain\tto TAYGA\tUDP no loss\tto plain\tto TAYGA")
	for i := range t.Rows {
		r := &t.Rows[i]
		if r.Missing != "" {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name,
			r.spread(forward, 1e9, 1), t.show(forward, r.Key, Plain),
			r.spread(reverse, 1e9, 1), t.show(reverse, r.Key, Plain),
			r.spread(flooded, 1e6, 2), r.loss(), t.show(flooded, r.Key, Plain), t.show(flooded, r.Key, Tayga),
			r.spread(lossless, 1e6, 2), t.show(lossless, r.Key, Plain), t.show(lossless, r.Key, Tayga))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range t.Rows {
		if r := &t.Rows[i]; r.Missing != "" {
			fmt.Fprintf(out, "%s: %s\n", r.Name, r.Missing)
		}
	}
	fmt.Fprintln(out)
	for _, a := range t.Aims {
		if _, err := fmt.Fprintln(out, a); err != nil {
			return err
		}
	}
	return nil
}

// spread is min/median/max in the unit.
func (r *Row) spread(c column, unit float64, digits int) string {
	var v []float64
	for _, s := range r.Rounds {
		v = append(v, c.of(s)/unit)
	}
	return bench.Spread(v, digits)
}

// loss of the flood, median.
func (r *Row) loss() string {
	var v []float64
	for _, s := range r.Rounds {
		v = append(v, s.Flood.Loss())
	}
	return fmt.Sprintf("%.1f %%", math.Abs(bench.Median(v))*100)
}

func (t *Table) show(c column, key, base string) string {
	q, ok := t.ratio(c, key, base)
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%.2f", q)
}
