package control

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/internal/params"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

func (a *api) addOthers() {
	tag := []string{"others"}
	type answer[T any] struct{ Body T }

	add(a, huma.Operation{OperationID: "get-me", Method: http.MethodGet, Path: "/me", Tags: tag,
		Summary: "Ask who you are", Description: "What the token may do, and until when."},
		"", func(ctx context.Context, c *Config, _ *struct{}) (*answer[wire.Me], error) {
			who := access.From(ctx)
			me := wire.Me{By: who.By(), Operator: who.Operator(), CNAMEs: c.cnames()}
			if who.Local == "" {
				t := token(&who.Token)
				me.Token = &t
			}
			return &answer[wire.Me]{me}, nil
		})

	add(a, huma.Operation{OperationID: "get-live", Method: http.MethodGet, Path: "/live", Tags: tag,
		Summary: "Ask how many nodes serve a revision", Description: "A change has arrived everywhere when live is nodes."},
		"", func(ctx context.Context, c *Config, in *struct {
			Revision int64 `query:"revision" required:"true" minimum:"1" doc:"What Isthmus-Revision said after the change"`
		}) (*answer[wire.Live], error) {
			live, err := c.live(ctx, store.Revision(in.Revision))
			if err != nil {
				return nil, err
			}
			return &answer[wire.Live]{live}, nil
		})

	add(a, huma.Operation{OperationID: "list-nodes", Method: http.MethodGet, Path: "/nodes", Tags: tag,
		Summary: "List the nodes that are alive", Description: "In the order of their names."},
		catalog.Operator, func(ctx context.Context, c *Config, _ *struct{}) (*listed[wire.Node], error) {
			all, err := c.Catalog.Nodes(ctx)
			if err != nil {
				return nil, err
			}
			out := &listed[wire.Node]{Revision: number(c.Mirror.View().Revision), Body: wire.List[wire.Node]{Items: make([]wire.Node, len(all))}}
			for i, n := range all {
				out.Body.Items[i] = wire.Node{Name: n.Name, POP: n.POP, Version: n.Version, Started: n.Started, Applied: int64(n.Applied), At: n.At, Routes: n.Routes, Skipped: n.Skipped}
			}
			return out, nil
		})

	add(a, huma.Operation{OperationID: "list-holds", Method: http.MethodGet, Path: "/holds", Tags: tag,
		Summary: "List the names that are kept from others for a while", Description: "In the order of names."},
		catalog.Operator, func(ctx context.Context, c *Config, in *params.Page) (*listed[wire.Hold], error) {
			all, err := c.Catalog.Holds(ctx, "")
			if err != nil {
				return nil, err
			}
			items, next := cut(all, in, func(h *catalog.Hold) string { return h.Host }, func(h *catalog.Hold) wire.Hold { return wire.Hold(*h) })
			return &listed[wire.Hold]{Body: wire.List[wire.Hold]{Items: items, Next: next}}, nil
		})
	add(a, huma.Operation{OperationID: "delete-hold", Method: http.MethodDelete, Path: "/holds/{host}", Tags: tag, DefaultStatus: http.StatusNoContent,
		Summary: "Let all projects have a name at once"},
		catalog.Operator, func(ctx context.Context, c *Config, in *params.InHold) (*struct{}, error) {
			return &struct{}{}, c.Catalog.DeleteHold(ctx, actor(ctx), in.Host)
		})
	add(a, huma.Operation{OperationID: "accept-store", Method: http.MethodPost, Path: "/accept", Tags: tag, DefaultStatus: http.StatusNoContent,
		Summary: "Take the store as it is", Description: "Nodes that remember more than the store has take it for another one, or an emptied one, and go on with what they have until an operator says so."},
		catalog.Operator, func(ctx context.Context, c *Config, _ *struct{}) (*struct{}, error) {
			return &struct{}{}, c.Catalog.Accept(ctx, actor(ctx))
		})

	add(a, huma.Operation{OperationID: "list-audit", Method: http.MethodGet, Path: "/audit", Tags: tag,
		Summary: "List all changes", Description: "The newest first."},
		catalog.Operator, func(ctx context.Context, c *Config, in *params.Back) (*listed[wire.Audit], error) {
			return listAudit(ctx, c, "", in.Before, in.Limit)
		})
	add(a, huma.Operation{OperationID: "list-project-audit", Method: http.MethodGet, Path: "/projects/{project}/audit", Tags: tag,
		Summary: "List a project's changes", Description: "The newest first."},
		catalog.Read, func(ctx context.Context, c *Config, in *struct {
			params.InProject
			params.Back
		}) (*listed[wire.Audit], error) {
			return listAudit(ctx, c, in.Project, in.Before, in.Limit)
		})
}

func listAudit(ctx context.Context, c *Config, project, before string, n int) (*listed[wire.Audit], error) {
	all, next, err := c.Catalog.AuditLog(ctx, project, before, n)
	if err != nil {
		return nil, err
	}
	out := &listed[wire.Audit]{Body: wire.List[wire.Audit]{Items: make([]wire.Audit, len(all)), Next: next}}
	for i, r := range all {
		out.Body.Items[i] = wire.Audit{ID: r.ID, At: r.At, By: r.By, From: r.From, Project: r.Project, Action: r.Action, Target: r.Target, Before: r.Before, After: r.After}
	}
	return out, nil
}

// live counts the nodes that serve a revision.
func (c *Config) live(ctx context.Context, r store.Revision) (wire.Live, error) {
	all, err := c.shared.nodes.get(ctx, c.Catalog.Nodes)
	if err != nil {
		return wire.Live{}, err
	}
	l := wire.Live{Nodes: len(all)}
	for i := range all {
		if all[i].Applied >= r {
			l.Live++
		}
	}
	return l, nil
}
