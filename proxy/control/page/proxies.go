package page

import (
	"errors"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/store"
)

// proxyRow is a line of the tab.
type proxyRow struct {
	mirror.Proxy
	State  state
	Visits *Visits
}

// listBody is what lists have in common.
type listBody[T any] struct {
	Rows   []T
	Search string
	Next   string // address of the next page
	First  string // of the first one, if this is another
	Counts summary
}

// pages fills in where the other pages of a list are, by a parameter's name.
func (l *listBody[T]) pages(q *request, cursor, next string) {
	path := q.r.URL.EscapedPath()
	link := func(value string) string {
		v := url.Values{}
		if l.Search != "" {
			v.Set("q", l.Search)
		}
		if value != "" {
			v.Set(cursor, value)
		}
		if len(v) == 0 {
			return path
		}
		return path + "?" + v.Encode()
	}
	if next != "" {
		l.Next = link(next)
	}
	if q.r.URL.Query().Get(cursor) != "" {
		l.First = link("")
	}
}

// proxiesBody is the tab itself.
type proxiesBody struct {
	listBody[proxyRow]
	Counted bool // visits are
}

func (q *request) search() string { return cut(strings.TrimSpace(q.r.URL.Query().Get("q")), 255) }

func listProxies(q *request) error {
	project, err := q.project()
	if err != nil {
		return err
	}
	nodes, err := q.aliveNodes(q.r.Context())
	if err != nil {
		return err
	}
	v := q.Mirror.View()
	b := &proxiesBody{Counted: q.Visits != nil}
	b.listBody = listBody[proxyRow]{Search: q.search(), Counts: summarize(v.ProjectCounts(project.Name))}
	list, next := v.ProxiesOf(project.Name, b.Search, q.r.URL.Query().Get("after"), perPage)
	for i := range list {
		b.Rows = append(b.Rows, proxyRow{list[i], stateOf(&list[i], nodes), q.visits(list[i].Host)})
	}
	b.pages(q, "after", next)
	return q.render(200, "proxies", &view{Title: "Proxies", Project: &project, Tab: "proxies", Live: true, Body: b})
}

func (q *request) visits(host string) *Visits {
	if q.Visits == nil {
		return nil
	}
	if v, ok := q.Visits(host); ok {
		return &v
	}
	return nil
}

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
	Visits *Visits
	Done   bool   // nothing is missing
	Site   string // what visitors open; a wildcard has none
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
	b := &proxyPage{Proxy: p, State: stateOf(&p, nodes), CNAMEs: q.CNAMEs, CanAsk: q.Check != nil, Apex: isApex(p.Host), Visits: q.visits(p.Host)}
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

// proxyFormBody is the page of a form for a proxy.
type proxyFormBody struct {
	*form
	Host     string // "": it is to be added
	Taken    *catalog.Taken
	Conflict *conflict
}

// conflict says who else has changed it.
type conflict struct {
	By       string
	Meta     catalog.Meta
	Deleted  bool
	Nothing  bool // their change is in no field that is shown
	BothDone bool
}

func (q *request) proxyFormPage(b *proxyFormBody) error {
	project, err := q.project()
	if err != nil {
		return err
	}
	title := "Add a proxy"
	b.Submit, b.Cancel = "Add proxy", join("projects", project.Name)
	b.Action = join("projects", project.Name, "add")
	if b.Host != "" {
		title = "Edit " + b.Host
		b.Submit, b.Cancel = "Save", q.proxyPath(b.Host)
		b.Action = q.proxyPath(b.Host, "edit")
	}
	status := b.status()
	if b.Conflict != nil {
		status = 409
	}
	return q.render(status, "proxy-form", &view{Title: title, Project: &project, Tab: "proxies", Body: b})
}

func showAdd(q *request) error {
	return q.proxyFormPage(&proxyFormBody{form: proxyForm(values{"http": "80", "https": "443", "proxy_protocol": "off"}, true)})
}

func add(q *request) error {
	v := q.sentValues("")
	b := &proxyFormBody{form: proxyForm(v, true)}
	p, wrong := v.proxy(q.r.PathValue("project"))
	if len(wrong) > 0 {
		b.wrong(wrong)
		return q.proxyFormPage(b)
	}
	saved, _, err := q.Catalog.PutProxy(q.r.Context(), q.actor(), p, catalog.Match{Absent: true})
	if errors.Is(err, store.ErrConflict) {
		b.wrong([]*catalog.Invalid{{Field: "host", Problem: "this project has " + p.Host + " already", Remedy: "edit that one instead"}})
		return q.proxyFormPage(b)
	}
	if err != nil {
		return q.proxyRefused(b, err)
	}
	q.applied(saved.Revision)
	return q.goTo(q.proxyPath(saved.Host), "added")
}

