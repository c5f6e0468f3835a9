package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

// refused is what a table says of an answer: where, what is wrong and what to do.
func refused(p wire.Problem) string {
	if len(p.Errors) == 0 {
		return p.Detail
	}
	var list []string
	for _, e := range p.Errors {
		list = append(list, strings.TrimSpace(e.In+" "+e.Pointer+e.Name)+": "+e.Detail+"; "+e.Remedy)
	}
	return strings.Join(list, "\n")
}

// What a body may not say. Each answer names the field and the remedy.
func TestBodiesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	to := func(backend string) string { return fmt.Sprintf(`{"backends": [%q]}`, backend) }
	const noVM = "names are never looked up"
	for _, c := range []struct {
		name, body string
		status     int
		want       string
	}{
		// Where proxies lead.
		{"another project's VM", to("2001:db8:65::2"), 422, `body #/backends/0: 2001:db8:65::2 is outside the prefixes of project`},
		{"outside all projects", to("2001:db8:99::2"), 422, `body #/backends/0: 2001:db8:99::2 is outside`},
		{"outside all VMs", to("2a00::1"), 422, `body #/backends/0: 2a00::1 is outside`},
		{"loopback", to("::1"), 422, `body #/backends/0: ::1 `},
		{"unspecified", to("::"), 422, `body #/backends/0: :: `},
		{"link-local", to("fe80::1"), 422, `body #/backends/0: fe80::1 `},
		{"link-local with its zone", to("fe80::1%eth0"), 422, noVM},
		{"unique local", to("fd00::1"), 422, `body #/backends/0: fd00::1 `},
		{"multicast", to("ff02::1"), 422, `body #/backends/0: ff02::1 `},
		{"IPv4", to("192.0.2.1"), 422, noVM},
		{"IPv4 loopback", to("127.0.0.1"), 422, noVM},
		{"mapped", to("::ffff:192.0.2.1"), 422, noVM},
		{"mapped loopback", to("::ffff:7f00:1"), 422, noVM},
		{"IPv4-compatible", to("::7f00:1"), 422, `body #/backends/0: ::7f00:1 `},
		{"NAT64", to("64:ff9b::7f00:1"), 422, `body #/backends/0: 64:ff9b::7f00:1 `},
		{"NAT64 of one's own", to("64:ff9b:1::1"), 422, `body #/backends/0: 64:ff9b:1::1 `},
		{"6to4", to("2002:7f00:1::"), 422, `body #/backends/0: 2002:7f00:1:: `},
		{"a name", to("vm.shop.example"), 422, `body #/backends/0: no IP address; write a VM's, such as 2001:db8::1; ` + noVM},
		{"address and port", to("[2001:db8:64::2]:80"), 422, `body #/backends/0: no IP address`},
		{"a prefix", to("2001:db8:64::2/128"), 422, `body #/backends/0: no IP address`},
		{"nothing", to(""), 422, `body #/backends/0: no IP address`},
		{"the second one", `{"backends": ["2001:db8:64::2", "2001:db8:65::2"]}`, 422, `body #/backends/1: 2001:db8:65::2 is outside`},
		{"twice", `{"backends": ["2001:db8:64::2", "2001:db8:64:0::2"]}`, 422, `body #/backends/1: 2001:db8:64::2 comes twice; remove one`},
		{"none", `{"backends": []}`, 422, `body #/backends: too few; give 1 or more`},
		{"too many", `{"backends": [` + strings.TrimSuffix(strings.Repeat(`"2001:db8:64::2",`, 9), ",") + `]}`, 422, `body #/backends: too many; give 8 or less`},
		{"missing", `{}`, 422, `body #: the field backends is missing; add it`},
		{"null", `{"backends": null}`, 422, `body #/backends: no list; write it in brackets`},
		{"no list", `{"backends": "2001:db8:64::2"}`, 422, `body #/backends: no list; write it in brackets`},
		{"no strings", `{"backends": [1]}`, 422, `body #/backends/0: no string; write it in quotes`},
		// How.
		{"port too large", `{"backends": ["2001:db8:64::2"], "http": 65536}`, 422, `body #/http: too large; write 65535 or less`},
		{"port negative", `{"backends": ["2001:db8:64::2"], "https": -1}`, 422, `body #/https: too small; write 0 or more`},
		{"port a string", `{"backends": ["2001:db8:64::2"], "http": "80"}`, 422, `body #/http: no whole number; write one, without quotes`},
		{"port with a fraction", `{"backends": ["2001:db8:64::2"], "http": 80.5}`, 422, `body #/http: no whole number`},
		{"port with an exponent", `{"backends": ["2001:db8:64::2"], "http": 8e1}`, 422, `http: uint16 has no room for it in this form`},
		{"port beyond all numbers", `{"backends": ["2001:db8:64::2"], "http": 1e400}`, 400, `body #: `},
		{"no port at all", `{"backends": ["2001:db8:64::2"], "http": 0, "https": 0}`, 422, `body #/http: neither HTTP nor HTTPS is served; set the VM's port`},
		{"header", `{"backends": ["2001:db8:64::2"], "proxy_protocol": "v3"}`, 422, `body #/proxy_protocol: no choice; write one of "off, v1, v2"`},
		{"off", `{"backends": ["2001:db8:64::2"], "off": "no"}`, 422, `body #/off: neither true nor false`},
		// What is not for clients to say.
		{"another project", `{"backends": ["2001:db8:64::2"], "project": "blog"}`, 422, `body #/project: there is no such field; leave it out, or correct its name`},
		{"proof", `{"backends": ["2001:db8:64::2"], "proof": "proven"}`, 422, `body #/proof: there is no such field`},
		{"another case", `{"Backends": ["2001:db8:64::2"]}`, 422, `body #/Backends: there is no such field`},
		{"both cases", `{"backends": ["2001:db8:64::2"], "BACKENDS": ["2001:db8:65::2"]}`, 422, `body #/BACKENDS: there is no such field`},
		{"a strange name", `{"backends": ["2001:db8:64::2"], "a.b/c~d e": 1}`, 422, `body #/a.b~1c~0d%20e: there is no such field`},
		// JSON.
		{"twice the field", `{"backends": ["2001:db8:65::2"], "backends": ["2001:db8:64::2"]}`, 400, `body #: byte 43: the field "backends" comes twice; send one JSON object`},
		{"twice the field, escaped", `{"backends": ["2001:db8:65::2"], "\u0062ackends": ["2001:db8:64::2"]}`, 400, `comes twice`},
		{"more behind", toVM + `{}`, 400, `more than one value`},
		{"garbage behind", toVM + `x`, 400, `more than one value`},
		{"cut", `{"backends": [`, 400, `it ends in the middle`},
		{"no JSON", `backends=2001:db8:64::2`, 400, `invalid character 'b'`},
		{"no UTF-8", "{\"backends\": [\"\xff\"]}", 400, `not valid UTF-8`},
		{"deep", strings.Repeat(`{"backends":`, 100) + strings.Repeat("}", 100), 400, `nested too deep`},
		{"a list", `["2001:db8:64::2"]`, 422, `body #: no object; write fields in braces`},
		{"a string", `"2001:db8:64::2"`, 422, `body #: no object`},
		{"null as such", `null`, 422, `body #: no object`},
		{"nothing at all", ``, 400, `request body is required`},
		{"too large", `{"backends": ["2001:db8:64::2"]` + strings.Repeat(" ", maxBody) + `}`, 413, `the body has 32800 bytes; send less than 32768`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			p := w.problemOf(w.want(w.ask("PUT", shopProxy, w.shop, c.body), c.status))
			got := refused(p)
			if !strings.Contains(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			for _, e := range p.Errors {
				if e.Detail == "" || e.Remedy == "" {
					t.Errorf("no remedy: %+v", e)
				}
			}
		})
	}
	w.want(w.ask("GET", shopProxy, w.shop, ""), 404)
}

