package routes

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Parse reads the text of a file of routes, strictly: whatever it does not
// understand is an error, and a [*FileErrors] lists all there are. The name stands
// in front of each. Backends are checked by reach, unless it is nil.
func Parse(name string, doc []byte, reach Reach) ([]Route, error) {
	r := &reader{name: name, doc: doc, reach: reach, hosts: map[string]int{}, projects: map[string]*project{}}
	if bytes.HasPrefix(doc, []byte("\xef\xbb\xbf")) {
		r.fail(0, "", "the file starts with a byte order mark", "save it as plain UTF-8")
		return nil, &r.errs
	}
	r.parser.Reset(doc)
	for r.parser.NextExpression() {
		r.expression(r.parser.Expression())
	}
	if err := r.parser.Error(); err != nil {
		r.syntax(err)
	} else {
		r.endTable()
		r.checkProjects()
	}
	if len(r.errs.List) > 0 {
		slices.SortStableFunc(r.errs.List, func(a, b *FileError) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, &r.errs
	}
	return r.routes, nil
}

// reader goes through a file once, table by table: with a hundred thousand of
// them, a tree of the whole would be the larger part of the work.
type reader struct {
	name   string
	doc    []byte
	reach  Reach
	parser unstable.Parser
	errs   FileErrors

	routes   []Route
	places   []place
	hosts    map[string]int // where a host's name stands
	projects map[string]*project

	table   string // "route" or "project"; "" before the first, "?" in an unknown one
	off     int    // of its header
	seen    []string
	broken  bool // something in it has been reported
	route   Route
	place   place
	project project
}

// place is where the values of a route stand.
type place struct{ host, project, backends int }

// project is what is said about one: where its backends may be.
type project struct {
	name     string
	prefixes []netip.Prefix
}

var keys = map[string][]string{
	"route":   {"host", "project", "backends", "http", "https", "proxy_protocol"},
	"project": {"name", "prefixes"},
}

const sections = "there are [[route]] and [[project]]"

func (r *reader) expression(e *unstable.Node) {
	if e.Kind == unstable.KeyValue {
		r.keyValue(e)
		return
	}
	r.endTable()
	name, off := key(e.Key())
	r.table, r.off, r.seen, r.broken = name, off, r.seen[:0], false
	r.route, r.place, r.project = Route{HTTP: DefaultHTTP, HTTPS: DefaultHTTPS}, place{off, off, off}, project{}
	switch {
	case keys[name] == nil:
		r.table = "?"
		r.bad(off, "", "unknown section "+printable(name), sections)
	case e.Kind == unstable.Table:
		r.bad(off, "", "one bracket", "write [["+name+"]] with two brackets")
	}
}

// key is a key as it is written, and where it is.
func key(parts unstable.Iterator) (name string, off int) {
	for first := true; parts.Next(); first = false {
		if first {
			name, off = string(parts.Node().Data), int(parts.Node().Raw.Offset)
			continue
		}
		name += "." + string(parts.Node().Data)
	}
	return name, off
}

func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '?' // this goes to a terminal
	}, s)
}

// bad notes an error about the table that is being read.
func (r *reader) bad(off int, key, problem, remedy string) {
	r.broken = true
	if n := len(r.routes); r.table == "route" {
		path := "route[" + strconv.Itoa(n) + "]"
		if r.route.Host != "" {
			path = strconv.Quote(r.route.Host)
		}
		key = strings.TrimSuffix(path+"."+key, ".")
	}
	r.fail(off, key, problem, remedy)
}

