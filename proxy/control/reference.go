package control

import (
	"cmp"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed reference.md
var introduction string

// Reference is docs/api.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(introduction)
	doc := newAPI(func() *Config { return &Config{} }, 0).huma.OpenAPI()
	b.WriteString("\n## All requests\n\nPaths are below `" + base + "`.\n")
	for _, tag := range doc.Tags {
		fmt.Fprintf(&b, "\n### %s\n\n%s.\n\n| request | meaning | body | answer |\n| --- | --- | --- | --- |\n", strings.ToUpper(tag.Name[:1])+tag.Name[1:], tag.Description)
		for _, op := range operations(doc, tag.Name) {
			fmt.Fprintf(&b, "| `%s %s` | %s | %s | %s |\n", op.Method, strings.TrimPrefix(op.Path, base)+query(op), sentence(op), link(bodyOf(op)), link(answerOf(op)))
		}
	}
	b.WriteString("\n## Values\n\nFields in italics may be left out.\n")
	schemas := doc.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		if strings.HasPrefix(name, "List") {
			continue // one like the other, see above
		}
		fmt.Fprintf(&b, "\n### %s\n\n| field | value | meaning |\n| --- | --- | --- |\n", name)
		for _, field := range slices.Sorted(maps.Keys(schemas[name].Properties)) {
			s, shown := schemas[name].Properties[field], "`"+field+"`"
			if !slices.Contains(schemas[name].Required, field) {
				shown = "*" + shown + "*"
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", shown, kind(s), cell(s.Description))
		}
	}
	return b.String()
}

// operations lists those of a tag, by path.
func operations(doc *huma.OpenAPI, tag string) (list []*huma.Operation) {
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete} {
			if op != nil && slices.Contains(op.Tags, tag) {
				list = append(list, op)
			}
		}
	}
	order := []string{"GET", "POST", "PUT", "DELETE"}
	slices.SortFunc(list, func(a, b *huma.Operation) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(slices.Index(order, a.Method), slices.Index(order, b.Method)))
	})
	return list
}

func query(op *huma.Operation) string {
	var names []string
	for _, p := range op.Parameters {
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "?" + strings.Join(names, "&")
}

func sentence(op *huma.Operation) string {
	return cell(strings.TrimSpace(op.Summary + ". " + op.Description))
}

func bodyOf(op *huma.Operation) *huma.Schema {
	if op.RequestBody == nil {
		return nil
	}
	return op.RequestBody.Content["application/json"].Schema
}

func answerOf(op *huma.Operation) *huma.Schema {
	for _, status := range []string{"200", "201"} {
		if r := op.Responses[status]; r != nil && r.Content["application/json"] != nil {
			return r.Content["application/json"].Schema
		}
	}
	return nil
}

// link leads to where a value is described.
func link(s *huma.Schema) string {
	if s == nil {
		return ""
	}
	name := nameOf(s)
	if of, ok := strings.CutPrefix(name, "List"); ok {
		return fmt.Sprintf("list of [%s](#%s)", of, strings.ToLower(of))
	}
	return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
}

func nameOf(s *huma.Schema) string { return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:] }

// kind says what a field's value is.
func kind(s *huma.Schema) string {
	switch {
	case s.Ref != "":
		return link(s)
	case s.Type == huma.TypeArray:
		return "list of " + kind(s.Items)
	case len(s.Enum) > 0:
		var list []string
		for _, v := range s.Enum {
			list = append(list, fmt.Sprintf("`%v`", v))
		}
		return strings.Join(list, ", ") + usual(s)
	case s.Format == "date-time":
		return "time (RFC 3339)"
	case s.Format == "ip":
		return "IPv6 address"
	case s.Type == "":
		return "anything"
	}
	return s.Type + usual(s)
}

func usual(s *huma.Schema) string {
	if s.Default == nil {
		return ""
	}
	if p, ok := s.Default.(*uint16); ok {
		return fmt.Sprintf("; %d", *p)
	}
	return fmt.Sprintf("; %v", s.Default)
}

// cell makes a text fit into a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "|", `\|`), "\n", " ")
}
