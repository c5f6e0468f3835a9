package page

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

type projectRow struct {
	catalog.Project
	Counts summary
}

func listProjects(q *request) error {
	v := q.Mirror.View()
	b := &listBody[projectRow]{Search: q.search(), Counts: summarize(v.Counts())}
	list, next := v.Projects(b.Search, q.r.URL.Query().Get("after"), perPage)
	for _, p := range list {
		b.Rows = append(b.Rows, projectRow{p, summarize(v.ProjectCounts(p.Name))})
	}
	b.pages(q, "after", next)
	return q.render(200, "projects", &view{Title: "Projects", Tab: "projects", Live: true, Body: b})
}

type projectFormBody struct {
	*form
	Name    string // "": it is to be added
	Changed string // by whom, if somebody else has changed it meanwhile
}

func projectForm(v values, adding bool) *form {
	name := &field{Name: "name", Label: "Name", Mono: true, Required: adding, Locked: !adding, Focus: adding, Hint: "Lower-case letters, digits and hyphens. It can't be changed later."}
	if !adding {
		name.Hint = ""
	}
	f := &form{Fields: []*field{
		name,
		{Name: "title", Label: "Title", Hint: "What people call it. May be empty."},
		{Name: "prefixes", Label: "IPv6 prefixes of its VMs", Lines: 3, Mono: true, Hint: "One on each line, such as 2001:db8:64::/64. Proxies lead to addresses in them and nowhere else. If they move, proxies to other addresses stop within a second."},
		{Name: "max_proxies", Label: "Proxies at most", Mode: "numeric", Short: true, Mono: true, Hint: fmt.Sprintf("Empty: %d.", catalog.DefaultMaxProxies)},
	}}
	for _, x := range f.Fields {
		x.Value = v[x.Name]
	}
	return f
}

func projectValues(p *catalog.Project) values {
	v := values{"name": p.Name, "title": p.Title, "prefixes": joinPrefixes(p.Prefixes, "\n")}
	if p.Proxies != 0 {
		v["max_proxies"] = strconv.Itoa(p.Proxies)
	}
	return v
}

func (q *request) sentProject() values {
	v := values{}
	for _, name := range []string{"name", "title", "prefixes", "max_proxies"} {
		v[name] = strings.TrimSpace(strings.ReplaceAll(q.form(name), "\r\n", "\n"))
	}
	return v
}

func (v values) project() (p catalog.Project, wrong []*catalog.Invalid) {
	p = catalog.Project{Name: strings.ToLower(v["name"]), Title: v["title"]}
	for _, w := range addressWords(v["prefixes"]) {
		x, err := netip.ParsePrefix(w)
		if err != nil {
			wrong = append(wrong, &catalog.Invalid{Field: "prefixes", Problem: fmt.Sprintf("%q is no IPv6 prefix", cut(w, 60)), Remedy: `write one such as "2001:db8:64::/64"`})
			continue
		}
		p.Prefixes = append(p.Prefixes, x)
	}
	if s := v["max_proxies"]; s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			wrong = append(wrong, &catalog.Invalid{Field: "max_proxies", Problem: fmt.Sprintf("%q is no number", cut(s, 20)), Remedy: "write one, or leave it empty"})
		}
		p.Proxies = n
	}
	return p, wrong
}

func (q *request) projectFormPage(b *projectFormBody) error {
	v := &view{Title: "Add a project", Tab: "projects", Body: b}
	b.Action, b.Submit, b.Cancel = "/add-project", "Add project", "/projects"
	if b.Name != "" {
		project, err := q.project()
		if err != nil {
			return err
		}
		v.Title, v.Tab, v.Project = "Settings", "settings", &project
		b.Action, b.Submit, b.Cancel = join("projects", b.Name, "settings"), "Save", join("projects", b.Name)
	}
	status := b.status()
	if b.Changed != "" {
		status = 409
	}
	return q.render(status, "project-form", v)
}

func showAddProject(q *request) error {
	return q.projectFormPage(&projectFormBody{form: projectForm(values{}, true)})
}

