package hosts

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// Report is what one run has found out.
type Report struct {
	Prefix  netip.Prefix `json:"prefix"`
	Source  string       `json:"prefix_source"`
	Results []Result     `json:"names"`
	// Kept are lines of the block that stay because no name server knew.
	Kept  []string `json:"kept,omitempty"`
	Lines []string `json:"lines"` // of /etc/hosts
	// File has these lines now; "" if none has. Changed is whether it had to be
	// written for that.
	File    string   `json:"file,omitempty"`
	Changed bool     `json:"changed"`
	Error   string   `json:"error,omitempty"` // what standard error says last
	Hints   []string `json:"hints,omitempty"`
}

// NewReport puts the lines together. entries are those of the file now: where no
// name server knew a name, its lines stay, as a fault must not make it worse.
func NewReport(d *Discovery, results []Result, entries []Entry) *Report {
	r := &Report{Prefix: d.Pref64.Prefix(), Source: d.Source, Results: results, Lines: []string{}}
	for _, n := range results {
		r.Lines = append(r.Lines, n.Lines()...)
		for _, e := range entries {
			if !slices.Contains(e.Names, n.Name) {
				continue
			}
			switch {
			case e.Ours && (n.Status == LookupFail || n.Status == FromFile):
				line := e.Addr.String() + " " + n.Name
				r.Lines, r.Kept = append(r.Lines, line), append(r.Kept, line)
			case !e.Ours && n.Status == Found:
				r.Hints = append(r.Hints, fmt.Sprintf("line %d of the file says %v for %s, too, outside the block", e.Line, e.Addr, n.Name))
			}
		}
	}
	return r
}

// Unreachable tells that addresses were made, and none of them answered: then it
// is the NAT64 that is away, and not all those hosts.
func (r *Report) Unreachable() bool {
	tried := false
	for _, n := range r.Results {
		if n.Status == Found {
			return false
		}
		tried = tried || n.Status == NoAnswer
	}
	return tried
}

// Failed are the names that make the run a failure.
func (r *Report) Failed() (names []string) {
	for _, n := range r.Results {
		if n.Failed() {
			names = append(names, n.Name)
		}
	}
	return names
}

// Explain writes what there is to say besides the lines.
func (r *Report) Explain(out io.Writer) {
	fmt.Fprintf(out, "prefix %v, by %s\n", r.Prefix, r.Source)
	for _, n := range r.Results {
		if text := n.explain(); text != "" {
			fmt.Fprintf(out, "%s: %s\n", n.Name, text)
		}
		if n.Status == NoAnswer || n.Status == Found || n.Status == NoIPv4 {
			for _, a := range n.Addresses {
				if a.Refused == "" {
					continue
				}
				about := a.IPv4.String()
				if a.IPv6.IsValid() {
					about = a.IPv6.String()
				}
				fmt.Fprintf(out, "%s: %s is left out: %s\n", n.Name, about, a.Refused)
			}
		}
	}
	for _, k := range r.Kept {
		fmt.Fprintf(out, "kept from the file: %s\n", k)
	}
	for _, h := range r.Hints {
		fmt.Fprintln(out, h)
	}
}

func (n Result) explain() string {
	text := map[Status]string{
		HasIPv6:    "has IPv6 of its own (" + addressList(n.IPv6) + "), so it needs no line",
		Wildcard:   "/etc/hosts holds no wildcards; find the names that are in use with --from-log",
		NoName:     "there is no such name",
		NoIPv4:     "has no IPv4 address that can be translated",
		NoAnswer:   "none of its addresses answers",
		FromFile:   "is not known to the name server",
		LookupFail: "could not be looked up",
	}[n.Status]
	if n.Note == "" {
		return text
	}
	return strings.TrimPrefix(text+": "+n.Note, ": ")
}

func addressList(list []netip.Addr) string {
	var s []string
	for _, a := range list {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}
