package mirror

import (
	"iter"
	"strings"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/internal/cow"
	"aarch64.com/isthmus/proxy/routes/store"
)

// Reason is why a proxy is not served.
type Reason uint8

// Reasons.
const (
	Served      Reason = iota // it is
	Off                       // its owner has switched it off
	Unproven                  // its host name has not been proven, or not any more
	NoProject                 // its project is gone
	Unreachable               // no backend is inside the project's prefixes and this node's rule
	Broken                    // this version can't read the record
	NumReasons
)

var reasons = [NumReasons]string{"served", "off", "unproven", "no_project", "unreachable", "broken"}

// String is the label in metrics.
func (r Reason) String() string { return reasons[r] }

// Proxy is a record, and what became of it on this node.
type Proxy struct {
	catalog.Proxy
	Reason  Reason
	Problem string // what is wrong, if it is not served
}

// Counts are numbers of records.
type Counts struct {
	Projects int
	Proxies  [NumReasons]int
}

// All is the number of proxies, served or not.
func (c Counts) All() (n int) {
	for _, x := range c.Proxies {
		n += x
	}
	return n
}

// Skipped is the number of proxies that are not served.
func (c Counts) Skipped() int { return c.All() - c.Proxies[Served] }

// record is a proxy as it is stored; it is read anew each time somebody wants all
// of it, for the text takes a third of the memory.
type record struct {
	entry   store.Entry
	host    string
	project string
	changed int64         // when its author changed it, in ns since 1970
	route   *routes.Route // nil: not served
	reason  Reason
	problem string
}

// project is a project with its proxies, or some proxies whose project is not there.
type project struct {
	name    string
	entry   store.Entry      // without a key: not there
	record  *catalog.Project // nil: not there, or not to be read
	proxies *cow.List[record]
	counts  Counts
}

func byHost(a, b *record) int  { return strings.Compare(a.host, b.host) }
func byName(a, b *project) int { return strings.Compare(a.name, b.name) }

// View is all that is stored about projects and proxies at one revision. It never
// changes. Values that it gives are the caller's own.
type View struct {
	// Revision is up to which all changes are in it; 0: nothing has been read yet.
	Revision store.Revision
	// Changed is the newest change of a project or proxy that is in it: a node that
	// has announced this one serves everything.
	Changed store.Revision

	proxies  *cow.Map[record]
	hosts    *cow.List[record] // the same, sorted
	projects *cow.Map[project]
	names    *cow.List[project] // those that are there, sorted
	counts   Counts
	last     [2]store.Entry // TallyKey, AcceptedKey
	sum      uint64         // of fingerprints
}

var nothing = &View{proxies: &cow.Map[record]{}, hosts: cow.NewList(byHost), projects: &cow.Map[project]{}, names: cow.NewList(byName)}

// Counts are the numbers of all.
func (v *View) Counts() Counts { return v.counts }

// ProjectCounts are those of one project.
func (v *View) ProjectCounts(name string) Counts {
	if p := v.projects.Get(name); p != nil {
		return p.counts
	}
	return Counts{}
}

// Project gives a project, if there is one of that name.
func (v *View) Project(name string) (p catalog.Project, ok bool) {
	if at := v.projects.Get(name); at != nil && at.record != nil {
		return at.full(), true
	}
	return p, false
}

func (p *project) full() catalog.Project {
	r, _ := catalog.DecodeProject(p.entry) // went well before
	return r
}

// Projects gives up to n projects behind a name, sorted by theirs, whose name or
// title has the text in it. With more to come, next is what to ask for after.
func (v *View) Projects(text, after string, n int) (list []catalog.Project, next string) {
	text, n = strings.ToLower(text), max(n, 1)
	for p := range v.names.From(func(p *project) bool { return p.name > after }) {
		if p.record == nil || !strings.Contains(p.name, text) && !strings.Contains(strings.ToLower(p.record.Title), text) {
			continue
		}
		if len(list) == n {
			return list, list[n-1].Name
		}
		list = append(list, p.full())
	}
	return list, ""
}

// Proxy gives the proxy for a host as it is written, "*." included.
func (v *View) Proxy(host string) (p Proxy, ok bool) {
	if r := v.proxies.Get(host); r != nil {
		return r.full(), true
	}
	return p, false
}

func (r *record) full() Proxy {
	p, err := catalog.DecodeProxy(r.entry)
	if err != nil {
		p = catalog.Proxy{Host: r.host, Project: r.project}
	}
	return Proxy{Proxy: p, Reason: r.reason, Problem: r.problem}
}

// ProxiesOf gives up to n proxies of a project, "" for those of all, behind a host,
// sorted by theirs, that have the text in it. With more to come, next is what to ask
// for after.
func (v *View) ProxiesOf(project, text, after string, n int) (list []Proxy, next string) {
	hosts := v.hosts
	if project != "" {
		p := v.projects.Get(project)
		if p == nil {
			return nil, ""
		}
		hosts = p.proxies
	}
	text, n = strings.ToLower(text), max(n, 1)
	for r := range hosts.From(func(r *record) bool { return r.host > after }) {
		if !strings.Contains(r.host, text) {
			continue
		}
		if len(list) == n {
			return list, list[n-1].Host
		}
		list = append(list, r.full())
	}
	return list, ""
}

// HostsOf gives the hosts of a project, sorted.
func (v *View) HostsOf(project string) iter.Seq[string] {
	return func(yield func(string) bool) {
		p := v.projects.Get(project)
		if p == nil {
			return
		}
		for r := range p.proxies.All() {
			if !yield(r.host) {
				return
			}
		}
	}
}

// isRecord tells a project or proxy from what else is below [catalog.Serving].
func isRecord(key string) bool {
	return strings.HasPrefix(key, catalog.ProxyPrefix) || strings.HasPrefix(key, catalog.ProjectPrefix)
}

// records is the number of projects and proxies.
func (v *View) records() int { return v.hosts.Len() + v.names.Len() }

// entry is what is known of a key.
func (v *View) entry(key string) (e store.Entry, ok bool) {
	if host, is := strings.CutPrefix(key, catalog.ProxyPrefix); is {
		if r := v.proxies.Get(host); r != nil {
			return r.entry, true
		}
		return e, false
	}
	if name, is := strings.CutPrefix(key, catalog.ProjectPrefix); is {
		if p := v.projects.Get(name); p != nil {
			return p.entry, p.entry.Key != ""
		}
		return e, false
	}
	for i := range lastKeys {
		if lastKeys[i] == key {
			return v.last[i], v.last[i].Value != nil
		}
	}
	return e, false
}

// entries are all that are known.
func (v *View) entries() iter.Seq[store.Entry] {
	return func(yield func(store.Entry) bool) {
		for _, e := range v.last {
			if e.Value != nil && !yield(e) {
				return
			}
		}
		for p := range v.names.All() {
			if !yield(p.entry) {
				return
			}
		}
		for r := range v.hosts.All() {
			if !yield(r.entry) {
				return
			}
		}
	}
}

// sample gives up to n projects, and as many proxies.
func (v *View) sample(n int) (list []store.Entry) {
	for p := range v.names.All() {
		if list = append(list, p.entry); len(list) == n {
			break
		}
	}
	n += len(list)
	for r := range v.hosts.All() {
		if list = append(list, r.entry); len(list) == n {
			break
		}
	}
	return list
}
