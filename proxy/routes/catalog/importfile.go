package catalog

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"aarch64.com/isthmus/proxy/routes"
)

// drop removes from the target what the file does not have.
func (p *plan) drop(f *file) {
	projects, routes, trusts, tokens := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, x := range f.Project {
		projects[x.Name] = true
	}
	for _, x := range f.Route {
		routes[x.Host] = true
	}
	for _, x := range f.Trust {
		trusts[x.Domain] = true
	}
	for _, x := range f.Token {
		tokens[x.ID] = true
	}
	maps.DeleteFunc(p.to.projects, func(name string, _ Project) bool { return !projects[name] })
	maps.DeleteFunc(p.to.proxies, func(host string, _ Proxy) bool { return !routes[host] })
	maps.DeleteFunc(p.to.trusts, func(domain string, _ Trust) bool { return !trusts[domain] })
	maps.DeleteFunc(p.to.tokens, func(id string, t Token) bool {
		return len(f.Token) > 0 && !tokens[id] && t.Parent == "" || t.Project != "" && !projects[t.Project]
	})
}

func (p *plan) projects(f *file) {
	seen := map[string]bool{}
	for _, x := range f.Project {
		n, there := p.now.projects[x.Name]
		if !there {
			n = Project{Name: x.Name, ID: x.ID, Meta: Meta{Created: x.Created.UTC(), CreatedBy: x.CreatedBy}}
			if n.ID == "" {
				n.ID = randomText(16)
			}
		}
		n.Title, n.Proxies, n.Prefixes = x.Title, x.Max, append([]netip.Prefix{}, x.Prefixes...)
		if err := n.check(p.c.reach.Load().vms); err != nil {
			p.bad("project", x.Name, err)
		}
		if seen[x.Name] {
			p.bad("project", x.Name, twice("name"))
		}
		seen[x.Name] = true
		p.to.projects[x.Name] = n
	}
}

func (p *plan) trusts(f *file) {
	seen := map[string]bool{}
	for _, x := range f.Trust {
		n := p.now.trusts[x.Domain]
		if n.Domain == "" {
			n = Trust{Domain: x.Domain, Meta: Meta{Created: x.Created.UTC(), CreatedBy: x.CreatedBy}}
		}
		n.Project, n.ProjectID = x.Project, p.to.projects[x.Project].ID
		if err := n.check(); err != nil {
			p.bad("trust", x.Domain, err)
		}
		if seen[x.Domain] {
			p.bad("trust", x.Domain, twice("domain"))
		}
		seen[x.Domain] = true
		p.to.trusts[x.Domain] = n
	}
	p.trusting = trustMap{}
	for domain, t := range p.to.trusts {
		p.trusting[domain] = ""
		if of, ok := p.to.projects[t.Project]; ok && of.ID == t.ProjectID {
			p.trusting[domain] = t.Project
		}
	}
}

func (p *plan) routes(f *file) {
	seen := map[string]bool{}
	for i := range f.Route {
		x := &f.Route[i]
		n, err := p.route(x)
		if err != nil {
			p.bad("route", x.Host, err)
		}
		if seen[x.Host] {
			p.bad("route", x.Host, twice("host"))
		}
		seen[x.Host] = true
		p.to.proxies[x.Host] = n
	}
	// Trust may change the rest, too.
	for host, n := range p.to.proxies {
		if n.trust(p.trusting.of(host) == n.Project); n.Proof != p.to.proxies[host].Proof {
			p.to.proxies[host] = n
		}
	}
}

// route makes the proxy that a route of the file is to become.
func (p *plan) route(x *fileRoute) (Proxy, error) {
	n, there := p.now.proxies[x.Host]
	of, known := p.to.projects[x.Project]
	if !there || n.Project != x.Project {
		n = Proxy{Host: x.Host, Project: x.Project, Proof: Pending, Challenge: of.Challenge(x.Host), Meta: Meta{Created: x.Created.UTC(), CreatedBy: x.CreatedBy}}
	}
	var wrong Invalids
	n.Backends, n.Header, n.Off = slices.Clone(x.Backends), x.Header, x.Off
	if n.Header == "" {
		n.Header = headers[routes.NoHeader]
	}
	n.HTTP, n.HTTPS = wrong.port("http", x.HTTP, routes.DefaultHTTP), wrong.port("https", x.HTTPS, routes.DefaultHTTPS)
	if x.Challenge != "" {
		n.Challenge = x.Challenge
	}
	switch x.Proof {
	case "":
	case Pending, Proven, Trusted, Lost:
		n.Proof, n.Seen, n.Missing = x.Proof, x.Seen.UTC(), x.Missing.UTC()
		if n.Proof == Proven && n.Seen.Year() <= 1 {
			n.Seen = p.c.o.Now().UTC()
		}
	default:
		wrong.add("proof", fmt.Sprintf("%q is not a choice", x.Proof), `write "pending", "proven", "lost", or nothing`)
	}
	if x.Project == "" {
		wrong.add("project", "missing", `add project = "shop"`)
	} else if !known {
		wrong.add("project", fmt.Sprintf("there is no %q", x.Project), "add it to the file, or create it first")
	}
	if len(wrong) > 0 {
		return n, wrong
	}
	if err := n.check(); err != nil {
		return n, err
	}
	if p.trusting.of(x.Host) != x.Project {
		if e := checkProvable(x.Host); e != nil {
			return n, e
		}
	}
	return n, n.checkBackends(&of, p.c.reach.Load().check)
}

