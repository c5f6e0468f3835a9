package visits

import (
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
)

// Figures are those of a host.
type Figures struct {
	Since  time.Time // the earliest from which on a node has counted
	Count  uint64    // requests, and connections that the proxy sees no requests of
	Errors uint64    // those of them that the VMs did not answer
	Last   time.Time // zero: never
}

// Summary is what is known at one moment of the visits of a project's hosts.
type Summary struct {
	Nodes   int  // whose figures are in it
	Partial bool // some of them had visits of more hosts than they could tell
	own     *Counter
	others  []*report
}

// report is what a process has told.
type report struct {
	catalog.Visits
	hosts map[string]catalog.HostVisits
}

func newReport(v catalog.Visits) *report {
	r := &report{Visits: v, hosts: make(map[string]catalog.HostVisits, len(v.Hosts))}
	for _, h := range v.Hosts {
		r.hosts[h.Host] = h
	}
	r.Hosts = nil
	return r
}

// Sum adds up what others have told, and what this process has counted; nil: it
// does not count.
func Sum(node string, own *Counter, others ...catalog.Visits) Summary {
	reports := make([]*report, len(others))
	for i := range others {
		reports[i] = newReport(others[i])
	}
	return sum(node, own, reports)
}

func sum(node string, own *Counter, others []*report) Summary {
	s := Summary{own: own, others: others}
	nodes := map[string]bool{}
	if own != nil {
		nodes[node] = true
	}
	for _, r := range others {
		nodes[r.Node] = true // two processes, while one takes over from the other
		s.Partial = s.Partial || r.More
	}
	s.Nodes = len(nodes)
	return s
}

// Of gives the figures of a host, "*." included.
func (s Summary) Of(host string) (f Figures) {
	if s.own != nil {
		f = s.own.of(host)
	}
	for _, r := range s.others {
		if f.Since.IsZero() || r.Since.Before(f.Since) {
			f.Since = r.Since
		}
		h, ok := r.hosts[host]
		if !ok {
			continue
		}
		f.Count += h.Count
		f.Errors += h.Errors
		if last := time.Unix(h.Last, 0); last.After(f.Last) {
			f.Last = last
		}
	}
	return f
}
