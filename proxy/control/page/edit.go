package page

import (
	"errors"
	"strconv"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// proxyFormBody is the page of a form for a proxy.
type proxyFormBody struct {
	*form
	Host     string // "": it is to be added
	Taken    *catalog.Taken
	Conflict *conflict
}

// conflict says who else has changed it.
type conflict struct {
	By      string
	Meta    catalog.Meta
	Deleted bool
	Nothing bool // their change is in no field that is shown
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
