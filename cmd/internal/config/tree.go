package config

import (
	"bytes"
	"errors"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A node is a value of the file with its place. go-toml's decoder gives places
// for syntax errors and unknown keys only, not for a value that turns out to be
// wrong later; hence this small tree over its parser.
type node struct {
	kind    unstable.Kind // String, Integer, Float, Bool, dates, Array, or InlineTable for any table
	off     int           // of the value; of the key for arrays and tables
	text    string        // scalars: the value as written, strings without quotes
	items   []*node       // Array
	members []member      // tables, in the order of the file
	index   map[string]int
	header  bool // a [table] or [[table]], not a value behind "="
}

type member struct {
	name string
	off  int // of the key
	node *node
}

// find returns the member called name, or nil.
func (n *node) find(name string) *member {
	if n.index != nil {
		if i, ok := n.index[name]; ok {
			return &n.members[i]
		}
		return nil
	}
	for i := range n.members {
		if n.members[i].name == name {
			return &n.members[i]
		}
	}
	return nil
}

// add appends a member. Large tables get an index, so that a hostile file
// costs no more than its size.
func (n *node) add(m member) *member {
	n.members = append(n.members, m)
	if len(n.members) > 16 {
		if n.index == nil {
			n.index = make(map[string]int)
			for i, m := range n.members {
				n.index[m.name] = i
			}
		}
		n.index[m.name] = len(n.members) - 1
	}
	return &n.members[len(n.members)-1]
}

// parseTree reads data, or reports its syntax error and returns nil.
func parseTree(rep *report, data []byte) *node {
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		rep.add(0, "", "the file starts with a byte order mark", "save it as plain UTF-8")
		return nil
	}
	// The decoder, with nowhere to put the values, checks syntax and that
	// nothing is defined twice.
	if err := toml.Unmarshal(data, &struct{}{}); err != nil {
		syntaxError(rep, err)
		return nil
	}
	b := builder{root: &node{kind: unstable.InlineTable}}
	b.table = b.root
	b.parser.Reset(data)
	for b.parser.NextExpression() {
		b.expression(b.parser.Expression())
	}
	if err := b.parser.Error(); err != nil {
		syntaxError(rep, err)
		return nil
	}
	return b.root
}

func syntaxError(rep *report, err error) {
	var at *toml.DecodeError
	if !errors.As(err, &at) {
		rep.add(0, "", strings.TrimPrefix(err.Error(), "toml: "), "")
		return
	}
	line, column := at.Position()
	problem := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?' // a key's name can hold anything, and this goes to a terminal
	}, strings.TrimPrefix(at.Error(), "toml: "))
	remedy := "correct the TOML syntax"
	switch {
	case strings.Contains(problem, "already defined"), strings.Contains(problem, "already exists"):
		remedy = "keep one of them"
	case strings.HasSuffix(problem, "at start of value"):
		remedy = "correct the TOML syntax (strings need quotes)"
	}
	rep.addAt(line, column, "", problem, remedy)
}

// builder turns the parser's expressions into the tree.
type builder struct {
	parser unstable.Parser
	root   *node
	table  *node // the [table] that key = value lines belong to
}

func (b *builder) expression(e *unstable.Node) {
	switch e.Kind {
	case unstable.KeyValue:
		b.keyValue(b.table, e)
	case unstable.Table:
		parent, last := b.walk(b.root, e.Key())
		m := parent.find(last.name)
		if m == nil {
			m = parent.add(member{name: last.name, off: last.off, node: &node{kind: unstable.InlineTable, off: last.off}})
		}
		b.table = lastTable(m.node)
		b.table.header = true
	case unstable.ArrayTable:
		parent, last := b.walk(b.root, e.Key())
		m := parent.find(last.name)
		if m == nil {
			m = parent.add(member{name: last.name, off: last.off, node: &node{kind: unstable.Array, off: last.off, header: true}})
		}
		b.table = &node{kind: unstable.InlineTable, off: last.off, header: true}
		m.node.items = append(m.node.items, b.table)
	}
}

// keyValue adds "a.b = value" below the table t.
func (b *builder) keyValue(t *node, e *unstable.Node) {
	parent, last := b.walk(t, e.Key())
	last.node = b.value(e.Value(), last.off)
	parent.add(last)
}

// walk follows all parts of a dotted key but the last, making tables on the
// way, and returns the table it ends in and the last part.
func (b *builder) walk(t *node, keys unstable.Iterator) (*node, member) {
	for keys.Next() {
		k := keys.Node()
		name, off := string(k.Data), int(k.Raw.Offset)
		if keys.IsLast() {
			return t, member{name: name, off: off}
		}
		m := t.find(name)
		if m == nil {
			m = t.add(member{name: name, off: off, node: &node{kind: unstable.InlineTable, off: off}})
		}
		t = lastTable(m.node)
	}
	return t, member{} // a key has at least one part
}

// lastTable is where keys below n go: in an array of tables, its last one.
func lastTable(n *node) *node {
	if n.kind == unstable.Array && len(n.items) > 0 {
		return n.items[len(n.items)-1]
	}
	return n
}

// value builds the node for a value; off stands in where the parser gives no
// place (arrays).
func (b *builder) value(v *unstable.Node, off int) *node {
	n := &node{kind: v.Kind, off: off}
	if v.Raw.Length > 0 {
		n.off = int(v.Raw.Offset)
	}
	switch v.Kind {
	case unstable.Array:
		for it := v.Children(); it.Next(); {
			n.items = append(n.items, b.value(it.Node(), n.off))
		}
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			b.keyValue(n, it.Node())
		}
	default:
		n.text = string(v.Data)
	}
	return n
}
