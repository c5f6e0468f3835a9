package page

import (
	"net/http"
	"testing"
)

// The whole way of a customer, without a script.
func TestCustomer(t *testing.T) {
	w := newWorld(t)
	v := w.as(w.shop)
	v.get("/").leadsTo("/projects/shop")
	v.get("/projects/shop").status(http.StatusOK).says("The Shop", "No proxies yet")

	v.fill("/projects/shop/add", "host", "https://WWW.shop.example./", "backends", "2001:db8:64::2\r\n2001:DB8:64::3").
		leadsTo("/projects/shop/proxies/www.shop.example?done=added")
	p, err := w.catalog.Proxy(t.Context(), "www.shop.example")
	must(t, err)
	v.get("/projects/shop/proxies/www.shop.example?done=added").status(http.StatusOK).
		says("Added.", "Waiting for TXT record", "_isthmus-challenge.www.shop.example", p.Challenge, "dfw.proxy.infra.example", "2001:db8:64::3", "HTTP 80, HTTPS 443")

	v.fill("/projects/shop/proxies/www.shop.example/edit", "https", "8443", "proxy_protocol", "v2").
		leadsTo("/projects/shop/proxies/www.shop.example?done=saved")
	v.get("/projects/shop/proxies/www.shop.example").says("HTTPS 443 → 8443", "Version 2 (binary)")
	v.get("/projects/shop").says("www.shop.example", "1 in all", "1 waiting for DNS")

	w.dns.set("www.shop.example", true, true)
	page := v.get("/projects/shop/proxies/www.shop.example")
	v.send(page, "/projects/shop/proxies/www.shop.example/check").leadsTo("/projects/shop/proxies/www.shop.example?done=looked")
	v.eventually("/projects/shop/proxies/www.shop.example", "TXT ok", "CNAME ok", "Live on 1 of 1 hypervisor", "All is done")
	v.get("/projects/shop").says("1 served", "Live on 1 of 1 hypervisor")

	v.fill("/projects/shop/proxies/www.shop.example/delete").leadsTo("/projects/shop?done=deleted")
	if _, err := w.catalog.Proxy(t.Context(), "www.shop.example"); err == nil {
		t.Error("still there")
	}
	v.get("/projects/shop").says("No proxies yet")
	v.get("/projects/shop/audit").says("Added proxy www.shop.example", "Changed proxy", "HTTPS port: 443 → 8443", "by “Sam”", "by a look at the DNS", "Deleted proxy")
}
