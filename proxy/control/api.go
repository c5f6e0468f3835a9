package control

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

// base is where the API is.
const base = "/api/v1"

// Version is the API's. A change that old clients do not understand goes below
// another base.
const Version = "1.0"

// maxBody bounds a body in bytes; the largest that makes sense has about 4000.
// That of an import has its own bound.
const maxBody = 32 << 10

// api is the operations below base. The library routes and checks requests; who
// asks has been found out before.
type api struct {
	config func() *Config
	mux    *http.ServeMux
	huma   huma.API
	body   time.Duration
}

func newAPI(config func() *Config, body time.Duration) *api {
	a := &api{config: config, mux: http.NewServeMux(), body: body}
	a.huma = humago.New(a.mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "isthmus",
				Version:     Version,
				Description: description,
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "A token of a project or of an operator."},
				},
			},
			Security: []map[string][]string{{"token": {}}},
			Tags:     tags,
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat}, // the latter for +json
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	})
	a.addProjects()
	a.addProxies()
	a.addTokens()
	a.addTrusts()
	a.addOthers()
	a.addBulk()
	a.finish()
	return a
}

// add makes an operation that needs a verb in the project of its path, or without
// one as such.
func add[I, O any](a *api, op huma.Operation, verb catalog.Verb, f func(ctx context.Context, c *Config, in *I) (*O, error)) {
	op.Path = base + op.Path
	op.MaxBodyBytes = max(op.MaxBodyBytes, maxBody)
	op.BodyReadTimeout = a.body
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		if p := allowed(access.From(ctx.Context()), verb, ctx); p != nil {
			_ = writeProblem(ctx, p)
			return
		}
		next(ctx)
	})
	op.Errors = append(op.Errors, common...)
	op.Description = strings.TrimSpace(op.Description + needs(verb))
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		c := a.config()
		out, err := f(ctx, c, in)
		if err != nil {
			return nil, c.failure(ctx, &op, err)
		}
		return out, nil
	})
}

// allowed says why a principal may not do what an operation does, or nil. A project
// that is not the principal's is one that does not exist.
func allowed(p access.Principal, verb catalog.Verb, ctx huma.Context) *wire.Problem {
	project := ctx.Param("project")
	switch {
	case project == "" && verb == catalog.Operator && !p.Operator(),
		project != "" && p.May(catalog.Read, project) && !p.May(verb, project):
		return forbidden(p, verb)
	case project != "" && !p.May(catalog.Read, project):
		return wire.Refuse(http.StatusNotFound, noProject, echo(project))
	}
	return nil
}

func forbidden(p access.Principal, verb catalog.Verb) *wire.Problem {
	return wire.Refuse(http.StatusForbidden, "this token may %s; what is asked for needs one that may %s", verbs(p.Token.Verb), verbs(verb))
}

const noProject = "there is no project %q"

// verbs says what a verb means.
func verbs(v catalog.Verb) string {
	switch v {
	case catalog.Read:
		return "read in its project"
	case catalog.Write:
		return "change proxies in its project"
	case catalog.Operator:
		return "do all that operators may"
	}
	return "do nothing"
}

func needs(v catalog.Verb) string {
	switch v {
	case catalog.Write:
		return " Needs a token that may write."
	case catalog.Operator:
		return " For operators."
	}
	return ""
}

// writeProblem answers in the place of an operation.
func writeProblem(ctx huma.Context, p *wire.Problem) error {
	ctx.SetHeader("Content-Type", wire.ProblemType)
	ctx.SetStatus(p.Status)
	return jsonFormat.Marshal(ctx.BodyWriter(), p)
}

// actor is who changes something, for the audit log.
func actor(ctx context.Context) catalog.Actor {
	a := catalog.Actor{By: access.From(ctx).By()}
	if from, ok := ctx.Value(fromKey{}).(string); ok {
		a.From = from
	}
	return a
}
