package control

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"aarch64.com/isthmus/proxy/control/internal/params"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
)

// Tokens are made by operators only: one that could make others would outlive its
// own revocation. Whoever may write in a project can end its tokens.
func (a *api) addTokens() {
	tag := []string{"tokens"}
	add(a, huma.Operation{OperationID: "list-tokens", Method: http.MethodGet, Path: "/tokens", Tags: tag,
		Summary: "List all tokens"},
		catalog.Operator, func(ctx context.Context, c *Config, in *params.Tokens) (*listed[wire.Token], error) {
			return listTokens(ctx, c, "", &in.Page, in.Sessions)
		})
	add(a, huma.Operation{OperationID: "list-project-tokens", Method: http.MethodGet, Path: "/projects/{project}/tokens", Tags: tag,
		Summary: "List a project's tokens"},
		catalog.Read, func(ctx context.Context, c *Config, in *struct {
			params.InProject
			params.Tokens
		}) (*listed[wire.Token], error) {
			return listTokens(ctx, c, in.Project, &in.Page, in.Sessions)
		})
	add(a, huma.Operation{OperationID: "create-token", Method: http.MethodPost, Path: "/tokens", Tags: tag, DefaultStatus: http.StatusCreated, Errors: making,
		Summary: "Make a token", Description: "The secret is shown this once: only what it hashes to is kept."},
		catalog.Operator, func(ctx context.Context, c *Config, in *struct{ Body wire.PostToken }) (*one[wire.NewToken], error) {
			secret, t, err := c.Catalog.CreateToken(ctx, actor(ctx), catalog.Token{
				Name: in.Body.Name, Project: in.Body.Project, Verb: catalog.Verb(in.Body.Verb), Expires: in.Body.Expires,
			})
			if err != nil {
				return nil, err
			}
			c.shared.tokens.forget()
			return &one[wire.NewToken]{
				Status: http.StatusCreated, ETag: params.Tag(t.Revision),
				Body: wire.NewToken{Token: token(&t), Secret: secret},
			}, nil
		})
	add(a, huma.Operation{OperationID: "revoke-token", Method: http.MethodDelete, Path: "/tokens/{id}", Tags: tag, DefaultStatus: http.StatusNoContent,
		Summary: "End a token", Description: "It ends at once on this node, and within a second on all others."},
		catalog.Operator, func(ctx context.Context, c *Config, in *params.InToken) (*struct{}, error) {
			return revoke(ctx, c, "", in.ID)
		})
	add(a, huma.Operation{OperationID: "revoke-project-token", Method: http.MethodDelete, Path: "/projects/{project}/tokens/{id}", Tags: tag, DefaultStatus: http.StatusNoContent,
		Summary: "End a project's token", Description: "It ends at once on this node, and within a second on all others."},
		catalog.Write, func(ctx context.Context, c *Config, in *struct {
			params.InProject
			params.InToken
		}) (*struct{}, error) {
			return revoke(ctx, c, in.Project, in.ID)
		})
}

func listTokens(ctx context.Context, c *Config, project string, p *params.Page, sessions bool) (*listed[wire.Token], error) {
	every, err := c.shared.tokens.get(ctx, func(ctx context.Context) ([]catalog.Token, error) { return c.Catalog.Tokens(ctx, "") })
	if err != nil {
		return nil, err
	}
	var all []catalog.Token
	for _, t := range every {
		if (project == "" || t.Project == project) && (sessions || t.Parent == "") {
			all = append(all, t)
		}
	}
	items, next := cut(all, p, func(t *catalog.Token) string { return t.ID }, token)
	return &listed[wire.Token]{Body: wire.List[wire.Token]{Items: items, Next: next}}, nil
}

func revoke(ctx context.Context, c *Config, project, id string) (*struct{}, error) {
	if err := c.Catalog.RevokeToken(ctx, actor(ctx), project, id); err != nil {
		return nil, err
	}
	c.Guard.Revoked(id)
	c.shared.tokens.forget()
	return &struct{}{}, nil
}

func token(t *catalog.Token) wire.Token {
	return wire.Token{ID: t.ID, Name: t.Name, Project: t.Project, Verb: string(t.Verb), Expires: t.Expires, Parent: t.Parent, Made: made(&t.Meta)}
}
