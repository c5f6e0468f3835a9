package page

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

// proxyFields are the fields of a proxy's form, as catalog calls them. Those behind
// the host can be edited.
var proxyFields = []string{"host", "backends", "http", "https", "proxy_protocol", "off"}

// values are what stands in the fields.
type values map[string]string

// valuesOf are those of a proxy that is there.
func valuesOf(p *catalog.Proxy) values {
	port := func(n uint16) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(int(n))
	}
	v := values{
		"host": p.Host, "backends": joinAddrs(p.Backends, "\n"), "http": port(p.HTTP), "https": port(p.HTTPS),
		"proxy_protocol": p.Header, "off": "",
	}
	if p.Off {
		v["off"] = "on"
	}
	return v
}

// sentValues are those that a browser sent, with a prefix to their names.
func (q *request) sentValues(prefix string) values {
	v := values{}
	for _, name := range proxyFields {
		v[name] = strings.ReplaceAll(q.form(prefix+name), "\r\n", "\n")
	}
	return v
}

// same tells whether a field means the same in both.
func (v values) same(o values, name string) bool {
	if name == "backends" {
		return slices.Equal(addressWords(v[name]), addressWords(o[name]))
	}
	return strings.TrimSpace(v[name]) == strings.TrimSpace(o[name])
}

// addressWords takes addresses apart, however they are separated.
func addressWords(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\r\n,;", r) })
}

// proxy is what the values say. What can't be read is in wrong.
func (v values) proxy(project string) (p catalog.Proxy, wrong []*catalog.Invalid) {
	p = catalog.Proxy{Host: hostOf(v["host"]), Project: project, Header: v["proxy_protocol"], Off: v["off"] == "on"}
	if p.Host == "" {
		wrong = append(wrong, &catalog.Invalid{Field: "host", Problem: "missing", Remedy: `write the name that visitors type, such as "www.example.com"`})
	}
	for _, w := range addressWords(v["backends"]) {
		a, err := netip.ParseAddr(strings.Trim(w, "[]"))
		if err != nil {
			wrong = append(wrong, &catalog.Invalid{
				Field: "backends", Problem: fmt.Sprintf("%q is no IPv6 address", cut(w, 60)), Remedy: `write one such as "2001:db8:64::2"; names are never looked up`,
			})
			continue
		}
		p.Backends = append(p.Backends, a)
	}
	for _, x := range []struct {
		name string
		to   *uint16
	}{{"http", &p.HTTP}, {"https", &p.HTTPS}} {
		text := strings.TrimSpace(v[x.name])
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			wrong = append(wrong, &catalog.Invalid{Field: x.name, Problem: fmt.Sprintf("%q is no port", cut(text, 20)), Remedy: "write a number from 1 to 65535, or leave it empty"})
		}
		*x.to = uint16(n)
	}
	if len(wrong) > 0 && p.Host != "" {
		// What the catalog would say next, so that people need not come twice.
		if err := routes.CheckHost(p.Host); err != nil {
			wrong = append(wrong, &catalog.Invalid{Field: "host", Problem: strings.TrimPrefix(err.Error(), fmt.Sprintf("host %q: ", p.Host)), Remedy: `write one such as "www.example.com" or "*.example.com"`})
		}
	}
	return p, wrong
}

// hostOf makes a host name of what people write: an address of a web page, capital
// letters, a dot at the end, letters of other alphabets.
func hostOf(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	for _, scheme := range []string{"https://", "http://"} {
		s = strings.TrimPrefix(s, scheme)
	}
	s = strings.TrimSuffix(strings.TrimSuffix(s, "/"), ".")
	if strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f }) {
		name, wild := strings.CutPrefix(s, "*.")
		if ascii, err := idna.Lookup.ToASCII(name); err == nil {
			if s = ascii; wild {
				s = "*." + ascii
			}
		}
	}
	return s
}

// show writes a value for people who compare it.
func (v values) show(name string) string {
	s := strings.TrimSpace(v[name])
	switch name {
	case "backends":
		return strings.Join(addressWords(s), ", ")
	case "http", "https":
		if s == "" {
			return "not served"
		}
	case "proxy_protocol":
		return headerNames[s]
	case "off":
		if s == "on" {
			return "switched off"
		}
		return "switched on"
	}
	return s
}

// proxyForm shows values.
func proxyForm(v values, adding bool) *form {
	host := &field{
		Name: "host", Label: "Host name", Mono: true, Required: adding, Locked: !adding, Focus: adding,
		Hint: "What visitors type, such as www.example.com. *.example.com stands for all names with one part more.",
	}
	if !adding {
		host.Hint = ""
	}
	f := &form{Fields: []*field{
		host,
		{
			Name: "backends", Label: "IPv6 addresses of your VMs", Lines: 3, Mono: true, Required: true, Focus: !adding,
			Hint: fmt.Sprintf("One on each line, %d at most. They are tried in this order.", routes.MaxBackends),
		},
		{Name: "http", Label: "HTTP port on the VM", Mode: "numeric", Short: true, Mono: true, Hint: "For visitors on port 80. Empty: not served."},
		{Name: "https", Label: "HTTPS port on the VM", Mode: "numeric", Short: true, Mono: true, Hint: "For visitors on port 443. Empty: not served."},
		{
			Name: "proxy_protocol", Label: "PROXY protocol", Hint: "Tells the web server on the VM each visitor's address. Switch it on here and there at the same time: a web server that does not expect it refuses everybody.",
			Choices: []choice{{"off", "Off", "The usual choice"}, {"v1", headerNames["v1"], "nginx, Apache and others"}, {"v2", headerNames["v2"], "HAProxy, nginx and others"}},
		},
		{Name: "off", Label: "Switched off", Kind: "checkbox", Hint: "Keeps the proxy, but serves nobody."},
	}}
	for _, x := range f.Fields {
		x.Value = v[x.Name]
	}
	return f
}

// mergeProxy makes a form of three: what was there when it was opened, what was
// typed, and what somebody else has saved meanwhile. What was not touched becomes
// theirs; what both have changed stays as it was typed, with theirs beside it.
func mergeProxy(base, mine, theirs values) (f *form, changed bool) {
	merged := values{}
	for _, name := range proxyFields {
		if merged[name] = mine[name]; mine.same(base, name) {
			merged[name] = theirs[name]
		}
	}
	f = proxyForm(merged, false)
	for _, x := range f.Fields {
		x.Focus = false
		if theirs.same(base, x.Name) {
			continue
		}
		changed = true
		x.Theirs, x.Taken = theirs.show(x.Name), theirs.same(merged, x.Name)
	}
	return f, changed
}