// All that is wrong comes back at once, but not without end.
func TestManyErrors(t *testing.T) {
	w := newWorld(t)
	p := w.problemOf(w.ask("PUT", shopProxy, w.shop, `{"backends": ["x"], "http": -1, "https": "x", "off": 1, "more": 1}`))
	if len(p.Errors) != 5 {
		t.Errorf("got %+v", p)
	}
	var fields []string
	for i := range 1000 {
		fields = append(fields, fmt.Sprintf(`"field%d": %d`, i, i))
	}
	r := w.ask("PUT", shopProxy, w.shop, "{"+strings.Join(fields, ",")+"}")
	if p := w.problemOf(r); len(p.Errors) != maxErrors || !strings.Contains(p.Detail, "these are the first 20 of 1001 errors") {
		t.Errorf("%d errors, %s", len(p.Errors), p.Detail)
	}
	if p := w.problemOf(w.ask("PUT", shopProxy, w.shop, `{"`+strings.Repeat("x", 20_000)+`": 1}`)); len(p.Errors[0].Pointer)+len(p.Errors[1].Pointer) > 2*maxEcho {
		t.Errorf("an answer repeats %d bytes", len(p.Errors[0].Pointer)+len(p.Errors[1].Pointer))
	}
}

// What a path may not say.
func TestNamesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	w.want(w.ask("PUT", "/api/v1/projects/blog/proxies/www.blog.example", w.blog, `{"backends": ["2001:db8:65::2"]}`), 201)
	w.want(w.ask("PUT", "/api/v1/projects/blog/proxies/*.wild.example", w.blog, `{"backends": ["2001:db8:65::2"]}`), 201)
	w.want(w.ask("PUT", "/api/v1/trusts/blog.example", w.operator, `{"project": "blog"}`), 200)
	w.want(w.ask("PUT", "/api/v1/trusts/wild.example", w.operator, `{"project": "blog"}`), 200)
	for _, c := range []struct {
		host   string
		status int
		want   string
	}{
		{"WWW.shop.example", 422, `path host: `},
		{"www.shop.example.", 422, `path host: `},
		{"shop", 422, `path host: shop is a public suffix`},
		{"192.0.2.1", 422, `path host: `},
		{"2001:db8::1", 422, `path host: `},
		{"*", 422, `path host: `},
		{"*.example", 422, `path host: `},
		{"a.*.example", 422, `path host: `},
		{"*.shop.example", 201, ""},
		{"%2A.other.example", 201, ""},
		{"b%C3%BCcher.example", 422, `international ones as A-labels`},
		{"a%00.example", 422, `path host: `},
		{"a%2Fb.example", 422, `path host: `},
		{"a%20b.example", 422, `path host: `},
		{strings.Repeat("a", 64) + ".example", 422, `path host: `},
		{strings.Repeat("a.", 200) + "example", 422, `path host: `},
		{"www.blog.example", 409, "the name is taken"},
		{"a.wild.example", 409, "the name is taken"},
	} {
		t.Run(c.host, func(t *testing.T) {
			w := *w
			w.t = t
			r := w.want(w.ask("PUT", shopProxies+"/"+c.host, w.shop, toVM), c.status)
			if c.want == "" {
				return
			}
			if got := refused(w.problemOf(r)); !strings.Contains(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if c.status == 409 && strings.Contains(strings.ReplaceAll(string(r.text), c.host, ""), "blog") {
				t.Errorf("it says whose: %s", r.text)
			}
		})
	}
}

