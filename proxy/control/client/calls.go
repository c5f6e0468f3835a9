package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"time"

	"aarch64.com/isthmus/proxy/control/wire"
)

// join makes a path of parts, each escaped.
func join(parts ...string) string {
	path := ""
	for _, p := range parts {
		path += "/" + url.PathEscape(p)
	}
	return path
}

// get reads one thing.
func get[T any](ctx context.Context, c *Client, path string) (v T, a Answer, err error) {
	a, err = c.do(ctx, http.MethodGet, path, nil, nil, &v)
	return v, a, err
}

// list reads all pages of a list, one after another.
func list[T any](ctx context.Context, c *Client, path, cursor string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q := url.Values{"limit": {"1000"}}
		for k, v := range query {
			q[k] = v
		}
		for {
			page, _, err := get[wire.List[T]](ctx, c, path+"?"+q.Encode())
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, v := range page.Items {
				if !yield(v, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.Set(cursor, page.Next)
		}
	}
}

// Me asks who asks.
func (c *Client) Me(ctx context.Context) (wire.Me, error) {
	me, _, err := get[wire.Me](ctx, c, "/me")
	return me, err
}

// Projects lists those that may be seen, by name.
func (c *Client) Projects(ctx context.Context) iter.Seq2[wire.Project, error] {
	return list[wire.Project](ctx, c, "/projects", "after", nil)
}

// Project reads one.
func (c *Client) Project(ctx context.Context, name string) (wire.Project, Answer, error) {
	return get[wire.Project](ctx, c, join("projects", name))
}

// PutProject makes or changes one.
func (c *Client) PutProject(ctx context.Context, name string, p wire.PutProject, cond If) (saved wire.Project, a Answer, err error) {
	a, err = c.do(ctx, http.MethodPut, join("projects", name), &cond, p, &saved)
	return saved, a, err
}

// DeleteProject deletes one that has no proxies.
func (c *Client) DeleteProject(ctx context.Context, name string, cond If) (Answer, error) {
	return c.do(ctx, http.MethodDelete, join("projects", name), &cond, nil, nil)
}

// Proxies lists those of a project, by host name; with a search, those with it in
// their host names.
func (c *Client) Proxies(ctx context.Context, project, search string) iter.Seq2[wire.Proxy, error] {
	query := url.Values{}
	if search != "" {
		query.Set("search", search)
	}
	return list[wire.Proxy](ctx, c, join("projects", project, "proxies"), "after", query)
}

// Proxy reads one.
func (c *Client) Proxy(ctx context.Context, project, host string) (wire.Proxy, Answer, error) {
	return get[wire.Proxy](ctx, c, join("projects", project, "proxies", host))
}

// PutProxy adds or changes one.
func (c *Client) PutProxy(ctx context.Context, project, host string, p wire.PutProxy, cond If) (saved wire.Proxy, a Answer, err error) {
	a, err = c.do(ctx, http.MethodPut, join("projects", project, "proxies", host), &cond, p, &saved)
	return saved, a, err
}

// DeleteProxy deletes one.
func (c *Client) DeleteProxy(ctx context.Context, project, host string, cond If) (Answer, error) {
	return c.do(ctx, http.MethodDelete, join("projects", project, "proxies", host), &cond, nil, nil)
}

// State asks how far a proxy has come.
func (c *Client) State(ctx context.Context, project, host string) (wire.State, error) {
	s, _, err := get[wire.State](ctx, c, join("projects", project, "proxies", host, "state"))
	return s, err
}

// Check has the server look into the DNS for a proxy now.
func (c *Client) Check(ctx context.Context, project, host string) (found wire.Check, err error) {
	_, err = c.do(ctx, http.MethodPost, join("projects", project, "proxies", host, "check"), nil, nil, &found)
	return found, err
}

// inProject is where something of a project is, or of all if it is "".
func inProject(project string, parts ...string) string {
	if project == "" {
		return join(parts...)
	}
	return join("projects", project) + join(parts...)
}

// Tokens lists those of a project, or all if it is "".
func (c *Client) Tokens(ctx context.Context, project string) iter.Seq2[wire.Token, error] {
	return list[wire.Token](ctx, c, inProject(project, "tokens"), "after", nil)
}

// CreateToken makes one. Its secret is in the answer, and nowhere later.
func (c *Client) CreateToken(ctx context.Context, t wire.PostToken) (made wire.NewToken, err error) {
	_, err = c.do(ctx, http.MethodPost, "/tokens", nil, t, &made)
	return made, err
}

// RevokeToken ends one, of a project or of any if that is "".
func (c *Client) RevokeToken(ctx context.Context, project, id string) error {
	_, err := c.do(ctx, http.MethodDelete, inProject(project, "tokens", id), nil, nil, nil)
	return err
}

// Trusts lists the domains that projects are trusted with.
func (c *Client) Trusts(ctx context.Context) iter.Seq2[wire.Trust, error] {
	return list[wire.Trust](ctx, c, "/trusts", "after", nil)
}

// PutTrust trusts a project with a domain.
func (c *Client) PutTrust(ctx context.Context, domain, project string, cond If) (saved wire.Trust, a Answer, err error) {
	a, err = c.do(ctx, http.MethodPut, join("trusts", domain), &cond, wire.PutTrust{Project: project}, &saved)
	return saved, a, err
}

// DeleteTrust takes that back.
func (c *Client) DeleteTrust(ctx context.Context, domain string, cond If) error {
	_, err := c.do(ctx, http.MethodDelete, join("trusts", domain), &cond, nil, nil)
	return err
}

// Nodes lists those that are alive.
func (c *Client) Nodes(ctx context.Context) ([]wire.Node, error) {
	all, _, err := get[wire.List[wire.Node]](ctx, c, "/nodes")
	return all.Items, err
}

// Audit lists changes, of a project or all if it is "", the newest first.
func (c *Client) Audit(ctx context.Context, project string) iter.Seq2[wire.Audit, error] {
	return list[wire.Audit](ctx, c, inProject(project, "audit"), "before", nil)
}

// Live asks how many nodes serve a revision.
func (c *Client) Live(ctx context.Context, revision int64) (wire.Live, error) {
	l, _, err := get[wire.Live](ctx, c, fmt.Sprintf("/live?revision=%d", revision))
	return l, err
}

// WaitLive waits until all nodes serve a revision, or ctx ends; then it gives how
// many do, and the context's error.
func (c *Client) WaitLive(ctx context.Context, revision int64) (last wire.Live, err error) {
	const pause = 250 * time.Millisecond
	for {
		now, err := c.Live(ctx, revision)
		switch {
		case err == nil && now.Live == now.Nodes:
			return now, nil
		case err == nil:
			last = now
		case ctx.Err() == nil && Status(err) != http.StatusServiceUnavailable:
			return last, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return last, ctx.Err()
		}
	}
}