func addProject(q *request) error {
	v := q.sentProject()
	b := &projectFormBody{form: projectForm(v, true)}
	p, wrong := v.project()
	if len(wrong) > 0 {
		b.wrong(wrong)
		return q.projectFormPage(b)
	}
	saved, err := q.Catalog.PutProject(q.r.Context(), q.actor(), p, catalog.Match{Absent: true})
	if errors.Is(err, store.ErrConflict) {
		err = &catalog.Invalid{Field: "name", Problem: "there is a project " + p.Name + " already", Remedy: "choose another name"}
	}
	if wrong := catalog.Problems(err); wrong != nil {
		b.wrong(wrong)
		return q.projectFormPage(b)
	}
	if err != nil {
		return err
	}
	q.applied(saved.Revision)
	return q.goTo(join("projects", saved.Name, "tokens"), "project-added")
}

func showProject(q *request) error {
	p, err := q.Catalog.Project(q.r.Context(), q.r.PathValue("project"))
	if err != nil {
		return err
	}
	b := &projectFormBody{form: projectForm(projectValues(&p), false), Name: p.Name}
	b.Hidden = map[string]string{"revision": fmt.Sprint(p.Revision)}
	return q.projectFormPage(b)
}

func editProject(q *request) error {
	name := q.r.PathValue("project")
	r, err := q.revision()
	if err != nil {
		return err
	}
	v := q.sentProject()
	v["name"] = name
	b := &projectFormBody{form: projectForm(v, false), Name: name}
	b.Hidden = map[string]string{"revision": fmt.Sprint(r)}
	p, wrong := v.project()
	if len(wrong) > 0 {
		b.wrong(wrong)
		return q.projectFormPage(b)
	}
	saved, err := q.Catalog.PutProject(q.r.Context(), q.actor(), p, catalog.Match{Revision: r})
	if errors.Is(err, store.ErrConflict) {
		return q.projectConflict(b, v)
	}
	if wrong := catalog.Problems(err); wrong != nil {
		b.wrong(wrong)
		return q.projectFormPage(b)
	}
	if err != nil {
		return err
	}
	q.applied(saved.Revision)
	done := "saved"
	if saved.Revision == r {
		done = "same"
	}
	return q.goTo(join("projects", name, "settings"), done)
}

// projectConflict shows what was typed beside what somebody else has saved.
func (q *request) projectConflict(b *projectFormBody, mine values) error {
	p, err := q.Catalog.Project(q.r.Context(), b.Name)
	if err != nil {
		return err
	}
	theirs := projectValues(&p)
	for _, x := range b.Fields {
		if !mine.same(theirs, x.Name) {
			x.Theirs = strings.Join(strings.Fields(theirs[x.Name]), " ")
			if x.Theirs == "" {
				x.Theirs = "empty"
			}
		}
	}
	b.Hidden["revision"] = fmt.Sprint(p.Revision)
	if b.Changed, err = q.called("", p.ChangedBy); err != nil {
		return err
	}
	return q.projectFormPage(b)
}

func (q *request) deleteProjectPage(changed bool, problem string) error {
	p, err := q.Catalog.Project(q.r.Context(), q.r.PathValue("project"))
	if err != nil {
		return err
	}
	b := &deleteBody{
		What: p.Name, Action: join("projects", p.Name, "delete"), Cancel: join("projects", p.Name, "settings"), Button: "Delete project",
		Revision: p.Revision, Changed: changed, Problem: problem,
		Text: "Its tokens stop working, and domains that it is trusted with are trusted no more. It can't go while it has proxies.",
	}
	status := 200
	if changed || problem != "" {
		status = 409
	}
	return q.render(status, "delete", &view{Title: "Delete project " + p.Name + "?", Project: &p, Tab: "settings", Body: b})
}

func showDeleteProject(q *request) error { return q.deleteProjectPage(false, "") }

func deleteProject(q *request) error {
	r, err := q.revision()
	if err != nil {
		return err
	}
	gone, err := q.Catalog.DeleteProject(q.r.Context(), q.actor(), q.r.PathValue("project"), catalog.Match{Revision: r})
	switch {
	case errors.Is(err, store.ErrConflict):
		return q.deleteProjectPage(true, "")
	case errors.Is(err, catalog.ErrInUse):
		return q.deleteProjectPage(false, "The project still has proxies. Delete them first.")
	case err != nil:
		return err
	}
	q.applied(gone)
	return q.goTo("/projects", "project-deleted")
}
