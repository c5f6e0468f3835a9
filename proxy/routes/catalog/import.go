package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"aarch64.com/isthmus/proxy/routes/store"
)

// ImportOptions say how a file is imported.
type ImportOptions struct {
	Format  Format
	Replace bool // remove what the file does not have; without tokens in it, tokens stay
	DryRun  bool // only tell what would change
}

// Diff names the records that an import changes.
type Diff struct {
	Added   []string `json:"added"`
	Changed []string `json:"changed"`
	Removed []string `json:"removed"`
	Same    int      `json:"same"`
}

// ImportReport is what an import has changed, or would.
type ImportReport struct {
	Projects Diff `json:"projects"`
	Proxies  Diff `json:"proxies"`
	Trusts   Diff `json:"trusts"`
	Tokens   Diff `json:"tokens"`
	// Pending are those of the file that are not served until they are proven.
	Pending []string `json:"pending"`
}

// Import brings the records of a file in. It is an operator's: names go to whom the
// file says, whoever has them, and what the file calls proven is. A file with a
// mistake changes nothing; the records of a right one are changed in many
// transactions, and after an error the same import goes on where it ended.
func (c *Catalog) Import(ctx context.Context, a Actor, r io.Reader, o ImportOptions) (ImportReport, error) {
	f, err := readFile(r, o.Format)
	if err != nil {
		return ImportReport{}, err
	}
	var total ImportReport
	for try := range maxTries {
		p, err := c.plan(ctx, f, o)
		if err != nil {
			return ImportReport{}, err
		}
		if try == 0 {
			total = p.report
		}
		if o.DryRun {
			return total, nil
		}
		if err = p.apply(ctx, a); !errors.Is(err, store.ErrConflict) {
			return total, err
		}
		if ctx.Err() != nil {
			return total, ctx.Err()
		}
	}
	return total, fmt.Errorf("%w for this import: too many others at the same time; try again", store.ErrUnavailable)
}

// plan is what an import is going to do.
type plan struct {
	c        *Catalog
	now, to  content
	guard    store.Entry
	wrong    Invalids
	report   ImportReport
	trusting trustMap // as it will be
}

// content is all records by their names.
type content struct {
	projects map[string]Project
	proxies  map[string]Proxy
	trusts   map[string]Trust
	tokens   map[string]Token
}

func (c *Catalog) content(ctx context.Context) (all content, err error) {
	all = content{map[string]Project{}, map[string]Proxy{}, map[string]Trust{}, map[string]Token{}}
	err = errors.Join(
		each(ctx, c.store, ProjectPrefix, DecodeProject, func(p Project) error { all.projects[p.Name] = p; return nil }),
		each(ctx, c.store, ProxyPrefix, DecodeProxy, func(p Proxy) error { all.proxies[p.Host] = p; return nil }),
		each(ctx, c.store, TrustPrefix, DecodeTrust, func(t Trust) error { all.trusts[t.Domain] = t; return nil }),
		each(ctx, c.store, TokenPrefix, DecodeToken, func(t Token) error { all.tokens[t.ID] = t; return nil }),
	)
	return all, err
}

func (c content) clone() content {
	return content{maps.Clone(c.projects), maps.Clone(c.proxies), maps.Clone(c.trusts), maps.Clone(c.tokens)}
}

// plan reads what is there and works out what is to be.
func (c *Catalog) plan(ctx context.Context, f *file, o ImportOptions) (*plan, error) {
	p := &plan{c: c}
	// The guard comes first: whoever changes prefixes after this is noticed.
	got, _, err := c.store.Get(ctx, guardKey)
	if err != nil {
		return nil, err
	}
	p.guard = got[guardKey]
	p.guard.Key = guardKey
	if p.now, err = c.content(ctx); err != nil {
		return nil, err
	}
	p.to = p.now.clone()
	if o.Replace {
		p.drop(f)
	}
	p.projects(f)
	p.trusts(f)
	p.routes(f)
	p.tokens(f)
	p.whole()
	if err := p.wrong.orNil(); err != nil {
		return nil, err
	}
	p.report.Projects = diff(p.now.projects, p.to.projects, func(a, b Project) bool { return a.same(&b) })
	p.report.Proxies = diff(p.now.proxies, p.to.proxies, sameProxy)
	p.report.Trusts = diff(p.now.trusts, p.to.trusts, func(a, b Trust) bool { return a.Project == b.Project && a.ProjectID == b.ProjectID })
	p.report.Tokens = diff(p.now.tokens, p.to.tokens, sameToken)
	for _, r := range f.Route {
		if x := p.to.proxies[r.Host]; !x.Proof.Serves() && !x.Off {
			p.report.Pending = append(p.report.Pending, r.Host)
		}
	}
	return p, nil
}

func sameProxy(a, b Proxy) bool {
	return a.same(&b) && a.Project == b.Project && a.Challenge == b.Challenge
}

func sameToken(a, b Token) bool {
	return a.Name == b.Name && a.Project == b.Project && a.ProjectID == b.ProjectID && a.Verb == b.Verb && slices.Equal(a.Hash, b.Hash) && a.Expires.Equal(b.Expires)
}

func diff[T any](now, to map[string]T, same func(a, b T) bool) (d Diff) {
	d = Diff{Added: []string{}, Changed: []string{}, Removed: []string{}}
	for name, v := range to {
		switch old, ok := now[name]; {
		case !ok:
			d.Added = append(d.Added, name)
		case !same(old, v):
			d.Changed = append(d.Changed, name)
		default:
			d.Same++
		}
	}
	for name := range now {
		if _, ok := to[name]; !ok {
			d.Removed = append(d.Removed, name)
		}
	}
	slices.Sort(d.Added)
	slices.Sort(d.Changed)
	slices.Sort(d.Removed)
	return d
}

// maxWrong is how many problems are told.
const maxWrong = 20

// bad notes what is wrong with one record of the file.
func (p *plan) bad(kind, name string, err error) {
	list := Problems(err)
	if list == nil && err != nil {
		list = []*Invalid{{Problem: err.Error()}}
	}
	for _, e := range list {
		if len(p.wrong) == maxWrong {
			return
		}
		p.wrong = append(p.wrong, &Invalid{strings.TrimSuffix(fmt.Sprintf("%s %q.%s", kind, name, e.Field), "."), e.Problem, e.Remedy})
	}
}

func twice(field string) *Invalid { return &Invalid{field, "comes twice", "keep one of them"} }