// What is another project's is not there, and looks exactly as what nobody has.
func TestOtherProjects(t *testing.T) {
	w := newWorld(t)
	w.want(w.ask("PUT", "/api/v1/projects/blog/proxies/www.blog.example", w.blog, `{"backends": ["2001:db8:65::2"]}`), 201)
	_, blogToken := w.token(catalog.Token{Name: "x", Project: "blog", Verb: catalog.Read})
	for _, c := range []struct{ method, there, nowhere string }{
		{"GET", "/api/v1/projects/blog", "/api/v1/projects/none"},
		{"GET", "/api/v1/projects/blog/proxies", "/api/v1/projects/none/proxies"},
		{"GET", "/api/v1/projects/blog/proxies/www.blog.example", "/api/v1/projects/none/proxies/www.blog.example"},
		{"PUT", "/api/v1/projects/blog/proxies/www.blog.example", "/api/v1/projects/none/proxies/www.blog.example"},
		{"PUT", "/api/v1/projects/blog/proxies/new.blog.example", "/api/v1/projects/none/proxies/new.blog.example"},
		{"DELETE", "/api/v1/projects/blog/proxies/www.blog.example", "/api/v1/projects/none/proxies/www.blog.example"},
		{"GET", "/api/v1/projects/blog/proxies/www.blog.example/state", "/api/v1/projects/none/proxies/www.blog.example/state"},
		{"POST", "/api/v1/projects/blog/proxies/www.blog.example/check", "/api/v1/projects/none/proxies/www.blog.example/check"},
		{"GET", "/api/v1/projects/blog/tokens", "/api/v1/projects/none/tokens"},
		{"DELETE", "/api/v1/projects/blog/tokens/" + blogToken, "/api/v1/projects/none/tokens/" + blogToken},
		{"GET", "/api/v1/projects/blog/audit", "/api/v1/projects/none/audit"},
		{"PUT", "/api/v1/projects/blog", "/api/v1/projects/none"},
		{"DELETE", "/api/v1/projects/blog", "/api/v1/projects/none"},
		// With the own project in the path, too.
		{"GET", shopProxies + "/www.blog.example", shopProxies + "/www.none.example"},
		{"DELETE", shopProxies + "/www.blog.example", shopProxies + "/www.none.example"},
		{"GET", shopProxies + "/www.blog.example/state", shopProxies + "/www.none.example/state"},
		{"POST", shopProxies + "/www.blog.example/check", shopProxies + "/www.none.example/check"},
		{"DELETE", "/api/v1/projects/shop/tokens/" + blogToken, "/api/v1/projects/shop/tokens/aaaaaaaaaaaaaaaa"},
	} {
		body := ""
		if c.method == "PUT" {
			body = toVM
		}
		for _, cond := range []string{"", `If-Match: "1"`, "If-Match: *", "If-None-Match: *"} {
			if cond != "" && c.method != "PUT" && c.method != "DELETE" {
				continue
			}
			var with []string
			if cond != "" {
				with = append(with, cond)
			}
			status := 404
			if cond == "If-Match: *" && strings.HasPrefix(c.there, shopProxies) {
				status = 412 // RFC 9110 13.1.1
			}
			there := w.want(w.ask(c.method, c.there, w.shop, body, with...), status)
			nowhere := w.want(w.ask(c.method, c.nowhere, w.shop, body, with...), status)
			alike := strings.NewReplacer("blog", "none", blogToken, "aaaaaaaaaaaaaaaa").Replace(string(there.text))
			if alike != strings.NewReplacer(blogToken, "aaaaaaaaaaaaaaaa").Replace(string(nowhere.text)) {
				t.Errorf("%s %s, %s: it shows:\n%s%s", c.method, c.there, cond, there.text, nowhere.text)
			}
		}
	}
	w.want(w.ask("GET", "/api/v1/projects/blog/proxies/www.blog.example", w.blog, ""), 200)
}

