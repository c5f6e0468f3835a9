package kernelpath

import (
	"strings"

	"aarch64.com/isthmus/perf/internal/bench"
)

// judge fills in the aims. Each covers all paths and columns that it names; paths
// that were not measured don't count.
func (t *Table) judge() {
	tcp, udp := []column{forward, reverse}, []column{flooded, lossless}
	for _, a := range []struct {
		what    string
		want    float64
		paths   []string
		columns []column
		base    string
	}{
		{"TCP with the fast path, to plain forwarding", 0.7, []string{Fast, FastNAT44}, tcp, Plain},
		{"TCP with the fast path at ingress, to plain forwarding", 0.9, []string{Ingress}, tcp, Plain},
		{"TCP in user space alone, to plain forwarding", 0.55, []string{User, UserNAT44}, tcp, Plain},
		{"TCP with the fast path, to TAYGA", 5, []string{Fast, FastNAT44, Ingress}, tcp, Tayga},
		{"TCP in user space alone, to TAYGA", 5, []string{User, UserNAT44}, tcp, Tayga},
		{"small packets with the fast path, to TAYGA", 2.4, []string{Fast, Ingress}, udp, Tayga},
		{"small packets with the fast path and NAT44, to TAYGA without", 2.4, []string{FastNAT44}, udp, Tayga},
	} {
		aim := bench.Aim{What: a.what, Want: a.want}
		for _, key := range a.paths {
			for _, c := range a.columns {
				if q, ok := t.ratio(c, key, a.base); ok {
					aim.Consider(q, c.name+", "+strings.TrimPrefix(t.row(key).Name, "isthmus, "))
				}
			}
		}
		t.Aims = append(t.Aims, aim)
	}
}
