package catalog

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/store"
)

// Format is how records are written to a file.
type Format string

// Formats. JSON and TOML have the same sections and keys, of which a file of routes
// (package routes) has some: it can be imported as TOML. Routes is such a file, of
// what is served and no more.
const (
	JSON   Format = "json"
	TOML   Format = "toml"
	Routes Format = "routes"
)

// file is everything in one file. Zero values are left out, and mean what they do
// in a file of routes.
type file struct {
	Project []fileProject `json:"project,omitempty" toml:"project,omitzero"`
	Trust   []fileTrust   `json:"trust,omitempty" toml:"trust,omitzero"`
	Route   []fileRoute   `json:"route,omitempty" toml:"route,omitzero"`
	Token   []fileToken   `json:"token,omitempty" toml:"token,omitzero"`
}

type fileProject struct {
	Name      string         `json:"name" toml:"name"`
	Prefixes  []netip.Prefix `json:"prefixes,omitempty" toml:"prefixes,omitzero"`
	Title     string         `json:"title,omitempty" toml:"title,omitzero"`
	Max       int            `json:"max_proxies,omitempty" toml:"max_proxies,omitzero"`
	ID        string         `json:"id,omitempty" toml:"id,omitzero"`
	Created   time.Time      `json:"created,omitzero" toml:"created,omitzero"`
	CreatedBy string         `json:"created_by,omitempty" toml:"created_by,omitzero"`
}

type fileTrust struct {
	Domain    string    `json:"domain" toml:"domain"`
	Project   string    `json:"project" toml:"project"`
	Created   time.Time `json:"created,omitzero" toml:"created,omitzero"`
	CreatedBy string    `json:"created_by,omitempty" toml:"created_by,omitzero"`
}

type fileRoute struct {
	Host      string       `json:"host" toml:"host"`
	Project   string       `json:"project,omitempty" toml:"project,omitzero"`
	Backends  []netip.Addr `json:"backends" toml:"backends"`
	HTTP      *int         `json:"http,omitempty" toml:"http,omitzero"`   // nil: 80
	HTTPS     *int         `json:"https,omitempty" toml:"https,omitzero"` // nil: 443
	Header    string       `json:"proxy_protocol,omitempty" toml:"proxy_protocol,omitzero"`
	Off       bool         `json:"off,omitempty" toml:"off,omitzero"`
	Proof     Proof        `json:"proof,omitempty" toml:"proof,omitzero"` // "": to be shown, for a new one
	Challenge string       `json:"challenge,omitempty" toml:"challenge,omitzero"`
	Seen      time.Time    `json:"seen,omitzero" toml:"seen,omitzero"`
	Missing   time.Time    `json:"missing,omitzero" toml:"missing,omitzero"`
	Created   time.Time    `json:"created,omitzero" toml:"created,omitzero"`
	CreatedBy string       `json:"created_by,omitempty" toml:"created_by,omitzero"`
}

type fileToken struct {
	ID        string    `json:"id" toml:"id"`
	Name      string    `json:"name" toml:"name"`
	Project   string    `json:"project,omitempty" toml:"project,omitzero"`
	Verb      Verb      `json:"verb" toml:"verb"`
	Hash      string    `json:"hash" toml:"hash"` // base64
	Expires   time.Time `json:"expires,omitzero" toml:"expires,omitzero"`
	Created   time.Time `json:"created,omitzero" toml:"created,omitzero"`
	CreatedBy string    `json:"created_by,omitempty" toml:"created_by,omitzero"`
}

// maxFile bounds what is read, in bytes: room for some 500,000 proxies.
const maxFile = 256 << 20

// readFile reads JSON or TOML, strictly.
func readFile(r io.Reader, format Format) (*file, error) {
	doc, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(doc) > maxFile:
		return nil, fmt.Errorf("the file has more than %d MB", maxFile>>20)
	}
	f := &file{}
	switch format {
	case JSON:
		d := json.NewDecoder(strings.NewReader(string(doc)))
		d.DisallowUnknownFields()
		if err := d.Decode(f); err != nil {
			return nil, fmt.Errorf("not the JSON of an export, near byte %d: %w", d.InputOffset(), err)
		}
		if d.More() {
			return nil, fmt.Errorf("not the JSON of an export: more follows at byte %d", d.InputOffset())
		}
	case TOML, Routes:
		d := toml.NewDecoder(strings.NewReader(string(doc)))
		d.DisallowUnknownFields()
		if err := d.Decode(f); err != nil {
			return nil, tomlError(err)
		}
	default:
		return nil, unknownFormat(format)
	}
	return f, nil
}

