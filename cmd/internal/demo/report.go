package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Columns of the table; together with the margin they fill 79 of 80.
const (
	pairWidth = 16
	nameWidth = 19
	saidWidth = 30
	tookWidth = 8
)

// report writes what happens, as a table while it happens or as one JSON
// document at the end.
type report struct {
	out   io.Writer
	json  bool
	color bool
	start time.Time
	doc   document
}

// document is the output of `isthmus demo -o json`.
type document struct {
	OK           bool       `json:"ok"`
	Milliseconds float64    `json:"milliseconds"`
	Paths        []pathDone `json:"paths"`
}

type pathDone struct {
	Path              Path        `json:"path"`
	OK                bool        `json:"ok"`
	StartMilliseconds float64     `json:"start_milliseconds"` // until isthmus was ready
	Checks            []checkDone `json:"checks"`
	Log               []string    `json:"log,omitempty"` // isthmus's last lines, if a check failed
}

type checkDone struct {
	From         string   `json:"from"`
	To           string   `json:"to,omitempty"`
	Name         string   `json:"name"`
	OK           bool     `json:"ok"`
	Result       string   `json:"result,omitempty"`
	Addresses    []string `json:"addresses,omitempty"` // of the lines below the first
	Error        string   `json:"error,omitempty"`
	Milliseconds float64  `json:"milliseconds"`
}

func newReport(o Options) *report {
	return &report{out: o.Out, json: o.JSON, color: o.Color, start: time.Now(), doc: document{OK: true}}
}

func (r *report) printf(format string, args ...any) {
	if !r.json {
		fmt.Fprintf(r.out, format, args...)
	}
}

// Colours of ECMA-48, of which only a few are readable on any background.
const (
	bold, red, green, faint = "1", "31", "32", "2"
)

func (r *report) paint(code, text string) string {
	if !r.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

const picture = `
     IPv6 only                                          IPv4 only
  +-------------+      +-------------+      +-------------+     +--------------+
  | vm vm1 vm2  |------| hypervisor  |------|   router    |-----|    server    |
  | 2001:db8:   |      |   isthmus   |      | 203.0.113.2 |     | 198.51.100.2 |
  |   64:n::2   |      | 203.0.113.1 |      +-------------+     +--------------+
  +-------------+      +-------------+             | MTU 1400
  |  resolver   |--------+                  +-------------+     +--------------+
  |    DNS64    |                           |    edge     |-----|     far      |
  +-------------+                           | 198.51.     |     | 198.51.      |
                                            |     100.130 |     |      100.194 |
  VMs reach IPv4 hosts by 64:ff9b::a.b.c.d  +-------------+     +--------------+
`

func (r *report) intro() { r.printf("%s", picture) }

// begin writes the heading of a path.
func (r *report) begin(s *stage) {
	r.doc.Paths = append(r.doc.Paths, pathDone{Path: s.path, OK: true, StartMilliseconds: ms(s.isthmus.took)})
	note := "ready in " + short(s.isthmus.took)
	title := s.path.title()
	gap := max(2, 79-2-len(title)-len(note))
	r.printf("\n  %s%s%s\n\n", r.paint(bold, title), strings.Repeat(" ", gap), r.paint(faint, note))
}

// row writes one check.
func (r *report) row(c Check, res result) {
	p := &r.doc.Paths[len(r.doc.Paths)-1]
	lines := strings.Split(res.Said, "\n")
	done := checkDone{From: c.From, To: c.To, Name: c.Name, OK: res.Err == nil, Result: lines[0], Milliseconds: ms(res.Took)}
	for _, h := range lines[1:] {
		done.Addresses = append(done.Addresses, h[strings.LastIndexByte(h, ' ')+1:])
	}
	mark := r.paint(green, "ok  ")
	if res.Err != nil {
		mark = r.paint(red, "FAIL")
		done.Error = res.Err.Error()
		p.OK, r.doc.OK = false, false
	}
	p.Checks = append(p.Checks, done)

	pair := c.From
	if c.To != "" {
		pair += " > " + c.To
	}
	r.printf("  %s%-*s%-*s%-*s%*s\n", mark, pairWidth, "  "+pair, nameWidth, c.Name, saidWidth, lines[0], tookWidth, short(res.Took))
	indent := strings.Repeat(" ", 2+4+pairWidth+nameWidth)
	for _, h := range lines[1:] {
		r.printf("%s%s\n", indent, r.paint(faint, h))
	}
	if res.Err != nil {
		for _, l := range wrap(res.Err.Error(), 79-8) {
			r.printf("        %s\n", r.paint(red, l))
		}
	}
}

// end shows what isthmus said if a check of the path failed.
func (r *report) end(s *stage) {
	p := &r.doc.Paths[len(r.doc.Paths)-1]
	if p.OK {
		return
	}
	p.Log = s.isthmus.log.lines()
	r.printf("\n  The last lines of isthmus's log:\n")
	for _, entry := range p.Log {
		for i, l := range wrap(entry, 79-8) {
			r.printf("    %s%s\n", []string{"", "    "}[min(i, 1)], l)
		}
	}
}

func (r *report) counts() (failed, all int) {
	for _, p := range r.doc.Paths {
		for _, c := range p.Checks {
			all++
			if !c.OK {
				failed++
			}
		}
	}
	return failed, all
}

// finish writes the last line, or the JSON document.
func (r *report) finish() error {
	took := time.Since(r.start)
	if r.json {
		r.doc.Milliseconds = ms(took)
		e := json.NewEncoder(r.out)
		e.SetIndent("", "  ")
		return e.Encode(r.doc)
	}
	if failed, all := r.counts(); failed == 0 {
		r.printf("\n  %s in %s.\n", r.paint(green, fmt.Sprintf("All %d checks hold", all)), short(took))
	}
	return nil
}

// verdict is the error that the whole run ends with.
func (r *report) verdict() error {
	if failed, all := r.counts(); failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, all)
	}
	return nil
}

// wrap breaks text at spaces into lines of at most width bytes; lines that are
// there stay.
func wrap(text string, width int) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		for len(line) > width {
			cut := strings.LastIndexByte(line[:width+1], ' ')
			if cut <= 0 {
				cut = width
			}
			out = append(out, line[:cut])
			line = strings.TrimPrefix(line[cut:], " ")
		}
		out = append(out, line)
	}
	return out
}

func ms(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

// short is a duration with two or three digits.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", ms(d))
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", ms(d))
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}