// proxyRefused shows the form again with what the catalog says against it.
func (q *request) proxyRefused(b *proxyFormBody, err error) error {
	wrong := catalog.Problems(err)
	switch {
	case wrong != nil:
	case errors.As(err, &b.Taken):
		wrong = []*catalog.Invalid{{Field: "host", Problem: "another project has " + b.Taken.Host, Remedy: "check the spelling; if the name is yours, do what is written above"}}
	case errors.Is(err, catalog.ErrTaken):
		wrong = []*catalog.Invalid{{Field: "host", Problem: "another project has this name", Remedy: "check the spelling; if the name is yours, ask the operator"}}
	case errors.Is(err, catalog.ErrLimit):
		wrong = []*catalog.Invalid{{Problem: "this project has as many proxies as it may have", Remedy: "delete one that is not needed, or ask the operator for more"}}
	default:
		return err
	}
	b.wrong(wrong)
	return q.proxyFormPage(b)
}

// remember has the form know what it began with.
func (f *form) remember(base values, r store.Revision) {
	f.Hidden = map[string]string{"revision": strconv.FormatInt(int64(r), 10)}
	for name, v := range base {
		f.Hidden["base_"+name] = v
	}
}

func showEdit(q *request) error {
	p, err := q.current()
	if err != nil {
		return err
	}
	b := &proxyFormBody{form: proxyForm(valuesOf(&p), false), Host: p.Host}
	b.remember(valuesOf(&p), p.Revision)
	return q.proxyFormPage(b)
}

// revision is that of the record when its form was opened.
func (q *request) revision() (store.Revision, error) {
	r, err := strconv.ParseInt(q.form("revision"), 10, 64)
	if err != nil || r <= 0 {
		return 0, errNoForm
	}
	return store.Revision(r), nil
}

func edit(q *request) error {
	host := q.r.PathValue("host")
	r, err := q.revision()
	if err != nil {
		return err
	}
	v, base := q.sentValues(""), q.sentValues("base_")
	v["host"], base["host"] = host, host
	b := &proxyFormBody{form: proxyForm(v, false), Host: host}
	b.remember(base, r)
	p, wrong := v.proxy(q.r.PathValue("project"))
	p.Host = host
	if len(wrong) > 0 {
		b.wrong(wrong)
		return q.proxyFormPage(b)
	}
	saved, _, err := q.Catalog.PutProxy(q.r.Context(), q.actor(), p, catalog.Match{Revision: r})
	if errors.Is(err, store.ErrConflict) {
		return q.editConflict(v, base)
	}
	if err != nil {
		return q.proxyRefused(b, err)
	}
	q.applied(saved.Revision)
	done := "saved"
	if saved.Revision == r {
		done = "same"
	}
	return q.goTo(q.proxyPath(host), done)
}

// editConflict shows what somebody else has saved, and what was typed.
func (q *request) editConflict(mine, base values) error {
	p, err := q.current()
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, errNoPage) {
		// It was deleted: the form becomes one that adds it again.
		return q.proxyFormPage(&proxyFormBody{form: proxyForm(mine, true), Conflict: &conflict{Deleted: true}})
	}
	if err != nil {
		return err
	}
	theirs := valuesOf(&p)
	f, changed := mergeProxy(base, mine, theirs)
	b := &proxyFormBody{form: f, Host: p.Host, Conflict: &conflict{Meta: p.Meta, Nothing: !changed}}
	b.Conflict.By, err = q.called(p.Project, p.ChangedBy)
	if err != nil {
		return err
	}
	b.remember(theirs, p.Revision)
	return q.proxyFormPage(b)
}

// deleteBody is the page that asks whether something shall really go.
type deleteBody struct {
	What, Text string
	Action     string
	Cancel     string
	Button     string
	Revision   store.Revision
	Changed    bool // somebody else has changed it since the page was opened
	Problem    string
}

func (q *request) deleteProxyPage(changed bool) error {
	project, err := q.project()
	if err != nil {
		return err
	}
	p, err := q.current()
	if err != nil {
		return err
	}
	b := &deleteBody{
		What: p.Host, Action: q.proxyPath(p.Host, "delete"), Cancel: q.proxyPath(p.Host), Button: "Delete proxy", Revision: p.Revision, Changed: changed,
		Text: "Visitors with IPv4 won't reach the site any more, within a second. The VM and what is on it stay as they are.",
	}
	if p.Proof != catalog.Pending {
		b.Text += " For some days nobody but this project can have the name."
	}
	status := 200
	if changed {
		status = 409
	}
	return q.render(status, "delete", &view{Title: "Delete " + p.Host + "?", Project: &project, Tab: "proxies", Body: b})
}

func showDelete(q *request) error { return q.deleteProxyPage(false) }

func deleteProxy(q *request) error {
	r, err := q.revision()
	if err != nil {
		return err
	}
	project := q.r.PathValue("project")
	gone, err := q.Catalog.DeleteProxy(q.r.Context(), q.actor(), project, q.r.PathValue("host"), catalog.Match{Revision: r})
	if errors.Is(err, store.ErrConflict) {
		return q.deleteProxyPage(true)
	}
	if err != nil {
		return err
	}
	q.applied(gone)
	return q.goTo(join("projects", project), "deleted")
}
