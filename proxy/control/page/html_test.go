package page

import (
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

func (r *reply) parse() *html.Node {
	r.t.Helper()
	doc, err := html.Parse(strings.NewReader(r.text))
	must(r.t, err)
	return doc
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if p := d.Parent; d.Type == html.TextNode && p.DataAtom != atom.Script && p.DataAtom != atom.Noscript {
			b.WriteString(d.Data)
		}
		if d.DataAtom == atom.Td || d.DataAtom == atom.Th || d.DataAtom == atom.P || d.DataAtom == atom.Dd {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func attr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func has(n *html.Node, name string) bool { _, ok := attr(n, name); return ok }

func value(n *html.Node, name string) string { v, _ := attr(n, name); return v }

// formOf is what a browser would send with the form of a page that goes to path.
func formOf(r *reply, path string) url.Values {
	r.t.Helper()
	for n := range r.parse().Descendants() {
		if n.DataAtom != atom.Form || value(n, "action") != path || value(n, "method") != "post" {
			continue
		}
		v := url.Values{}
		for f := range n.Descendants() {
			switch name := value(f, "name"); f.DataAtom {
			case atom.Input:
				if t := value(f, "type"); (t == "radio" || t == "checkbox") && !has(f, "checked") {
					continue
				}
				v.Add(name, value(f, "value"))
			case atom.Textarea:
				v.Add(name, strings.TrimPrefix(textOf(f), "\n"))
			case atom.Select:
				for o := range f.Descendants() {
					if o.DataAtom == atom.Option && has(o, "selected") {
						v.Add(name, value(o, "value"))
					}
				}
			}
		}
		return v
	}
	r.t.Fatalf("%s has no form to %s:\n%s", r.Request.URL, path, r.text)
	return nil
}

// checkHTML holds a page against what people need who don't see it, or have no
// mouse, and against what the policy forbids.
func (r *reply) checkHTML() {
	r.t.Helper()
	bad := func(format string, args ...any) {
		r.t.Helper()
		r.t.Errorf(r.Request.Method+" "+r.Request.URL.String()+": "+format, args...)
	}
	doc := r.parse()
	ids, labelled := map[string]int{}, map[string]bool{}
	for n := range doc.Descendants() {
		if id, ok := attr(n, "id"); ok {
			ids[id]++
		}
		if n.DataAtom == atom.Label && has(n, "for") {
			labelled[value(n, "for")] = strings.TrimSpace(textOf(n)) != ""
		}
	}
	heading, mains, focused := 0, 0, 0
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.HasPrefix(strings.TrimSpace(a.Val), "javascript:") {
				bad("<%s %s=%q> is against the policy", n.Data, a.Key, a.Val)
			}
			if a.Key == "aria-describedby" || a.Key == "aria-labelledby" {
				for id := range strings.FieldsSeq(a.Val) {
					if ids[id] != 1 {
						bad("%s=%q: there is no %s", a.Key, a.Val, id)
					}
				}
			}
		}
		if has(n, "autofocus") {
			focused++
		}
		text := strings.TrimSpace(textOf(n))
		switch n.DataAtom {
		case atom.Html:
			if value(n, "lang") != "en" {
				bad("no language")
			}
		case atom.Title:
			if text == "" || strings.HasPrefix(text, "·") {
				bad("no title")
			}
		case atom.Main:
			mains++
		case atom.H1, atom.H2, atom.H3, atom.H4:
			level := int(n.Data[1] - '0')
			if level > heading+1 || level == 1 && heading > 0 || text == "" {
				bad("<%s>%s comes after <h%d>", n.Data, text, heading)
			}
			heading = level
		case atom.Input, atom.Textarea, atom.Select:
			if value(n, "type") == "hidden" {
				break
			}
			inside := false
			for p := range n.Ancestors() {
				inside = inside || p.DataAtom == atom.Label
			}
			if !inside && !labelled[value(n, "id")] {
				bad("field %q has no label", value(n, "name"))
			}
			if value(n, "aria-invalid") == "true" && !has(n, "aria-describedby") {
				bad("field %q does not say what is wrong", value(n, "name"))
			}
		case atom.Fieldset:
			if c := n.FirstChild; c == nil || c.DataAtom != atom.Legend {
				bad("a fieldset without a legend")
			}
		case atom.Button, atom.A:
			if text == "" && value(n, "aria-label") == "" {
				bad("a <%s> without words", n.Data)
			}
			if n.DataAtom == atom.A && value(n, "href") == "" {
				bad("a link to nowhere: %s", text)
			}
		case atom.Img:
			if !has(n, "alt") {
				bad("a picture without alt")
			}
		case atom.Svg:
			if value(n, "aria-hidden") != "true" {
				bad("a drawing that is read out")
			}
		case atom.Script, atom.Link:
			from := value(n, "src") + value(n, "href")
			if !strings.HasPrefix(from, "/static/") || text != "" {
				bad("<%s> from %q", n.Data, from)
			}
		case atom.Style, atom.Iframe, atom.Object, atom.Embed, atom.Base:
			bad("there is a <%s>", n.Data)
		case atom.Th:
			if !slices.Contains([]string{"col", "row"}, value(n, "scope")) {
				bad("a heading of a table for nothing")
			}
		case atom.Form:
			if value(n, "method") == "post" && value(n, "action") != "/sign-in" && !hasField(n, "csrf") {
				bad("form to %s without the session's word", value(n, "action"))
			}
		}
	}
	for id, n := range ids {
		if n != 1 || strings.ContainsAny(id, " \t\n") {
			bad("id %q comes %d times", id, n)
		}
	}
	if heading == 0 || mains != 1 || focused > 1 {
		bad("heading %d, %d <main>, %d times autofocus", heading, mains, focused)
	}
}

func hasField(form *html.Node, name string) bool {
	for n := range form.Descendants() {
		if n.DataAtom == atom.Input && value(n, "name") == name && value(n, "value") != "" {
			return true
		}
	}
	return false
}
