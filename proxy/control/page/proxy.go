package page

import (
	"strings"

	"golang.org/x/net/publicsuffix"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/visits"
)

// proxyPage is all about one proxy.
type proxyPage struct {
	mirror.Proxy
	State  state
	TXT    state
	CNAME  state
	Found  []string // what is in the DNS instead of what should be
	Looked look
	CanAsk bool // for a look at the DNS
	CNAMEs []string
	Apex   bool // nobody can set a CNAME there
	counted
	Visits *visits.Figures // nil: not known
	Done   bool            // nothing is missing
	Site   string          // what visitors open; a wildcard has none
}

// find is the proxy in the path, as this node has it.
func (q *request) find() (mirror.Proxy, error) {
	host, project := q.r.PathValue("host"), q.r.PathValue("project")
	p, ok := q.Mirror.View().Proxy(host)
	if !ok {
		var err error
		if p.Proxy, err = q.current(); err != nil {
			return p, err
		}
		p.Reason = mirror.Unproven
		if p.Proof.Serves() {
			p.Reason = mirror.Served
		}
	}
	if p.Project != project {
		return p, errNoPage
	}
	return p, nil
}

// current is the proxy in the path as it is stored this moment.
func (q *request) current() (catalog.Proxy, error) {
	p, err := q.Catalog.Proxy(q.r.Context(), q.r.PathValue("host"))
	if err == nil && p.Project != q.r.PathValue("project") {
		err = errNoPage
	}
	return p, err
}

func showProxy(q *request) error {
	project, err := q.project()
	if err != nil {
		return err
	}
	p, err := q.find()
	if err != nil {
		return err
	}
	nodes, err := q.aliveNodes(q.r.Context())
	if err != nil {
		return err
	}
	b := &proxyPage{Proxy: p, State: stateOf(&p, nodes), CNAMEs: q.CNAMEs, CanAsk: q.Check != nil, Apex: isApex(p.Host), counted: q.counted(project.Name, nodes)}
	b.Visits = b.visits(p.Host)
	b.Looked = q.keepLooking(&p.Proxy)
	b.TXT = txtState(&p.Proxy, &b.Looked)
	b.CNAME, b.Found = leadsState(&b.Looked, b.CanAsk, b.Apex)
	b.Done = b.State.Kind == "ok" && b.TXT.Kind == "ok" && (b.CNAME.Kind == "ok" || b.CNAME.Kind == "off")
	if !strings.HasPrefix(p.Host, "*.") {
		b.Site = "https://" + p.Host + "/"
		if p.HTTPS == 0 {
			b.Site = "http://" + p.Host + "/"
		}
	}
	return q.render(200, "proxy", &view{Title: p.Host, Project: &project, Tab: "proxies", Live: true, Body: b})
}

// isApex tells whether a host name is what people register, where a CNAME record
// can't stand beside the others of the domain.
func isApex(host string) bool {
	domain, err := publicsuffix.EffectiveTLDPlusOne(host)
	return err == nil && domain == host
}

func txtState(p *catalog.Proxy, l *look) state {
	switch {
	case p.Proof == catalog.Trusted:
		return state{"ok", "No TXT record needed", "The operator vouches for this domain."}
	case p.Proof == catalog.Proven && p.Missing.IsZero():
		return state{"ok", "TXT ok", "Leave the record where it is. It is looked for again and again."}
	case p.Proof == catalog.Proven:
		return state{"wait", "TXT gone: put it back", upperFirst(p.Problem)}
	case p.Proof == catalog.Lost:
		return state{"bad", "TXT gone: put it back", upperFirst(p.Problem)}
	case l.Busy && l.At.IsZero() && p.Problem == "":
		return state{"wait", "Looking for the TXT record…", ""}
	}
	return state{"wait", "TXT missing: add this", beyond(p.Problem, "TXT missing")}
}

// leadsState says whether the name leads here, and what else is in the DNS.
func leadsState(l *look, canAsk, apex bool) (s state, found []string) {
	ok, missing := "CNAME ok", "CNAME missing: add this"
	if apex {
		ok, missing = "Address ok", "Address missing: add these"
	}
	switch {
	case !canAsk:
		return state{"off", "Not checked here", "This hypervisor does not look into the DNS."}, nil
	case l.At.IsZero():
		return state{"wait", "Looking into the DNS…", ""}, nil
	case l.Err != "":
		return state{"wait", "The DNS could not be asked", l.Err}, nil
	case l.CNAME.OK:
		return state{"ok", ok, "Visitors are led here."}, nil
	}
	return state{"wait", missing, beyond(l.CNAME.Problem, "CNAME missing")}, l.CNAME.Found
}

// beyond is what a problem says besides that a record is missing, which is said,
// and shown, already.
func beyond(problem, missing string) string {
	if rest, ok := strings.CutPrefix(problem, missing); ok {
		_, problem, _ = strings.Cut(rest, "; ")
	}
	return upperFirst(problem)
}

func checkNow(q *request) error {
	p, err := q.current()
	if err != nil {
		return err
	}
	done := "looked"
	if !q.lookNow(q.r.Context(), p) {
		done = "busy"
	}
	if p, err = q.current(); err != nil {
		return err
	}
	q.applied(p.Revision)
	return q.goTo(q.proxyPath(p.Host), done)
}

func (q *request) proxyPath(host string, more ...string) string {
	return join("projects", q.r.PathValue("project"), "proxies", host) + join(more...)
}