func (e *Invalids) port(field string, n *int, usual uint16) uint16 {
	switch {
	case n == nil:
		return usual
	case *n < 0 || *n > 65535:
		e.add(field, fmt.Sprintf("%d is no port", *n), "write a port from 1 to 65535, or 0 for not served")
		return 0
	}
	return uint16(*n)
}

func (p *plan) tokens(f *file) {
	for _, x := range f.Token {
		n := Token{ID: x.ID, Name: x.Name, Project: x.Project, ProjectID: p.to.projects[x.Project].ID, Verb: x.Verb, Expires: x.Expires.UTC(), Meta: Meta{Created: x.Created.UTC(), CreatedBy: x.CreatedBy}}
		if x.Expires.IsZero() {
			n.Expires = x.Expires
		}
		if old, ok := p.now.tokens[x.ID]; ok {
			n.Meta = old.Meta
		} else if n.expired(p.c.o.Now()) {
			continue
		}
		var err error
		n.Hash, err = base64.StdEncoding.DecodeString(x.Hash)
		if err != nil || len(n.Hash) != 32 || !isID(x.ID) {
			p.bad("token", x.ID, &Invalid{"hash", "not one of an export", "leave the token out, and create a new one"})
		}
		if n.Project != "" && n.ProjectID == "" {
			p.bad("token", x.ID, &Invalid{"project", fmt.Sprintf("there is no %q", x.Project), "leave the token out"})
		}
		if err := n.check(p.c.o.Now()); err != nil {
			p.bad("token", x.ID, err)
		}
		p.to.tokens[x.ID] = n
	}
}

// whole checks what holds between records.
func (p *plan) whole() {
	type owned struct {
		prefix  netip.Prefix
		project string
	}
	var all []owned
	for name, x := range p.to.projects {
		for _, prefix := range x.Prefixes {
			all = append(all, owned{prefix, name})
		}
	}
	// Sorted by address and length, one that has others in it is next to one of them.
	slices.SortFunc(all, func(a, b owned) int {
		if d := a.prefix.Addr().Compare(b.prefix.Addr()); d != 0 {
			return d
		}
		return a.prefix.Bits() - b.prefix.Bits()
	})
	for i := 1; i < len(all); i++ {
		if a, b := all[i-1], all[i]; a.prefix.Overlaps(b.prefix) {
			p.bad("project", b.project, &Invalid{"prefixes", fmt.Sprintf("%v has addresses of project %s", b.prefix, a.project), "give each project prefixes of its own"})
		}
	}
	n, was := map[string]int{}, map[string]int{}
	for _, x := range p.now.proxies {
		was[x.Project]++
	}
	for host, x := range p.to.proxies {
		n[x.Project]++
		if _, ok := p.to.projects[x.Project]; !ok {
			p.bad("route", host, &Invalid{"project", fmt.Sprintf("there would be no %q any more", x.Project), "leave the project, or remove its proxies first"})
		}
	}
	for name, x := range p.to.projects {
		if n[name] > x.Limit() && n[name] > was[name] {
			p.bad("project", name, &Invalid{"max_proxies", fmt.Sprintf("%d proxies are more than %d", n[name], x.Limit()), "allow more"})
		}
	}
	for domain, t := range p.to.trusts {
		if p.trusting[domain] == "" {
			if _, was := p.now.trusts[domain]; was {
				delete(p.to.trusts, domain) // worth nothing, and for nobody
				continue
			}
			p.bad("trust", domain, &Invalid{"project", fmt.Sprintf("there is no %q", t.Project), "add it to the file, or create it first"})
		}
	}
}
