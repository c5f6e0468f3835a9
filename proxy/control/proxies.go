package control

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"aarch64.com/isthmus/proxy/control/internal/params"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/mirror"
	"aarch64.com/isthmus/proxy/routes/store"
)

const noProxy = "project %q has no proxy %q"

// find finds a proxy of the project in the path. That of another project is not
// there.
func (c *Config) find(in *params.InProxy) (p mirror.Proxy, at store.Revision, err error) {
	v := c.Mirror.View()
	p, ok := v.Proxy(in.Host)
	if !ok || p.Project != in.Project {
		return p, 0, none(in)
	}
	return p, v.Revision, nil
}

func none(in *params.InProxy) error {
	return wire.Refuse(http.StatusNotFound, noProxy, echo(in.Project), echo(in.Host))
}

// matchProxy is what If-Match means for a proxy.
func (c *Config) matchProxy(ctx context.Context, in *params.InProxy, h *params.Conditions) (catalog.Match, error) {
	return h.Match(func() (store.Revision, error) {
		p, err := c.Catalog.Proxy(ctx, in.Host)
		if err != nil || p.Project != in.Project {
			return 0, absent(err)
		}
		return p.Revision, nil
	})
}

func (a *api) addProxies() {
	tag := []string{"proxies"}
	const all, this = "/projects/{project}/proxies", "/projects/{project}/proxies/{host}"
	add(a, huma.Operation{OperationID: "list-proxies", Method: http.MethodGet, Path: all, Tags: tag,
		Summary: "List or search a project's proxies", Description: "In the order of their host names."},
		catalog.Read, listProxies)
	add(a, huma.Operation{OperationID: "get-proxy", Method: http.MethodGet, Path: this, Tags: tag,
		Summary: "Read a proxy"},
		catalog.Read, getProxy)
	add(a, huma.Operation{OperationID: "put-proxy", Method: http.MethodPut, Path: this, Tags: tag, Errors: append(changing, http.StatusInsufficientStorage),
		Summary: "Add or change a proxy",
		Description: "The answer comes when this node serves the change. A new host name is served once its TXT record is seen; proof in the answer says what it has to be. " +
			"The same once more changes nothing."},
		catalog.Write, putProxy)
	add(a, huma.Operation{OperationID: "delete-proxy", Method: http.MethodDelete, Path: this, Tags: tag, Errors: changing, DefaultStatus: http.StatusNoContent,
		Summary: "Delete a proxy", Description: "A name that has been served is kept from other projects for a while."},
		catalog.Write, deleteProxy)
	add(a, huma.Operation{OperationID: "get-proxy-state", Method: http.MethodGet, Path: this + "/state", Tags: tag,
		Summary: "Ask how far a proxy has come", Description: "Whether it is served, and by how many nodes."},
		catalog.Read, proxyState)
	add(a, huma.Operation{OperationID: "check-proxy", Method: http.MethodPost, Path: this + "/check", Tags: tag,
		Summary: "Look into the DNS now", Description: "For the TXT record that proves the name, and the CNAME record that leads visitors here. What is proven is stored."},
		catalog.Write, checkProxy)
}

func listProxies(_ context.Context, c *Config, in *params.Proxies) (*listed[wire.Proxy], error) {
	v := c.Mirror.View()
	if _, ok := v.Project(in.Project); !ok {
		return nil, wire.Refuse(http.StatusNotFound, noProject, echo(in.Project))
	}
	list, next := v.ProxiesOf(in.Project, in.Search, in.After, in.Limit)
	out := &listed[wire.Proxy]{Revision: number(v.Revision), Body: wire.List[wire.Proxy]{Items: make([]wire.Proxy, len(list)), Next: next}}
	for i := range list {
		out.Body.Items[i] = c.proxy(&list[i].Proxy)
	}
	return out, nil
}

