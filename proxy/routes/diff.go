package routes

import "slices"

// Changes counts what differs between two snapshots.
type Changes struct{ Added, Removed, Changed int }

// Any tells whether there is a difference.
func (c Changes) Any() bool { return c != Changes{} }

// Changes counts what is different from before.
func (s *Snapshot) Changes(before *Snapshot) (c Changes) {
	s.diff(before, func(was, is *Route) {
		switch {
		case was == nil:
			c.Added++
		case is == nil:
			c.Removed++
		case !is.Same(was):
			c.Changed++
		}
	})
	return c
}

// diff calls f with the routes of each host that are not the very same as before;
// nil: none. It costs little where one snapshot comes from the other.
func (s *Snapshot) diff(before *Snapshot, f func(was, is *Route)) {
	each := func(_ string, was, is *Route) { f(was, is) }
	s.exact.Diff(&before.exact, each)
	s.wild.Diff(&before.wild, each)
}

// Same tells whether two routes say the same.
func (r *Route) Same(o *Route) bool {
	return r.Host == o.Host && r.Project == o.Project && r.HTTP == o.HTTP && r.HTTPS == o.HTTPS && r.Header == o.Header &&
		slices.Equal(r.Backends, o.Backends)
}
