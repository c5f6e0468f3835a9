package page

import (
	"errors"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// nodeRow is a hypervisor.
type nodeRow struct {
	catalog.Node
	State state
}

type nodesBody struct {
	Nodes  []nodeRow
	Newest store.Revision
	Behind int
}

// longBehind is when a node that is behind needs somebody to look at it.
const longBehind = 10 * time.Second

func listNodes(q *request) error {
	all, err := q.aliveNodes(q.r.Context())
	if err != nil {
		return err
	}
	b := &nodesBody{Newest: q.Mirror.View().Changed}
	// When the first of them had it is how long the others are behind, at least.
	since := q.now()
	for _, n := range all {
		if n.Applied >= b.Newest && n.At.Before(since) {
			since = n.At
		}
	}
	for _, n := range all {
		row := nodeRow{n, state{"ok", "Up to date", ""}}
		if n.Applied < b.Newest {
			b.Behind++
			behind := q.now().Sub(since)
			row.State = state{"wait", "Behind for " + span(behind), ""}
			if behind > longBehind {
				row.State.Kind = "bad"
			}
		}
		b.Nodes = append(b.Nodes, row)
	}
	return q.render(200, "hypervisors", &view{Title: "Hypervisors", Tab: "hypervisors", Live: true, Body: b})
}

func showAccept(q *request) error {
	b := &deleteBody{
		Action: "/accept", Cancel: "/hypervisors", Button: "Take the store as it is",
		Text: "A hypervisor that remembers more than the store has takes it for another one, or for an emptied one, and goes on with what it has. If the store was restored from a backup or made anew on purpose, say so here: then all hypervisors serve what is in it, and nothing else. If not, mend the store first.",
	}
	if doubt := q.Mirror.Stats().Doubt; doubt != "" {
		b.Problem = "This hypervisor says: " + doubt + "."
	}
	return q.render(200, "delete", &view{Title: "Take the store as it is?", Tab: "hypervisors", Body: b})
}

func accept(q *request) error {
	if err := q.Catalog.Accept(q.r.Context(), q.actor()); err != nil {
		return err
	}
	return q.goTo("/hypervisors", "accepted")
}

type trustsBody struct {
	Trusts []trustRow
	Form   *form
}

type trustRow struct {
	catalog.Trust
	By string
}

func (q *request) trustsPage(b *trustsBody) error {
	all, err := q.Catalog.Trusts(q.r.Context())
	if err != nil {
		return err
	}
	n, err := q.names(q.r.Context(), "")
	if err != nil {
		return err
	}
	for _, t := range all {
		b.Trusts = append(b.Trusts, trustRow{t, n.of(t.ChangedBy)})
	}
	b.Form.Action = "/trusted"
	return q.render(b.Form.status(), "trusted", &view{Title: "Trusted domains", Tab: "trusted", Body: b})
}

func trustForm() *form {
	return &form{Submit: "Trust", Fields: []*field{
		{Name: "domain", Label: "Domain", Mono: true, Required: true, Hint: "Such as example.com: it stands for all names in it."},
		{Name: "project", Label: "Project", Mono: true, Required: true, Hint: "Its name. It may have all names in the domain, without TXT records."},
	}}
}

func listTrusts(q *request) error { return q.trustsPage(&trustsBody{Form: trustForm()}) }

func putTrust(q *request) error {
	f := trustForm()
	for _, x := range f.Fields {
		x.Value = q.form(x.Name)
	}
	t := catalog.Trust{Domain: hostOf(q.form("domain")), Project: hostOf(q.form("project"))}
	// Absent: to trust another project with a domain, the word has to be taken back
	// first, so that nobody does so by a slip.
	saved, err := q.Catalog.PutTrust(q.r.Context(), q.actor(), t, catalog.Match{Absent: true})
	switch {
	case errors.Is(err, store.ErrConflict):
		err = &catalog.Invalid{Field: "domain", Problem: "a project is trusted with " + t.Domain + " already", Remedy: "remove that one first"}
	case errors.Is(err, catalog.ErrNotFound):
		err = &catalog.Invalid{Field: "project", Problem: "there is no project of that name", Remedy: "look in the list of projects"}
	}
	if wrong := catalog.Problems(err); wrong != nil {
		f.wrong(wrong)
		return q.trustsPage(&trustsBody{Form: f})
	}
	if err != nil {
		return err
	}
	q.applied(saved.Revision)
	return q.goTo("/trusted", "trusted")
}

func (q *request) deleteTrustPage(changed bool) error {
	all, err := q.Catalog.Trusts(q.r.Context())
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.Domain != q.r.PathValue("domain") {
			continue
		}
		status := 200
		if changed {
			status = 409
		}
		return q.render(status, "delete", &view{Title: "Stop trusting " + t.Domain + "?", Tab: "trusted", Body: &deleteBody{
			What: t.Domain, Action: join("trusted", t.Domain, "delete"), Cancel: "/trusted", Button: "Stop trusting", Revision: t.Revision, Changed: changed,
			Text: "Names of project " + t.Project + " in this domain are served on only if their TXT records are there.",
		}})
	}
	return errNoPage
}

func showDeleteTrust(q *request) error { return q.deleteTrustPage(false) }

func deleteTrust(q *request) error {
	r, err := q.revision()
	if err != nil {
		return err
	}
	err = q.Catalog.DeleteTrust(q.r.Context(), q.actor(), q.r.PathValue("domain"), catalog.Match{Revision: r})
	if errors.Is(err, store.ErrConflict) {
		return q.deleteTrustPage(true)
	}
	if err != nil {
		return err
	}
	return q.goTo("/trusted", "untrusted")
}