// What a token may not do.
func TestVerbs(t *testing.T) {
	w := newWorld(t)
	w.want(w.ask("PUT", shopProxy, w.shop, toVM), 201)
	for _, c := range []struct{ token, method, path, body, want string }{
		{w.reader, "PUT", shopProxy, toVM, "this token may read in its project; what is asked for needs one that may change proxies"},
		{w.reader, "DELETE", shopProxy, "", "may change proxies"},
		{w.reader, "POST", shopProxy + "/check", "", "may change proxies"},
		{w.reader, "DELETE", "/api/v1/projects/shop/tokens/aaaaaaaaaaaaaaaa", "", "may change proxies"},
		{w.shop, "PUT", "/api/v1/projects/shop", `{"prefixes": ["2001:db8::/32"]}`, "this token may change proxies in its project; what is asked for needs one that may do all that operators may"},
		{w.shop, "DELETE", "/api/v1/projects/shop", "", "operators"},
		{w.shop, "GET", "/api/v1/tokens", "", "operators"},
		{w.shop, "POST", "/api/v1/tokens", `{"name": "more", "project": "shop", "verb": "read"}`, "operators"},
		{w.shop, "POST", "/api/v1/tokens", `{"name": "more", "verb": "operator"}`, "operators"},
		{w.shop, "DELETE", "/api/v1/tokens/aaaaaaaaaaaaaaaa", "", "operators"},
		{w.shop, "GET", "/api/v1/trusts", "", "operators"},
		{w.shop, "PUT", "/api/v1/trusts/shop.example", `{"project": "shop"}`, "operators"},
		{w.shop, "DELETE", "/api/v1/trusts/shop.example", "", "operators"},
		{w.shop, "GET", "/api/v1/nodes", "", "operators"},
		{w.shop, "GET", "/api/v1/audit", "", "operators"},
	} {
		if got := refused(w.problemOf(w.want(w.ask(c.method, c.path, c.token, c.body), 403))); !strings.Contains(got, c.want) {
			t.Errorf("%s %s: %s", c.method, c.path, got)
		}
	}
}

