package kernelpath

import (
	"fmt"
	"strings"
)

// Aim is a ratio that the kernel path is meant to reach, and what came of it.
type Aim struct {
	What string  `json:"what"`
	Want float64 `json:"want"`
	// Got is the worst of the figures that the aim covers, which Where names.
	Got   float64 `json:"got"`
	Where string  `json:"where,omitempty"`
	Met   bool    `json:"met"`
}

func (a Aim) String() string {
	switch {
	case a.Where == "":
		return fmt.Sprintf("unknown  %s: at least %.2f; not measured", a.What, a.Want)
	case a.Met:
		return fmt.Sprintf("met      %s: at least %.2f; %.2f (%s)", a.What, a.Want, a.Got, a.Where)
	}
	return fmt.Sprintf("missed   %s: at least %.2f; %.2f (%s)", a.What, a.Want, a.Got, a.Where)
}

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
		aim := Aim{What: a.what, Want: a.want}
		for _, key := range a.paths {
			for _, c := range a.columns {
				q, ok := t.ratio(c, key, a.base)
				if !ok || (aim.Where != "" && q >= aim.Got) {
					continue
				}
				aim.Got, aim.Where = q, c.name+", "+strings.TrimPrefix(t.row(key).Name, "isthmus, ")
			}
		}
		aim.Met = aim.Where != "" && aim.Got >= aim.Want
		t.Aims = append(t.Aims, aim)
	}
}
