package routesync

import (
	"fmt"
	"io"
	"text/tabwriter"

	"aarch64.com/isthmus/perf/internal/bench"
)

// aim is how long the slowest node may take, in seconds.
const aim = 1

// judge fills in the aims.
func (t *Table) judge() {
	a := bench.Aim{What: "99th percentile of a change until the slowest node serves it, s", Want: aim, AtMost: true}
	if len(t.Lags) > 0 {
		a.Consider(percentile(t.Lags, 99), fmt.Sprintf("%d changes", len(t.Lags)))
	}
	t.Aims = append(t.Aims, a)
}

// Print writes the table for people.
func (t *Table) Print(out io.Writer) error {
	fmt.Fprintf(out, "Linux %s, etcd %s with %d members, %d nodes, %d routes, load", t.Kernel, t.Etcd, t.Members, t.Nodes, t.Routes)
	for _, l := range t.Load {
		fmt.Fprintf(out, " %.1f", l)
	}
	fmt.Fprintf(out, ".\nAll share this machine. Filling the store took %.1f s.\n\n", t.Fill)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "milliseconds\tmedian\t90 %\t99 %\tworst\t")
	for _, l := range []struct {
		name string
		v    []float64
	}{{"the API answers", t.Answers}, {"then the slowest node serves it", t.Lags}} {
		fmt.Fprint(w, l.name)
		for _, p := range []float64{50, 90, 99, 100} {
			fmt.Fprintf(w, "\t%.1f", 1e3*percentile(l.v, p))
		}
		fmt.Fprintln(w, "\t")
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if n := float64(len(t.Lags)); n > 0 {
		fmt.Fprintf(out, "\nCPU for a change: %.1f ms on each node, with the API and the visitors who ask;\n%.1f ms of all members of etcd together.\n", 1e3*t.NodeCPU/n, 1e3*t.EtcdCPU/n)
	}
	if s := t.Watchers; s != nil {
		fmt.Fprintf(out, "\n%d simulated nodes on one member: all are told of a change after %.0f ms (median\nof %d; worst %.0f). Each costs the member %.1f µs of CPU for a change, %.4f %% of a CPU\nwhile nothing changes, and %.0f KB.\n",
			s.N, 1e3*s.Last, s.Changes, 1e3*s.Worst, 1e6*s.Change, 100*s.Idle, s.Memory/1e3)
	}
	fmt.Fprintln(out)
	for _, a := range t.Aims {
		fmt.Fprintln(out, a)
	}
	return nil
}
