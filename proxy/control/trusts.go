package control

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"aarch64.com/isthmus/proxy/control/internal/params"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

func (a *api) addTrusts() {
	tag := []string{"trusts"}
	find := func(ctx context.Context, c *Config, domain string) (t catalog.Trust, err error) {
		all, err := c.Catalog.Trusts(ctx)
		if err != nil {
			return t, err
		}
		for _, t := range all {
			if t.Domain == domain {
				return t, nil
			}
		}
		return t, wire.Refuse(http.StatusNotFound, "nobody is trusted with %q", echo(domain))
	}
	match := func(ctx context.Context, c *Config, h *params.Conditions, domain string) (catalog.Match, error) {
		return h.Match(func() (store.Revision, error) {
			t, err := find(ctx, c, domain)
			return t.Revision, absent(err)
		})
	}
	add(a, huma.Operation{OperationID: "list-trusts", Method: http.MethodGet, Path: "/trusts", Tags: tag,
		Summary: "List the domains that projects are trusted with"},
		catalog.Operator, func(ctx context.Context, c *Config, in *params.Page) (*listed[wire.Trust], error) {
			all, err := c.Catalog.Trusts(ctx)
			if err != nil {
				return nil, err
			}
			items, next := cut(all, in, func(t *catalog.Trust) string { return t.Domain }, trust)
			return &listed[wire.Trust]{Body: wire.List[wire.Trust]{Items: items, Next: next}}, nil
		})
	add(a, huma.Operation{OperationID: "get-trust", Method: http.MethodGet, Path: "/trusts/{domain}", Tags: tag,
		Summary: "Ask who is trusted with a domain"},
		catalog.Operator, func(ctx context.Context, c *Config, in *params.InTrust) (*one[wire.Trust], error) {
			t, err := find(ctx, c, in.Domain)
			if err != nil {
				return nil, err
			}
			return put(false, "", t.Revision, 0, trust(&t)), nil
		})
	add(a, huma.Operation{OperationID: "put-trust", Method: http.MethodPut, Path: "/trusts/{domain}", Tags: tag, Errors: changing,
		Summary: "Trust a project with a domain", Description: "It may have all names in it without proof."},
		catalog.Operator, func(ctx context.Context, c *Config, in *struct {
			params.InTrust
			params.Conditions
			Body wire.PutTrust
		}) (*one[wire.Trust], error) {
			m, err := match(ctx, c, &in.Conditions, in.Domain)
			if err != nil {
				return nil, err
			}
			t, err := c.Catalog.PutTrust(ctx, actor(ctx), catalog.Trust{Domain: in.Domain, Project: in.Body.Project}, m)
			if err != nil {
				return nil, err
			}
			return put(false, "", t.Revision, 0, trust(&t)), nil
		})
	add(a, huma.Operation{OperationID: "delete-trust", Method: http.MethodDelete, Path: "/trusts/{domain}", Tags: tag, Errors: changing, DefaultStatus: http.StatusNoContent,
		Summary: "Take the trust back", Description: "Names in the domain are served on if their TXT records are there."},
		catalog.Operator, func(ctx context.Context, c *Config, in *struct {
			params.InTrust
			params.Conditions
		}) (*struct{}, error) {
			m, err := match(ctx, c, &in.Conditions, in.Domain)
			if err != nil {
				return nil, err
			}
			return &struct{}{}, c.Catalog.DeleteTrust(ctx, actor(ctx), in.Domain, m)
		})
}

func trust(t *catalog.Trust) wire.Trust {
	return wire.Trust{Domain: t.Domain, Project: t.Project, Made: made(&t.Meta)}
}