func getProxy(_ context.Context, c *Config, in *struct {
	params.InProxy
	params.Known
}) (*one[wire.Proxy], error) {
	p, at, err := c.find(&in.InProxy)
	if err != nil {
		return nil, err
	}
	etag := params.Tag(params.Edited(&p.Proxy))
	if in.Has(etag) {
		return nil, notModified(etag)
	}
	return &one[wire.Proxy]{Status: http.StatusOK, ETag: etag, Revision: number(at), Body: c.proxy(&p.Proxy)}, nil
}

func putProxy(ctx context.Context, c *Config, in *struct {
	params.InProxy
	params.Conditions
	Body wire.PutProxy
}) (*one[wire.Proxy], error) {
	m, err := c.matchProxy(ctx, &in.InProxy, &in.Conditions)
	if err != nil {
		return nil, err
	}
	p, created, err := c.Catalog.PutProxy(ctx, actor(ctx), catalog.Proxy{
		Host: in.Host, Project: in.Project, Backends: in.Body.Backends,
		HTTP: *in.Body.HTTP, HTTPS: *in.Body.HTTPS, Header: in.Body.ProxyProtocol, Off: in.Body.Off,
	}, m)
	if err != nil {
		return nil, err
	}
	c.applied(ctx, p.Revision)
	return put(created, base+"/projects/"+p.Project+"/proxies/"+url.PathEscape(p.Host), params.Edited(&p), p.Revision, c.proxy(&p)), nil
}

func deleteProxy(ctx context.Context, c *Config, in *struct {
	params.InProxy
	params.Conditions
}) (*gone, error) {
	m, err := c.matchProxy(ctx, &in.InProxy, &in.Conditions)
	if err != nil {
		return nil, err
	}
	r, err := c.Catalog.DeleteProxy(ctx, actor(ctx), in.Project, in.Host, m)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, none(&in.InProxy)
	}
	if err != nil {
		return nil, err
	}
	c.applied(ctx, r)
	return &gone{number(r)}, nil
}

func proxyState(ctx context.Context, c *Config, in *params.InProxy) (*one[wire.State], error) {
	p, at, err := c.find(in)
	if err != nil {
		return nil, err
	}
	live, err := c.live(ctx, p.Revision)
	if err != nil {
		return nil, err
	}
	return &one[wire.State]{Status: http.StatusOK, Revision: number(at), Body: wire.State{
		Revision: int64(p.Revision), Served: p.Reason == mirror.Served, Problem: p.Problem, Live: live,
	}}, nil
}

func checkProxy(ctx context.Context, c *Config, in *params.InProxy) (*one[wire.Check], error) {
	if c.Check == nil {
		return nil, wire.Refuse(http.StatusNotFound, "this node does not look into the DNS")
	}
	p, err := c.Catalog.Proxy(ctx, in.Host)
	if err == nil && p.Project != in.Project {
		err = catalog.ErrNotFound
	}
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, none(in)
	}
	if err != nil {
		return nil, err
	}
	p, cname, err := c.Check(ctx, p)
	if err != nil {
		return nil, err
	}
	c.applied(ctx, p.Revision)
	return &one[wire.Check]{Status: http.StatusOK, Revision: number(p.Revision), Body: wire.Check{Proof: Proof(&p), CNAME: cname}}, nil
}

// proxy is a proxy as clients see it.
func (c *Config) proxy(p *catalog.Proxy) wire.Proxy {
	return wire.Proxy{
		Host: p.Host, Project: p.Project, Backends: nonNil(p.Backends), HTTP: p.HTTP, HTTPS: p.HTTPS, ProxyProtocol: p.Header, Off: p.Off,
		Proof: Proof(p), CNAMEs: c.cnames(), Made: made(&p.Meta),
	}
}

// Proof is how far a proxy's name is proven, as clients see it.
func Proof(p *catalog.Proxy) wire.Proof {
	return wire.Proof{
		State: string(p.Proof), Record: catalog.TXT(p.Host), Value: p.Challenge,
		Seen: p.Seen, Checked: p.Checked, Problem: p.Problem,
	}
}
