package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/internal/params"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// listed is the answer with a list.
type listed[T any] struct {
	Revision string `header:"Isthmus-Revision" doc:"Revision that the answer is of"`
	Body     wire.List[T]
}

// one is the answer with one thing.
type one[T any] struct {
	Status   int
	ETag     string `header:"ETag" doc:"For If-Match"`
	Revision string `header:"Isthmus-Revision" doc:"Revision that the answer is of, or that the change has"`
	Location string `header:"Location" doc:"Where it is, if it is new"`
	Body     T
}

// gone is the answer to a deletion.
type gone struct {
	Revision string `header:"Isthmus-Revision" doc:"Revision of the change"`
}

// notModified is the answer to who has it already.
func notModified(etag string) error {
	return huma.ErrorWithHeaders(wire.Refuse(http.StatusNotModified, ""), http.Header{"Etag": {etag}})
}

// number is a revision in a header; none is left out. Only those of what nodes copy
// are told: nodes would wait for others in vain.
func number(r store.Revision) string {
	if r == 0 {
		return ""
	}
	return strconv.FormatInt(int64(r), 10)
}

func (a *api) addProjects() {
	tag := []string{"projects"}
	const all, this = "/projects", "/projects/{project}"
	add(a, huma.Operation{OperationID: "list-projects", Method: http.MethodGet, Path: all, Tags: tag,
		Summary: "List projects", Description: "Operators see all, others their own. In the order of their names."},
		"", listProjects)
	add(a, huma.Operation{OperationID: "get-project", Method: http.MethodGet, Path: this, Tags: tag,
		Summary: "Read a project"},
		catalog.Read, getProject)
	add(a, huma.Operation{OperationID: "put-project", Method: http.MethodPut, Path: this, Tags: tag, Errors: changing,
		Summary: "Make or change a project", Description: "If its prefixes change, its proxies that lead elsewhere are not served any more."},
		catalog.Operator, putProject)
	add(a, huma.Operation{OperationID: "delete-project", Method: http.MethodDelete, Path: this, Tags: tag, Errors: changing, DefaultStatus: http.StatusNoContent,
		Summary: "Delete a project", Description: "It must have no proxies any more. Its tokens end with it."},
		catalog.Operator, deleteProject)
}

func listProjects(ctx context.Context, c *Config, in *params.Projects) (*listed[wire.Project], error) {
	v, who := c.Mirror.View(), access.From(ctx)
	var list []catalog.Project
	next := ""
	if who.Operator() {
		list, next = v.Projects(in.Search, in.After, in.Limit)
	} else if p, ok := v.Project(who.Token.Project); ok && in.After < p.Name && has(&p, strings.ToLower(in.Search)) {
		list = append(list, p)
	}
	out := &listed[wire.Project]{Revision: number(v.Revision), Body: wire.List[wire.Project]{Items: make([]wire.Project, len(list)), Next: next}}
	for i := range list {
		out.Body.Items[i] = project(&list[i])
	}
	return out, nil
}

func has(p *catalog.Project, text string) bool {
	return strings.Contains(p.Name, text) || strings.Contains(strings.ToLower(p.Title), text)
}

func getProject(_ context.Context, c *Config, in *struct {
	params.InProject
	params.Known
}) (*one[wire.Project], error) {
	v := c.Mirror.View()
	p, ok := v.Project(in.Project)
	if !ok {
		return nil, wire.Refuse(http.StatusNotFound, noProject, echo(in.Project))
	}
	etag := params.Tag(p.Revision)
	if in.Has(etag) {
		return nil, notModified(etag)
	}
	return &one[wire.Project]{Status: http.StatusOK, ETag: etag, Revision: number(v.Revision), Body: project(&p)}, nil
}

// matchProject is what If-Match means for a project.
func (c *Config) matchProject(ctx context.Context, name string, h *params.Conditions) (catalog.Match, error) {
	return h.Match(func() (store.Revision, error) {
		p, err := c.Catalog.Project(ctx, name)
		return p.Revision, absent(err)
	})
}

func putProject(ctx context.Context, c *Config, in *struct {
	params.InProject
	params.Conditions
	Body wire.PutProject
}) (*one[wire.Project], error) {
	p := catalog.Project{Name: in.Project, Title: in.Body.Title, Proxies: in.Body.MaxProxies}
	var err error
	if p.Prefixes, err = prefixes(in.Body.Prefixes); err != nil {
		return nil, err
	}
	m, err := c.matchProject(ctx, in.Project, &in.Conditions)
	if err != nil {
		return nil, err
	}
	_, err = c.Catalog.Project(ctx, in.Project)
	created := errors.Is(err, catalog.ErrNotFound)
	if err = absent(err); err != nil {
		return nil, err
	}
	if p, err = c.Catalog.PutProject(ctx, actor(ctx), p, m); err != nil {
		return nil, err
	}
	c.applied(ctx, p.Revision)
	return put(created, base+"/projects/"+p.Name, p.Revision, p.Revision, project(&p)), nil
}

func deleteProject(ctx context.Context, c *Config, in *struct {
	params.InProject
	params.Conditions
}) (*gone, error) {
	m, err := c.matchProject(ctx, in.Project, &in.Conditions)
	if err != nil {
		return nil, err
	}
	r, err := c.Catalog.DeleteProject(ctx, actor(ctx), in.Project, m)
	if err != nil {
		return nil, err
	}
	c.applied(ctx, r)
	return &gone{number(r)}, nil
}

// absent makes the lack of a record no error.
func absent(err error) error {
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	return err
}

// put is the answer to a PUT.
func put[T any](created bool, location string, etag, revision store.Revision, body T) *one[T] {
	out := &one[T]{Status: http.StatusOK, ETag: params.Tag(etag), Revision: number(revision), Body: body}
	if created {
		out.Status, out.Location = http.StatusCreated, location
	}
	return out
}

// prefixes reads prefixes, each with its place in the errors.
func prefixes(list []string) ([]netip.Prefix, error) {
	all := make([]netip.Prefix, len(list))
	var wrong catalog.Invalids
	for i, s := range list {
		var err error
		if all[i], err = netip.ParsePrefix(s); err != nil {
			wrong = append(wrong, &catalog.Invalid{Field: fmt.Sprintf("prefixes[%d]", i), Problem: fmt.Sprintf("%q is no prefix", echo(s)), Remedy: `write one such as "2001:db8:64::/64"`})
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return all, nil
}

func made(m *catalog.Meta) wire.Made {
	return wire.Made{Created: m.Created, CreatedBy: m.CreatedBy, Changed: m.Changed, ChangedBy: m.ChangedBy, Revision: int64(m.Revision)}
}

func project(p *catalog.Project) wire.Project {
	return wire.Project{Name: p.Name, Title: p.Title, Prefixes: nonNil(p.Prefixes), MaxProxies: p.Limit(), Made: made(&p.Meta)}
}

// nonNil is a list in JSON, also an empty one.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// cut gives a page of a list that is in the order of its keys.
func cut[T, W any](all []T, p *params.Page, key func(*T) string, out func(*T) W) (items []W, next string) {
	items = []W{}
	last := ""
	for i := range all {
		if key(&all[i]) <= p.After {
			continue
		}
		if len(items) == p.Limit {
			return items, last
		}
		items, last = append(items, out(&all[i])), key(&all[i])
	}
	return items, ""
}
