package mirror

import (
	"errors"
	"strings"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/internal/cow"
	"aarch64.com/isthmus/proxy/routes/store"
)

// edit turns one view into the next. Records are collected first, since a proxy
// can only be judged with its project, which may come after it.
type edit struct {
	reach routes.Reach
	view  View // what is becoming the next one

	proxies  *cow.MapEdit[record]
	hosts    *cow.ListEdit[record]
	projects *cow.MapEdit[project]
	names    *cow.ListEdit[project]

	records map[string]*record               // by host; nil: gone
	order   []string                         // of hosts: a list's is that of the sorted lists here, which saves a third
	owners  map[string]store.Entry           // by name; without a key: gone
	lists   map[string]*cow.ListEdit[record] // of projects in touch
	touched map[string]*project

	points []point // of the sum, one for each revision
	routes []routes.Change
	lags   []int64 // when what has been changed by people was changed
}

func newEdit(v *View, reach routes.Reach) *edit {
	return &edit{
		reach: reach, view: *v,
		proxies: v.proxies.Edit(), hosts: v.hosts.Edit(), projects: v.projects.Edit(), names: v.names.Edit(),
		records: map[string]*record{}, owners: map[string]store.Entry{},
		lists: map[string]*cow.ListEdit[record]{}, touched: map[string]*project{},
	}
}

// take collects a change.
func (e *edit) take(c store.Change) {
	if isRecord(c.Key) {
		e.view.Changed = max(e.view.Changed, c.Modified)
	}
	if host, ok := strings.CutPrefix(c.Key, catalog.ProxyPrefix); ok {
		was, pending := e.records[host]
		if !pending {
			was = e.proxies.Get(host)
			e.order = append(e.order, host)
		}
		if was != nil {
			e.view.sum -= catalog.Fingerprint(was.entry)
		}
		if e.records[host] = nil; !c.Gone {
			e.view.sum += catalog.Fingerprint(c.Entry)
			e.records[host] = &record{entry: c.Entry, host: host}
		}
	} else if name, ok := strings.CutPrefix(c.Key, catalog.ProjectPrefix); ok {
		was, pending := e.owners[name]
		if p := e.projects.Get(name); !pending && p != nil {
			was = p.entry
		}
		if was.Key != "" {
			e.view.sum -= catalog.Fingerprint(was)
		}
		if e.owners[name] = (store.Entry{}); !c.Gone {
			e.view.sum += catalog.Fingerprint(c.Entry)
			e.owners[name] = c.Entry
		}
	}
	for i, key := range lastKeys {
		if c.Key == key {
			e.view.last[i] = c.Entry // with its revision, if it is gone
		}
	}
	if n := len(e.points); n == 0 || e.points[n-1].revision != c.Modified {
		e.points = append(e.points, point{revision: c.Modified})
	}
	e.points[len(e.points)-1].sum = e.view.sum
}

const (
	lastTally = iota
	lastAccepted
)

var lastKeys = [...]string{lastTally: catalog.TallyKey, lastAccepted: catalog.AcceptedKey}

// rejudge has all proxies looked at again, by another rule. Nothing else is collected.
func (e *edit) rejudge() {
	for r := range e.view.hosts.All() {
		e.again(r)
	}
}

func (e *edit) again(r *record) {
	e.records[r.host] = &record{entry: r.entry, host: r.host}
	e.order = append(e.order, r.host)
}

// finish gives the next view; routes has what became of those.
func (e *edit) finish(through store.Revision) *View {
	for name, entry := range e.owners {
		e.setProject(name, entry)
	}
	for _, host := range e.order {
		e.setProxy(host, e.records[host])
	}
	for name, p := range e.touched {
		p.proxies = e.lists[name].List()
		switch was := e.view.projects.Get(name); {
		case p.entry.Key != "":
			e.names.Set(p)
		case was != nil && was.entry.Key != "":
			e.names.Delete(p)
		}
		if p.entry.Key == "" && p.proxies.Len() == 0 {
			e.projects.Delete(name)
		} else {
			e.projects.Set(name, p)
		}
	}
	v := e.view
	v.proxies, v.hosts, v.projects, v.names = e.proxies.Map(), e.hosts.List(), e.projects.Map(), e.names.List()
	v.counts.Projects = v.names.Len()
	v.Revision = through
	return &v
}

