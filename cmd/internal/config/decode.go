package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// decoder fills a Config from a tree, by the table in keys.go.
type decoder struct {
	*report
	config *Config
}

// document decodes every section, in the order of the table.
func (d *decoder) document(root *node) {
	for i := range language {
		s := &language[i]
		switch tables, ok := d.tables(root, s); {
		case !ok:
			// Reported; its keys would only add noise.
		case s.many:
			for j, t := range tables {
				s.enter(d.config)
				d.section(s, t, fmt.Sprintf("%s[%d]", s.path, j))
			}
		case len(tables) == 0:
			d.section(s, &node{kind: unstable.InlineTable}, s.path)
		default:
			d.section(s, tables[0], s.path)
		}
	}
}

// tables finds the tables of a section; ok is false when something else stands
// in their place, which is reported.
func (d *decoder) tables(root *node, s *section) (tables []*node, ok bool) {
	if s.path == "" {
		return []*node{root}, true
	}
	t := root
	parts := strings.Split(s.path, ".")
	for i, part := range parts {
		if t.kind != unstable.InlineTable {
			return nil, false // reported with the outer section
		}
		m := t.find(part)
		if m == nil {
			return nil, true
		}
		t = m.node
		if i == len(parts)-1 {
			return d.tablesAt(s, m)
		}
	}
	return nil, true
}

func (d *decoder) tablesAt(s *section, m *member) ([]*node, bool) {
	switch {
	case s.many && m.node.kind == unstable.Array:
		for _, item := range m.node.items {
			if item.kind != unstable.InlineTable {
				d.add(item.off, s.path, "not a table", "write "+s.header()+" and its keys below")
				return nil, false
			}
		}
		return m.node.items, true
	case !s.many && m.node.kind == unstable.InlineTable:
		return []*node{m.node}, true
	case m.node.kind == unstable.InlineTable:
		d.add(m.off, s.path, "this section may come several times", "write "+s.header()+" with two brackets")
	case m.node.kind == unstable.Array && m.node.header:
		d.add(m.off, s.path, "this section comes only once", "write "+s.header()+" with one bracket")
	default:
		d.add(m.off, s.path, "this is a section, not a key", "write "+s.header()+" and its keys below")
	}
	return nil, false
}

// section decodes the keys of one table: known ones, defaults for those that
// are not there, and an error for each unknown one.
func (d *decoder) section(s *section, t *node, path string) {
	for i := range s.keys {
		k := &s.keys[i]
		full := joinKey(path, k.name)
		switch m := t.find(k.name); {
		case m != nil:
			k.set(d.config, value{d: d, key: full, node: m.node})
		case k.required:
			d.add(t.off, full, "missing", "add "+k.name+" = "+k.example)
		default:
			k.set(d.config, value{d: d, key: full, node: k.defaultNode()})
		}
	}
	for _, m := range t.members {
		if s.key(m.name) == nil && !isSection(s.fullName(m.name)) {
			d.unknown(s, m, joinKey(path, m.name))
		}
	}
}

// key finds a key of the section by name.
func (s *section) key(name string) *key {
	for i := range s.keys {
		if s.keys[i].name == name {
			return &s.keys[i]
		}
	}
	return nil
}

// isSection tells whether a section has this path, or is inside it.
func isSection(path string) bool {
	for i := range language {
		if p := language[i].path; p == path || strings.HasPrefix(p, path+".") {
			return true
		}
	}
	return false
}

// unknown reports a key or section that the language does not have.
func (d *decoder) unknown(s *section, m member, full string) {
	if m.node.header {
		remedy := "remove it; there are " + strings.Join(headers(), ", ")
		if h := nearestSection(s.fullName(m.name)); h != "" {
			remedy = "did you mean " + h + "?"
		}
		d.add(m.off, full, "unknown section", remedy)
		return
	}
	var names []string
	for _, k := range s.keys {
		names = append(names, k.name)
	}
	remedy := "remove it"
	switch near := nearest(m.name, names); {
	case near != "":
		remedy = "did you mean " + near + "?"
	default:
		if home := homeOf(m.name); home != "" {
			remedy = "it belongs " + home
		} else if len(names) > 0 {
			remedy = "remove it; this section has " + strings.Join(names, ", ")
		}
	}
	d.add(m.off, full, "unknown key", remedy)
}

// homeOf says where a key of this name is known, or "".
func homeOf(name string) string {
	for i := range language {
		if s := &language[i]; s.key(name) != nil {
			if s.path == "" {
				return "at the top of the file, before the first section"
			}
			return "below " + s.header()
		}
	}
	return ""
}

func headers() []string {
	var list []string
	for i := range language {
		if language[i].path != "" {
			list = append(list, language[i].header())
		}
	}
	return list
}

func nearestSection(path string) string {
	var paths []string
	for i := range language {
		paths = append(paths, language[i].path)
	}
	near := nearest(path, paths)
	for i := range language {
		if near != "" && language[i].path == near {
			return language[i].header()
		}
	}
	return ""
}

// nearest is the candidate that name is probably a slip of, or "".
func nearest(name string, candidates []string) string {
	best, distance := "", 1+max(1, len(name)/3)
	for _, c := range candidates {
		if n := editDistance(strings.ToLower(name), c); c != "" && n < distance {
			best, distance = c, n
		}
	}
	return best
}

// editDistance counts the bytes to insert, remove or replace (Levenshtein).
func editDistance(a, b string) int {
	const long = 64 // no key of ours is near that
	if len(a) > long || len(b) > long {
		return long
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// joinKey writes a key below a path, quoted where it is not a bare key.
func joinKey(path, name string) string {
	bare := name != ""
	for _, r := range name {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_') {
			bare = false
		}
	}
	if !bare {
		name = strconv.Quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