func tomlError(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		e := unknown.Errors[0]
		row, _ := e.Position()
		return fmt.Errorf("line %d: unknown key %s", row, strings.Join(e.Key(), "."))
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, column := bad.Position()
		return fmt.Errorf("line %d, column %d: %w", row, column, err)
	}
	return err
}

// ExportOptions say what is written.
type ExportOptions struct {
	Format Format
	Tokens bool // what their secrets hash to, too; not in Routes
}

// Export writes all records, as they are at one time, but for tokens.
func (c *Catalog) Export(ctx context.Context, w io.Writer, o ExportOptions) error {
	var projects []Project
	var proxies []Proxy
	_, err := c.store.List(ctx, Serving, func(e store.Entry) error {
		switch {
		case strings.HasPrefix(e.Key, ProjectPrefix):
			p, err := DecodeProject(e)
			projects = append(projects, p)
			return err
		case strings.HasPrefix(e.Key, ProxyPrefix):
			p, err := DecodeProxy(e)
			proxies = append(proxies, p)
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	f := file{}
	for i := range projects {
		f.Project = append(f.Project, projects[i].file(o.Format))
	}
	byName := map[string]*Project{}
	for i := range projects {
		byName[projects[i].Name] = &projects[i]
	}
	check := c.reach.Load().check
	for i := range proxies {
		if _, err := proxies[i].Route(byName[proxies[i].Project], check); o.Format != Routes || err == nil {
			f.Route = append(f.Route, proxies[i].file(o.Format))
		}
	}
	if o.Format != Routes {
		trusts, err := c.trusted(ctx)
		if err != nil {
			return err
		}
		err = each(ctx, c.store, TrustPrefix, DecodeTrust, func(t Trust) error {
			if trusts[t.Domain] != "" {
				f.Trust = append(f.Trust, fileTrust{t.Domain, t.Project, t.Created, t.CreatedBy})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if o.Tokens && o.Format != Routes {
		err := each(ctx, c.store, TokenPrefix, DecodeToken, func(t Token) error {
			if t.Parent == "" && !t.expired(c.o.Now()) {
				f.Token = append(f.Token, fileToken{t.ID, t.Name, t.Project, t.Verb, base64.StdEncoding.EncodeToString(t.Hash), t.Expires, t.Created, t.CreatedBy})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return f.write(w, o.Format)
}

func (p *Project) file(f Format) fileProject {
	if f == Routes {
		return fileProject{Name: p.Name, Prefixes: p.Prefixes}
	}
	return fileProject{p.Name, p.Prefixes, p.Title, p.Proxies, p.ID, p.Created, p.CreatedBy}
}

func (p *Proxy) file(f Format) fileRoute {
	r := fileRoute{Host: p.Host, Project: p.Project, Backends: p.Backends}
	if p.HTTP != routes.DefaultHTTP {
		n := int(p.HTTP)
		r.HTTP = &n
	}
	if p.HTTPS != routes.DefaultHTTPS {
		n := int(p.HTTPS)
		r.HTTPS = &n
	}
	if p.Header != headers[routes.NoHeader] {
		r.Header = p.Header
	}
	if f != Routes {
		r.Off, r.Proof, r.Challenge, r.Seen, r.Missing, r.Created, r.CreatedBy = p.Off, p.Proof, p.Challenge, p.Seen, p.Missing, p.Created, p.CreatedBy
	}
	return r
}

func (f *file) write(w io.Writer, format Format) error {
	b := bufio.NewWriterSize(w, 1<<16)
	var err error
	switch format {
	case JSON:
		e := json.NewEncoder(b)
		e.SetIndent("", "  ")
		err = e.Encode(f)
	case TOML, Routes:
		err = toml.NewEncoder(b).Encode(f)
	default:
		return unknownFormat(format)
	}
	if err != nil {
		return err
	}
	return b.Flush()
}

func unknownFormat(f Format) error {
	return fmt.Errorf(`%q is no format; take %q, %q or %q`, f, JSON, TOML, Routes)
}
