package page

import (
	"net/http"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/visits"
)

// Visits are those of all nodes that have told theirs, and the page says of how many.
func TestVisits(t *testing.T) {
	var summary visits.Summary
	w := newWorld(t, func(c *Config) {
		c.Visits = func(project string) visits.Summary {
			if project != "shop" {
				t.Errorf("visits of project %s", project)
			}
			return summary
		}
	})
	w.node("hv2")
	w.proxy(shopProxy("www.shop.example"))
	v := w.as(w.reader)
	pages := []string{"/projects/shop", "/projects/shop/proxies/www.shop.example"}
	v.eventually("/projects/shop", "No hypervisor has told its visits yet.", "not known yet")

	told := func(node string, visits uint64, more bool) catalog.Visits {
		return catalog.Visits{Node: node, Since: time.Now().Add(-time.Hour), More: more, Hosts: []catalog.HostVisits{
			{Host: "www.shop.example", Count: visits, Errors: 1, Last: time.Now().Unix() - 200},
		}}
	}
	for _, c := range []struct {
		all      []catalog.Visits
		list     string
		page     []string
		coverage string
	}{
		{[]catalog.Visits{told("hv1", 7, false)}, "71 errorlast 3 minutes ago", []string{"Visits 7Errors 1", "Last visit 3 minutes ago", "Counted since 1 hour ago"}, "Visits are those on 1 of 2 hypervisors so far."},
		{[]catalog.Visits{told("hv1", 7, false), told("hv2", 5, false)}, "122 errors", []string{"Visits 12Errors 2"}, "Visits are those on 2 hypervisors."},
		{[]catalog.Visits{told("hv1", 7, false), told("hv2", 5, true)}, "122 errors", nil, "on 2 hypervisors. Some hypervisors tell only of the hosts that were visited last"},
		{[]catalog.Visits{told("hv1", 7, false), told("hv2", 5, false), told("new", 1, false)}, "133 errors", nil, "on 3 hypervisors."},
	} {
		summary = visits.Sum("", nil, c.all...)
		v.eventually(pages[0], c.list, c.coverage) // when all nodes are announced
		v.get(pages[1]).status(http.StatusOK).says(append(c.page, c.coverage)...)
		v.get(pages[0]+"?live=1").status(http.StatusOK).says(c.list, c.coverage)
	}
	summary = visits.Sum("hv1", visits.NewCounter())
	v.get(pages[1]).status(http.StatusOK).says("Visits 0Errors 0", "Last visit never", "on 1 of 2 hypervisors")
}