// What is wrong before anything is looked at.
func TestRequestsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	ended, _ := w.token(catalog.Token{Name: "short", Project: "shop", Verb: catalog.Write, Expires: time.Now().Add(50 * time.Millisecond)})
	revoked, id := w.token(catalog.Token{Name: "gone", Project: "shop", Verb: catalog.Write})
	if err := w.catalog.RevokeToken(t.Context(), root, "shop", id); err != nil {
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond)
	for _, c := range []struct {
		name, method, path, token, body string
		headers                         []string
		status                          int
		want                            string
		header                          string // that has to be there
	}{
		{"no token", "GET", "/api/v1/me", "", "", nil, 401, "not known", `Www-Authenticate: Bearer realm="isthmus"`},
		{"no token for a change", "PUT", shopProxy, "", toVM, nil, 401, "not known", ""},
		{"wrong token", "GET", "/api/v1/me", "isth_aaaaaaaaaaaaaaaa_" + strings.Repeat("a", 52), "", nil, 401, "wrong, expired or revoked", `Www-Authenticate: Bearer realm="isthmus", error="invalid_token"`},
		{"almost right", "GET", "/api/v1/me", w.shop[:len(w.shop)-1] + flip(w.shop[len(w.shop)-1]), "", nil, 401, "not known", ""},
		{"cut", "GET", "/api/v1/me", w.shop[:len(w.shop)-1], "", nil, 401, "not known", ""},
		{"expired", "GET", "/api/v1/me", ended, "", nil, 401, "not known", ""},
		{"revoked", "GET", "/api/v1/me", revoked, "", nil, 401, "not known", ""},
		{"another scheme", "GET", "/api/v1/me", "", "", []string{"Authorization: Basic " + w.shop}, 401, "not known", ""},
		{"no scheme", "GET", "/api/v1/me", "", "", []string{"Authorization: " + w.shop}, 401, "not known", ""},
		{"in the query", "GET", "/api/v1/me?access_token=" + w.shop, "", "", nil, 401, "not known", ""},
		{"cookie", "GET", "/api/v1/me", "", "", []string{"Cookie: session=" + w.shop + "; token=" + w.shop}, 401, "not known", ""},
		{"CSRF: a form with the page's cookie", "POST", shopProxy + "/check", "", "a=b", []string{"Cookie: session=" + w.shop, "Content-Type: application/x-www-form-urlencoded", "Origin: https://evil.example"}, 401, "not known", ""},
		{"CSRF: JSON as plain text", "PUT", shopProxy, "", toVM, []string{"Cookie: session=" + w.shop, "Content-Type: text/plain", "Origin: https://evil.example"}, 401, "not known", ""},
		{"preflight", "OPTIONS", shopProxy, "", "", []string{"Origin: https://evil.example", "Access-Control-Request-Method: PUT"}, 401, "not known", ""},

		{"no such path", "GET", "/api/v1/none", w.shop, "", nil, 404, "openapi.json says what there is", ""},
		{"no such version", "GET", "/api/v2/me", w.shop, "", nil, 404, "nothing", ""},
		{"path with ..", "GET", "/api/v1/x/../me", w.shop, "", nil, 404, "nothing with this path", ""},
		{"path with //", "GET", "/api/v1//me", w.shop, "", nil, 404, "nothing with this path", ""},
		{"slash at the end", "GET", "/api/v1/me/", w.shop, "", nil, 404, "nothing with this path", ""},
		{"wrong method", "POST", shopProxy, w.shop, toVM, nil, 405, "POST is not possible here; there is DELETE, GET, HEAD, PUT", "Allow: DELETE, GET, HEAD, PUT"},
		{"PATCH", "PATCH", shopProxy, w.shop, toVM, nil, 405, "PATCH is not possible", "Allow: DELETE, GET, HEAD, PUT"},
		{"TRACE", "TRACE", "/api/v1/me", w.shop, "", nil, 405, "TRACE is not possible", "Allow: GET, HEAD"},
		{"made-up method", "BREW", "/api/v1/me", w.shop, "", nil, 405, "BREW is not possible", ""},
		{"preflight with a token", "OPTIONS", shopProxy, w.shop, "", []string{"Origin: https://evil.example"}, 405, "OPTIONS", ""},

		{"no type", "PUT", shopProxy, w.shop, toVM, []string{"Content-Type: "}, 415, "send Content-Type: application/json", ""},
		{"form", "PUT", shopProxy, w.shop, "backends=x", []string{"Content-Type: application/x-www-form-urlencoded"}, 415, "send Content-Type", ""},
		{"text", "PUT", shopProxy, w.shop, toVM, []string{"Content-Type: text/plain"}, 415, "send Content-Type", ""},
		{"almost JSON", "PUT", shopProxy, w.shop, toVM, []string{"Content-Type: application/merge-patch+json"}, 415, "send Content-Type", ""},
		{"CBOR", "PUT", shopProxy, w.shop, toVM, []string{"Content-Type: application/cbor"}, 415, "send Content-Type", ""},
		{"another charset", "PUT", shopProxy, w.shop, toVM, []string{"Content-Type: application/json; charset=utf-16"}, 415, "send Content-Type", ""},
		{"compressed", "PUT", shopProxy, w.shop, toVM, []string{"Content-Encoding: gzip"}, 415, "without Content-Encoding", ""},

		{"unknown parameter", "GET", shopProxies + "?serach=x", w.shop, "", nil, 422, "query serach: unknown query parameter", ""},
		{"no limit", "GET", shopProxies + "?limit=many", w.shop, "", nil, 422, "query limit: invalid integer", ""},
		{"limit too large", "GET", shopProxies + "?limit=1001", w.shop, "", nil, 422, "query limit: too large; write 1000 or less", ""},
		{"limit too small", "GET", shopProxies + "?limit=0", w.shop, "", nil, 422, "query limit: too small; write 1 or more", ""},
		{"search too long", "GET", shopProxies + "?search=" + strings.Repeat("x", 254), w.shop, "", nil, 422, "query search: too long", ""},
		{"no place in the log", "GET", "/api/v1/projects/shop/audit?before=x", w.shop, "", nil, 422, "query before: not a place in the log", ""},
		{"no revision", "GET", "/api/v1/live", w.shop, "", nil, 422, "query revision: required query parameter is missing", ""},
		{"If-Match without quotes", "PUT", shopProxy, w.shop, toVM, []string{"If-Match: 42"}, 400, "header If-Match: no entity tag; send what the ETag header said, with its quotes", ""},
		{"If-Match that never was", "PUT", shopProxy, w.shop, toVM, []string{`If-Match: "x"`}, 412, "get it again", ""},
		{"Isthmus-Revision", "GET", shopProxies, w.shop, "", []string{"Isthmus-Revision: x"}, 400, "header Isthmus-Revision: no revision", ""},

		{"project's name", "PUT", "/api/v1/projects/A", w.operator, `{"prefixes": []}`, nil, 422, `path project: "A" can be no project's name`, ""},
		{"prefix", "PUT", "/api/v1/projects/a", w.operator, `{"prefixes": ["2001:db8:70::/48", "x"]}`, nil, 422, `body #/prefixes/1: "x" is no prefix; write one such as`, ""},
		{"IPv4 prefix", "PUT", "/api/v1/projects/a", w.operator, `{"prefixes": ["192.0.2.0/24"]}`, nil, 422, `body #/prefixes/0: 192.0.2.0/24 is no IPv6 prefix`, ""},
		{"prefix outside", "PUT", "/api/v1/projects/a", w.operator, `{"prefixes": ["2001:db9::/48"]}`, nil, 422, `body #/prefixes/0: 2001:db9::/48 is outside of where VMs are`, ""},
		{"prefix of another", "PUT", "/api/v1/projects/a", w.operator, `{"prefixes": ["2001:db8:64:0::/80"]}`, nil, 422, `body #/prefixes/0: `, ""},
		{"token's verb", "POST", "/api/v1/tokens", w.operator, `{"name": "x", "verb": "all"}`, nil, 422, `body #/verb: no choice`, ""},
		{"token's project", "POST", "/api/v1/tokens", w.operator, `{"name": "x", "verb": "read"}`, nil, 422, `body #/project: `, ""},
		{"token's project that is none", "POST", "/api/v1/tokens", w.operator, `{"name": "x", "verb": "read", "project": "none"}`, nil, 404, `project`, ""},
		{"token's end", "POST", "/api/v1/tokens", w.operator, `{"name": "x", "verb": "operator", "expires": "tomorrow"}`, nil, 422, `body #/expires: no time; write one such as`, ""},
		{"token's end in the past", "POST", "/api/v1/tokens", w.operator, `{"name": "x", "verb": "operator", "expires": "2001-01-01T00:00:00Z"}`, nil, 422, `body #/expires: `, ""},
		{"domain of all", "PUT", "/api/v1/trusts/example", w.operator, `{"project": "shop"}`, nil, 200, ``, ""},
		{"registry's domain", "PUT", "/api/v1/trusts/com", w.operator, `{"project": "shop"}`, nil, 422, `path domain: com is a registry's`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			r := w.want(w.ask(c.method, c.path, c.token, c.body, c.headers...), c.status)
			if r.StatusCode >= 300 {
				if got := refused(w.problemOf(r)); !strings.Contains(got, c.want) {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			}
			if name, value, ok := strings.Cut(c.header, ": "); ok && r.Header.Get(name) != value {
				t.Errorf("%s: %q, want %q", name, r.Header.Get(name), value)
			}
			for name := range r.Header {
				if strings.HasPrefix(name, "Access-Control") || name == "Set-Cookie" {
					t.Errorf("the answer has %s", name)
				}
			}
			if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers: %v", r.Header)
			}
		})
	}
}

// flip is another letter of a secret's alphabet.
func flip(c byte) string {
	if c == 'a' {
		return "b"
	}
	return "a"
}
