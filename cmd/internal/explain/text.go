package explain

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// The page: 80 columns, names in a column of their own.
const (
	width = 79
	names = 18 // a step's or field's name, indentation included
	half  = (width - names - 2) / 2
)

// Colours of ECMA-48, readable on any background.
const (
	bold, red, green, faint = "1", "31", "32", "2"
)

type page struct {
	out   strings.Builder
	color bool
}

func (p *page) paint(code, text string) string {
	if !p.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Print writes the report for people.
func (r *Report) Print(out io.Writer, color bool) error {
	p := &page{color: color}
	p.intro(r)
	p.head("What the translator sees, and why")
	for _, s := range r.Steps {
		code := ""
		if s.Verdict != "" && r.Verdict.Action != "forward" && r.Verdict.Action != "split" {
			code = red
		}
		p.row("  "+s.Topic, s.Text, s.Section, code)
	}
	p.verdict(r)
	switch {
	case r.After != nil:
		p.table("before", "after", r.Before.Fields, r.After.Fields)
	case r.Error != nil:
		p.table("the packet", "the ICMP error that answers", r.Before.Fields, r.Error.Fields)
	default:
		p.table("the packet", "", r.Before.Fields, nil)
	}
	p.fragments(r)
	_, err := io.WriteString(out, p.out.String())
	return err
}

func (p *page) intro(r *Report) {
	p.row("packet", fmt.Sprintf("%s, %d bytes", r.Source, r.Before.Length), "", bold)
	for _, n := range r.Notes {
		p.row("", n, "", "")
	}
	p.row("configuration", r.Config, "", "")
	if r.Port != "" {
		p.row("comes in by", r.Port, "", "")
	}
	mtu := func(n int) string {
		if n <= 0 {
			return "not known"
		}
		return fmt.Sprint(n)
	}
	p.row("MTU", fmt.Sprintf("in %s, out %s", mtu(r.MTUIn), mtu(r.MTUOut)), "", "")
}

func (p *page) verdict(r *Report) {
	code := red
	switch r.Verdict.Action {
	case "forward", "split":
		code = green
	case "pass":
		code = ""
	}
	what := map[string]string{
		"forward": "forwarded", "split": "forwarded in fragments", "drop": "dropped, and nobody is told",
		"answer": "dropped, and its sender gets an ICMP error", "pass": "left to the kernel as it came",
	}[r.Verdict.Action]
	if r.Verdict.Action == "answer" && r.Error == nil {
		what = "dropped; the ICMP error that is due may not be sent about such a packet"
	}
	p.head("What becomes of it")
	p.row("  verdict", r.Verdict.Label+": "+what, "", code)
	p.row("", r.Verdict.Doc, r.Verdict.Section, "")
	for i, c := range r.Counters {
		name := ""
		if i == 0 {
			name = "  counted in"
		}
		sample := c.Sample
		if c.Add > 1 {
			sample += fmt.Sprintf(" +%d", c.Add)
		}
		p.row(name, strings.ReplaceAll(sample, ",", ", "), "", "")
	}
}

func (p *page) fragments(r *Report) {
	if len(r.Fragments) == 0 {
		return
	}
	p.head("The fragments")
	for i, f := range r.Fragments {
		about := []string{fmt.Sprintf("%d bytes", f.Length)}
		for _, field := range f.Fields {
			if slices.Contains([]string{"identification", "offset", "flags"}, field.Name) {
				about = append(about, field.Name+" "+field.Value)
			}
		}
		p.row(fmt.Sprintf("  %d", i+1), strings.Join(about, ", "), "", "")
	}
}

func (p *page) head(title string) { fmt.Fprintf(&p.out, "\n%s\n", p.paint(bold, title)) }

// row writes a name and a text that wraps, with the rule's source behind it.
func (p *page) row(name, text, section, code string) {
	lines := wrap(text, width-names)
	for i, l := range lines {
		lines[i] = p.paint(code, l)
		if section == "" || i < len(lines)-1 {
			continue
		}
		mark := "[" + section + "]"
		if len(l)+1+len(mark) <= width-names {
			lines[i] += " " + p.paint(faint, mark)
		} else {
			lines = append(lines, p.paint(faint, mark))
		}
	}
	for i, l := range lines {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(&p.out, "%s\n", strings.TrimRight(fmt.Sprintf("%-*s%s", names, name, l), " "))
	}
}

// table writes the fields of two packets side by side; "=" says that one stays.
func (p *page) table(left, right string, a, b []Field) {
	fmt.Fprintf(&p.out, "\n%s\n", p.paint(bold, strings.TrimRight(fmt.Sprintf("%-*s%-*s%s", names, "Field by field", half+2, left, right), " ")))
	for _, pair := range pairs(a, b) {
		if right == "" {
			p.row("  "+pair.name, pair.a, "", "")
			continue
		}
		l, r := wrap(pair.a, half), wrap(pair.b, half)
		if pair.a == pair.b {
			r = []string{p.paint(faint, "=")}
		}
		for i := range max(len(l), len(r)) {
			name, x, y := "", "", ""
			if i == 0 {
				name = "  " + pair.name
			}
			if i < len(l) {
				x = l[i]
			}
			if i < len(r) {
				y = r[i]
			}
			fmt.Fprintf(&p.out, "%s\n", strings.TrimRight(fmt.Sprintf("%-*s%-*s%s", names, name, half+2, x, y), " "))
		}
	}
}

type pair struct{ name, a, b string }

// pairs brings the fields of two packets together by name, in the order of both.
func pairs(a, b []Field) []pair {
	var out []pair
	has := func(list []Field, name string) int {
		return slices.IndexFunc(list, func(f Field) bool { return f.Name == name })
	}
	next := 0
	for _, f := range a {
		i := has(b, f.Name)
		if i < next {
			out = append(out, pair{f.Name, f.Value, ""})
			continue
		}
		for ; next < i; next++ {
			out = append(out, pair{b[next].Name, "", b[next].Value})
		}
		out = append(out, pair{f.Name, f.Value, b[i].Value})
		next++
	}
	for ; next < len(b); next++ {
		out = append(out, pair{b[next].Name, "", b[next].Value})
	}
	return out
}

// wrap breaks a text at spaces, and what has none behind a colon.
func wrap(text string, width int) []string {
	var lines []string
	for len(text) > width {
		at := strings.LastIndexByte(text[:width+1], ' ')
		if at <= 0 {
			at = strings.LastIndexAny(text[:width], ":,.") + 1
		}
		if at <= 0 {
			at = width
		}
		lines = append(lines, strings.TrimRight(text[:at], " "))
		text = strings.TrimLeft(text[at:], " ")
	}
	return append(lines, text)
}
