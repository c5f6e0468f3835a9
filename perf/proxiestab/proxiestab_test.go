package proxiestab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"aarch64.com/isthmus/perf/lab/browsertest"
)

const site = "www." + customers

// TestProxiesTab is a site's life: what its owner does on the page of one hypervisor or
// another is what visitors of every hypervisor get.
func TestProxiesTab(t *testing.T) {
	c := newCluster(t)
	first, second := c.Nodes[0], c.Nodes[1]
	vm, other := c.VMs[0], c.VMs[1]
	live := fmt.Sprintf("Live on %d of %[1]d hypervisors", nodes)

	// The operator makes a project, and a token for each who works on it.
	c.cli(c.Nodes[4], "project", "add", "shop", "--title", "The Shop", "--prefix", netip.PrefixFrom(vm, 64).Masked().String())
	anna := c.token(c.Nodes[3], "Anna of the shop", "--project", "shop")
	carl := c.token(c.Nodes[2], "Carl of the shop", "--project", "shop")
	operator := c.token(c.Nodes[2], "Olga, operator", "--verb", "operator")

	b := c.browser()
	b.URL = page(first)
	b.Open("/")
	b.Shows("Sign in")
	b.Shot("sign-in")
	b.Fill("token", anna)
	b.Press("Sign in")
	b.Shows("No proxies yet")

	b.Press("Add your first proxy")
	b.Fill("host", site)
	b.Fill("backends", vm.String())
	b.Shot("add")
	b.Press("Add proxy")
	b.Shows("Waiting for TXT record", "TXT missing: add this", "CNAME missing: add this")
	b.Shot("dns-hints")
	c.served(site, netip.Addr{})

	// What the page shows is put into the zone, and the page notices by itself.
	records := browsertest.Eval[[]string](b, `[...document.querySelectorAll("dl.record")].filter(e => e.checkVisibility()).map(e => {
		const v = [...e.querySelectorAll("dd code")].map(c => c.innerText);
		return v[1] + ". " + v[0] + " " + (v[0] == "CNAME" ? v[2] + "." : v[2]);
	})`)
	if len(records) != 2 || !strings.HasPrefix(records[0], "_isthmus-challenge."+site+". TXT ") || records[1] != site+". CNAME dfw.proxy."+operators+"." {
		t.Fatalf("the page wants %q", records)
	}
	c.net.publish(records...)
	b.Shows("TXT ok", "CNAME ok", live, "All is done")
	b.Shot("live")
	c.served(site, vm)
	b.Shows(fmt.Sprintf("Visits are those on %d hypervisors.", nodes))

	// The name itself leads there, too.
	visitor := b.Tab()
	visitor.URL = "http://" + site
	visitor.Open("/")
	visitor.Shows(vm.String())

	// Two edit it at once, on two hypervisors.
	colleague := b.Tab()
	colleague.URL = page(second)
	colleague.Open("/projects/shop/proxies/" + site)
	colleague.Fill("token", carl)
	colleague.Press("Sign in")
	colleague.Shows(live)
	colleague.Press("Edit")
	b.Press("Edit")
	colleague.Fill("backends", other.String())
	colleague.Press("Save")
	colleague.Shows("Saved.", other.String())
	c.served(site, other)
	both := vm.String() + "\n" + other.String()
	b.Fill("backends", both)
	b.Press("Save")
	b.Shows("Somebody else has changed this proxy", "By “Carl of the shop”", "Changed meanwhile to: "+other.String())
	if v := browsertest.Eval[string](b, `document.getElementById("backends").value`); v != both {
		t.Errorf("what was typed is %q", v)
	}
	b.Shot("conflict")
	c.served(site, other) // nothing has been overwritten
	b.Press("Save")
	b.Shows("Saved.", live)
	c.served(site, vm)
	colleague.Shows(vm.String(), live) // by itself
	b.Press("← All proxies")
	b.Shows(site, live)
	// Each hypervisor has led a visitor to one VM, the other, and the first again; visits
	// of all are added up.
	b.Until(fmt.Sprintf(`parseInt(document.querySelector("[data-part^='visits ']").innerText) >= %d`, 3*nodes))
	b.Shot("list")

	colleague.Press("Delete")
	colleague.Press("Delete proxy")
	colleague.Shows("Deleted.", "No proxies yet")
	c.served(site, netip.Addr{})
	b.Shows("No proxies yet") // by itself
	b.Shot("list-empty")

	b.Press("Sign out")
	b.Fill("token", operator)
	b.Press("Sign in")
	b.Press("Hypervisors")
	b.Shows(fmt.Sprintf("%d alive", nodes), "all up to date")
	for _, n := range c.Nodes {
		b.Shows(n.Name)
	}
	b.Shot("hypervisors")
	b.Press("Audit")
	b.Shows("Deleted proxy "+site, "by “Carl of the shop” from "+c.net.visitor.v4.String())
	b.Shot("audit")
}
