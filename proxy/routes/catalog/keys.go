package catalog

import (
	"strings"
)

// Prefixes of keys that only this package knows.
const (
	countPrefix   = "count/"         // + project: how many proxies it has
	auditOfPrefix = "audit-of/"      // + project + "/" + what follows AuditPrefix; no value
	visits        = "visits/"        // not below Serving: nodes' copies have nothing to do with it
	guardKey      = "guard/prefixes" // changes with each change of a project's prefixes
)

func projectKey(name string) string { return ProjectPrefix + name }
func proxyKey(host string) string   { return ProxyPrefix + host }
func tokenKey(id string) string     { return TokenPrefix + id }
func trustKey(domain string) string { return TrustPrefix + domain }
func holdKey(host string) string    { return HoldPrefix + host }
func countKey(project string) string {
	return countPrefix + project
}

// domainOf is what the owner of a host name has to own: the name itself, or the
// parent of a wildcard.
func domainOf(host string) string { return strings.TrimPrefix(host, "*.") }

// wildcardOver is the wildcard that would stand for an exact host name, or "".
func wildcardOver(host string) string {
	if strings.HasPrefix(host, "*.") {
		return ""
	}
	_, parent, ok := strings.Cut(host, ".")
	if !ok || !strings.Contains(parent, ".") {
		return ""
	}
	return "*." + parent
}

// domainsOver lists a domain and all those it is in, the longest first.
func domainsOver(domain string) []string {
	list := []string{domain}
	for {
		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			return list
		}
		list, domain = append(list, parent), parent
	}
}

// within tells whether a name is a domain or lies in it.
func within(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}