// touch gives a project to write to.
func (e *edit) touch(name string) *project {
	p := e.touched[name]
	if p == nil {
		p = &project{name: name, proxies: cow.NewList(byHost)}
		if was := e.projects.Get(name); was != nil {
			*p = *was
		}
		e.touched[name], e.lists[name] = p, p.proxies.Edit()
	}
	return p
}

func (e *edit) setProject(name string, entry store.Entry) {
	p := e.touch(name)
	var now *catalog.Project
	if entry.Key != "" {
		if r, err := catalog.DecodeProject(entry); err == nil {
			now = &r
		}
	}
	was := p.record
	p.entry, p.record = entry, now
	p.counts.Projects = 0
	if now != nil {
		p.counts.Projects = 1
	}
	for r := range p.proxies.All() {
		if _, pending := e.records[r.host]; !pending && !samePrefixes(was, now) {
			e.again(r)
		}
	}
}

// setProxy gives a host its next record, or none.
func (e *edit) setProxy(host string, r *record) {
	was := e.proxies.Get(host)
	if was != nil {
		e.count(was, -1)
	}
	if r != nil {
		e.judge(r, was)
		e.count(r, 1)
	}
	if was != nil && (r == nil || r.project != was.project) {
		e.touch(was.project)
		e.lists[was.project].Delete(was)
	}
	if r == nil {
		if was != nil {
			e.proxies.Delete(host)
			e.hosts.Delete(was)
		}
	} else {
		e.proxies.Set(host, r)
		e.hosts.Set(r)
		e.touch(r.project)
		e.lists[r.project].Set(r)
	}
	var before, after *routes.Route
	if was != nil {
		before = was.route
	}
	if r != nil {
		after = r.route
	}
	if before != after {
		e.routes = append(e.routes, routes.Change{Host: host, Route: after})
	}
}

func (e *edit) count(r *record, n int) {
	e.view.counts.Proxies[r.reason] += n
	e.touch(r.project).counts.Proxies[r.reason] += n
}

// judge reads a record and finds out whether it is served, by the very route of
// before if that says the same.
func (e *edit) judge(r, was *record) {
	p, err := catalog.DecodeProxy(r.entry)
	if err != nil {
		r.reason, r.problem = Broken, err.Error()
		return
	}
	owner := e.touch(p.Project)
	r.project, r.changed = owner.name, p.Changed.UnixNano()
	if was != nil && was.changed != r.changed && was.entry.Modified != r.entry.Modified || was == nil {
		e.lags = append(e.lags, r.changed)
	}
	route, err := p.Route(owner.record, e.reach)
	switch {
	case err == nil:
		// Together with the record there is one copy of each name.
		route.Host, route.Project = r.host, r.project
		if r.route = &route; was != nil && was.route != nil && was.route.Same(&route) {
			r.route = was.route
		}
		return
	case errors.Is(err, catalog.ErrOff):
		r.reason = Off
	case errors.Is(err, catalog.ErrUnproven):
		r.reason = Unproven
	case errors.Is(err, catalog.ErrNotFound):
		r.reason = NoProject
	default:
		r.reason = Unreachable
	}
	r.problem = err.Error()
}

func samePrefixes(a, b *catalog.Project) bool {
	if a == nil || b == nil || len(a.Prefixes) != len(b.Prefixes) {
		return a == b
	}
	for i := range a.Prefixes {
		if a.Prefixes[i] != b.Prefixes[i] {
			return false
		}
	}
	return true
}

// at is the same view when nothing has changed for longer.
func (v *View) at(through store.Revision) *View {
	now := *v
	now.Revision = through
	return &now
}
