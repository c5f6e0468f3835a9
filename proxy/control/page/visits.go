package page

import (
	"fmt"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/visits"
)

// counted is what a page knows of visits.
type counted struct {
	Counted  bool   // they are
	Coverage string // on which nodes
	summary  visits.Summary
}

func (s *server) counted(project string, alive []catalog.Node) counted {
	if s.Visits == nil {
		return counted{}
	}
	c := counted{Counted: true, summary: s.Visits(project)}
	// One that has just begun or ended may be known here and not there.
	switch n, of := c.summary.Nodes, max(c.summary.Nodes, len(alive)); {
	case n == 0:
		c.Coverage = "No hypervisor has told its visits yet."
	case n < of:
		c.Coverage = fmt.Sprintf("Visits are those on %d of %s so far.", n, plural(of, "hypervisor"))
	default:
		c.Coverage = fmt.Sprintf("Visits are those on %s.", plural(n, "hypervisor"))
	}
	if c.summary.Partial {
		c.Coverage += " Some hypervisors tell only of the hosts that were visited last, so there may have been more."
	}
	return c
}

// visits are those of a host, or nil if nobody has told any yet.
func (c *counted) visits(host string) *visits.Figures {
	if c.summary.Nodes == 0 {
		return nil
	}
	f := c.summary.Of(host)
	return &f
}
