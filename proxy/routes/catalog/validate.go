package catalog

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"aarch64.com/isthmus/proxy/routes"
)

// Limits of records, besides those of package routes.
const (
	maxName     = 63 // bytes of a project's name
	maxTitle    = 100
	maxPrefixes = 64 // of a project
	maxProxies  = 1_000_000
	maxDomain   = 253
	maxLabels   = 32 // of a host name: each is a domain that may be trusted
)

// headers are the values of Proxy.Header, by routes.Header.
var headers = []string{routes.NoHeader: "off", routes.HeaderV1: "v1", routes.HeaderV2: "v2"}

// checkName is for projects' names, which are parts of keys and of URLs.
func checkName(field, name string) *Invalid {
	if name == "" || len(name) > maxName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name[0] == '-' || name[len(name)-1] == '-' {
		return &Invalid{field, fmt.Sprintf("%q can be no project's name", name), fmt.Sprintf("write 1 to %d of a-z, 0-9 and, in between, hyphens", maxName)}
	}
	return nil
}

// checkText is for what people call things.
func checkText(field, text string, least int) *Invalid {
	switch {
	case len(text) < least:
		return &Invalid{field, "missing", "give it a name"}
	case len(text) > maxTitle:
		return &Invalid{field, "too long", fmt.Sprintf("write at most %d bytes", maxTitle)}
	case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return &Invalid{field, "has characters that can't be shown", "remove them"}
	}
	return nil
}

// check tells what is wrong with a project in itself.
func (p *Project) check(vms []netip.Prefix) error {
	var wrong Invalids
	for _, e := range []*Invalid{checkName("name", p.Name), checkText("title", p.Title, 0)} {
		if e != nil {
			wrong = append(wrong, e)
		}
	}
	if p.Proxies < 0 || p.Proxies > maxProxies {
		wrong.add("max_proxies", fmt.Sprintf("%d is no limit", p.Proxies), fmt.Sprintf("write 1 to %d, or 0 for %d", maxProxies, DefaultMaxProxies))
	}
	if len(p.Prefixes) > maxPrefixes {
		wrong.add("prefixes", "too many", fmt.Sprintf("give at most %d", maxPrefixes))
		return wrong
	}
	for i, x := range p.Prefixes {
		field := fmt.Sprintf("prefixes[%d]", i)
		switch a := x.Addr(); {
		case !x.IsValid() || !a.Is6() || a.Is4In6():
			wrong.add(field, fmt.Sprintf("%v is no IPv6 prefix", x), `write one such as "2001:db8:64::/64"`)
		case x != x.Masked():
			wrong.add(field, fmt.Sprintf("%v has bits set behind its length", x), fmt.Sprintf("write %v", x.Masked()))
		case !slices.ContainsFunc(vms, func(v netip.Prefix) bool { return v.Bits() <= x.Bits() && v.Contains(a) }):
			wrong.add(field, fmt.Sprintf("%v is outside of where VMs are", x), "give one within vm_prefixes of [proxy]")
		default:
			for _, other := range p.Prefixes[:i] {
				if other.Overlaps(x) {
					wrong.add(field, fmt.Sprintf("%v and %v have addresses in common", other, x), "keep the one that is meant")
				}
			}
		}
	}
	return wrong.orNil()
}

// check tells what is wrong with a proxy, as far as its project is not asked.
func (p *Proxy) check() error {
	var wrong Invalids
	if e := checkName("project", p.Project); e != nil {
		wrong = append(wrong, e)
	}
	if e := checkHost(p.Host); e != nil {
		wrong = append(wrong, e)
	}
	if p.HTTP == 0 && p.HTTPS == 0 {
		wrong.add("http", "neither HTTP nor HTTPS is served", "set the VM's port for one of them; 80 and 443 are usual")
	}
	if !slices.Contains(headers, p.Header) {
		wrong.add("proxy_protocol", fmt.Sprintf("%q is not a choice", p.Header), `write "off", "v1" or "v2"`)
	}
	switch {
	case len(p.Backends) == 0:
		wrong.add("backends", "missing", "give the IPv6 address of a VM")
	case len(p.Backends) > routes.MaxBackends:
		wrong.add("backends", "too many", fmt.Sprintf("give at most %d", routes.MaxBackends))
	}
	for i, b := range p.Backends {
		switch field := fmt.Sprintf("backends[%d]", i); {
		case !b.Is6() || b.Is4In6() || b.Zone() != "":
			wrong.add(field, fmt.Sprintf("%v is no IPv6 address of a VM", b), `write one such as "2001:db8:64::2"; names are never looked up`)
		case slices.Contains(p.Backends[:i], b):
			wrong.add(field, fmt.Sprintf("%v comes twice", b), "remove one")
		}
	}
	return wrong.orNil()
}

// Host gives what people write as a host name, or "*." and one, in the form in which
// it is stored: international names as A-labels (RFC 5890), lower case, no dot at the
// end. The error is an [*Invalid].
func Host(written string) (string, error) {
	name, wild := strings.CutPrefix(strings.TrimSuffix(strings.TrimSpace(written), "."), "*.")
	if ascii, err := idna.Lookup.ToASCII(name); err == nil {
		name = ascii
	}
	if name = strings.ToLower(name); wild {
		name = "*." + name
	}
	if e := checkHost(name); e != nil {
		return "", e
	}
	return name, nil
}

func checkHost(host string) *Invalid {
	if err := routes.CheckHost(host); err != nil {
		return &Invalid{"host", strings.TrimPrefix(err.Error(), fmt.Sprintf("host %q: ", host)), `write one such as "www.example.com" or "*.example.com", international ones as A-labels (xn--...)`}
	}
	if strings.Count(domainOf(host), ".") >= maxLabels {
		return &Invalid{"host", "too many labels", fmt.Sprintf("%d are possible", maxLabels)}
	}
	return nil
}

// checkProvable refuses what nobody can show to own: a domain that anybody may
// register names in, maybe "_isthmus-challenge" too, and a name that leaves no room
// for the TXT record's.
func checkProvable(host string) *Invalid {
	domain := domainOf(host)
	if len(TXT(host)) > maxDomain {
		return &Invalid{"host", fmt.Sprintf("too long to be proven: the TXT record would need a name of more than %d bytes", maxDomain), "write a shorter name, or have the operator trust its domain"}
	}
	if suffix, _ := publicsuffix.PublicSuffix(domain); suffix != domain {
		return nil
	}
	return &Invalid{"host", domain + " is a public suffix, whose names belong to many", "write a name below it; if all of it is yours, have the operator trust it"}
}

// allows tells what is wrong with a backend, by the project's prefixes and the
// rule for all; nil if it may be connected to.
func (p *Project) allows(b netip.Addr, check routes.Reach) error {
	if !slices.ContainsFunc(p.Prefixes, func(x netip.Prefix) bool { return x.Contains(b) }) {
		return fmt.Errorf("%v is outside the prefixes of project %s", b, p.Name)
	}
	if check != nil {
		if err := check(b); err != nil {
			return fmt.Errorf("%v: %w", b, err)
		}
	}
	return nil
}

func (p *Proxy) checkBackends(of *Project, check routes.Reach) error {
	var wrong Invalids
	for i, b := range p.Backends {
		if err := of.allows(b, check); err != nil {
			wrong.add(fmt.Sprintf("backends[%d]", i), err.Error(), "give the address of a VM of the project")
		}
	}
	return wrong.orNil()
}
