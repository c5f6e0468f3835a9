package routes

import "slices"

// Changes counts what differs between two snapshots.
type Changes struct{ Added, Removed, Changed int }

// Any tells whether there is a difference.
func (c Changes) Any() bool { return c != Changes{} }

// Changes counts what is different from before.
func (s *Snapshot) Changes(before *Snapshot) (c Changes) {
	diff := func(now, old map[string]*Route) {
		for host, r := range now {
			switch o := old[host]; {
			case o == nil:
				c.Added++
			case !r.same(o):
				c.Changed++
			}
		}
		for host := range old {
			if now[host] == nil {
				c.Removed++
			}
		}
	}
	diff(s.exact, before.exact)
	diff(s.wild, before.wild)
	return c
}

func (r *Route) same(o *Route) bool {
	return r.Host == o.Host && r.Project == o.Project && r.HTTP == o.HTTP && r.HTTPS == o.HTTPS && r.Header == o.Header &&
		slices.Equal(r.Backends, o.Backends)
}
