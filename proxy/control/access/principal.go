package access

import (
	"context"

	"aarch64.com/isthmus/proxy/routes/catalog"
)

// Principal is who asks. Its zero value may do nothing.
type Principal struct {
	Token catalog.Token // of whoever came with one
	Local string        // who came over the Unix socket, such as "root"; ""
}

// By is what records of changes call this one.
func (p Principal) By() string {
	if p.Local != "" {
		return p.Local
	}
	return p.Token.ID
}

// Operator tells whether everything is allowed.
func (p Principal) Operator() bool { return p.Local != "" || p.Token.Verb == catalog.Operator }

// May tells whether a verb is allowed in a project. Who may not even read it must
// not learn that it exists.
func (p Principal) May(verb catalog.Verb, project string) bool {
	return p.Local != "" || p.Token.May(verb, project)
}

type key struct{}

// With gives a context that says who asks.
func With(ctx context.Context, p Principal) context.Context { return context.WithValue(ctx, key{}, p) }

// From is who asks, as With has said.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(key{}).(Principal)
	return p
}