func (r *reader) keyValue(e *unstable.Node) {
	name, off := key(e.Key())
	switch {
	case r.table == "?":
		return // reported, and its keys would only add noise
	case r.table == "" && keys[name] != nil:
		r.bad(off, "", "not a table", "write [["+name+"]] and its keys below")
		return
	case r.table == "":
		r.bad(off, "", printable(name)+" stands before the first section", sections)
		return
	case !slices.Contains(keys[r.table], name):
		r.bad(off, printable(name), "unknown key", "a "+r.table+" has "+strings.Join(keys[r.table], ", "))
		return
	case slices.Contains(r.seen, name):
		r.bad(off, name, "comes twice", "keep one of them")
		return
	}
	r.seen = append(r.seen, name)
	v := value{r: r, key: name, off: off, node: e.Value()}
	if e.Value().Raw.Length > 0 {
		v.off = int(e.Value().Raw.Offset) // the parser gives none for lists
	}
	switch r.table + "." + name {
	case "route.host":
		v.host()
	case "route.project":
		r.place.project = v.off
		v.projectName(&r.route.Project)
	case "route.backends":
		r.place.backends = v.off
		v.backends()
	case "route.http":
		v.port(&r.route.HTTP)
	case "route.https":
		v.port(&r.route.HTTPS)
	case "route.proxy_protocol":
		v.header()
	case "project.name":
		v.projectName(&r.project.name)
	case "project.prefixes":
		v.prefixes()
	}
}

// endTable checks and keeps the table that has been read.
func (r *reader) endTable() {
	if r.broken {
		r.keepBroken()
		return
	}
	switch r.table {
	case "project":
		p := r.project
		switch {
		case p.name == "":
			r.bad(r.off, "name", "missing", `add name = "shop"`)
		case r.projects[p.name] != nil:
			r.bad(r.off, "", fmt.Sprintf("project %q is described twice", p.name), "keep one of the two")
		default:
			r.projects[p.name] = &p
		}
	case "route":
		switch {
		case r.route.Host == "":
			r.bad(r.off, "host", "missing", `add host = "www.example.com"`)
		case len(r.route.Backends) == 0:
			r.bad(r.off, "backends", "missing", `add backends = ["2001:db8::1"], the addresses of VMs`)
		case r.hosts[r.route.Host] != 0:
			r.bad(r.place.host, "host", fmt.Sprintf("has a route in line %d already", r.line(r.hosts[r.route.Host])), "keep one of the two")
		default:
			// What is left is about several keys at once.
			if err := r.route.Check(nil); err != nil {
				r.bad(r.off, "", strings.TrimPrefix(err.Error(), r.route.Host+": "), "")
			}
		}
		r.keepBroken()
	}
}

// keepBroken keeps a route even if something is wrong with it, so that errors
// count routes as people do.
func (r *reader) keepBroken() {
	if r.table == "route" {
		if r.route.Host != "" && r.hosts[r.route.Host] == 0 {
			r.hosts[r.route.Host] = r.place.host
		}
		r.routes, r.places = append(r.routes, r.route), append(r.places, r.place)
	}
}

// checkProjects holds backends against the prefixes of their projects, which
// may stand below.
func (r *reader) checkProjects() {
	r.table = ""
	for i := range r.routes {
		p := r.projects[r.routes[i].Project]
		if p == nil || p.prefixes == nil {
			continue
		}
		for _, b := range r.routes[i].Backends {
			if !slices.ContainsFunc(p.prefixes, func(x netip.Prefix) bool { return x.Contains(b) }) {
				r.fail(r.places[i].backends, strconv.Quote(r.routes[i].Host)+".backends",
					fmt.Sprintf("%v is outside the prefixes of project %q", b, p.name), "correct the address, or add a prefix to the project")
			}
		}
	}
}

func (r *reader) syntax(err error) {
	var at *unstable.ParserError
	off := len(r.doc)
	if errors.As(err, &at) && len(at.Highlight) > 0 {
		off = int(r.parser.Range(at.Highlight).Offset)
	}
	remedy := "correct the TOML syntax"
	if strings.HasSuffix(err.Error(), "at start of value") {
		remedy += " (strings need quotes)"
	}
	r.fail(off, "", printable(err.Error()), remedy)
}
