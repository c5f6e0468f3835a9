package control

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// Everything at once, as one file. It is streamed, and may take its time, so it does
// without the library.

const (
	exportPath = base + "/export"
	importPath = base + "/import"

	// maxImport bounds an import in bytes, as the catalog does.
	maxImport = 256 << 20
	// bulkPatience is for all of it: a hundred thousand proxies take a cluster minutes.
	bulkPatience = 15 * time.Minute
)

// fileTypes are the media types of formats.
var fileTypes = map[catalog.Format]string{catalog.JSON: "application/json", catalog.TOML: "application/toml", catalog.Routes: "application/toml"}

func (a *api) addBulk() {
	tag := []string{"all at once"}
	file := map[string]*huma.MediaType{}
	for _, kind := range fileTypes {
		file[kind] = &huma.MediaType{}
	}
	format := &huma.Param{Name: "format", In: "query", Description: "json, toml, or routes: a file of routes, with what is served and no more", Schema: &huma.Schema{Type: "string", Enum: []any{"json", "toml", "routes"}, Default: "json"}}
	flag := func(name, doc string) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: doc, Schema: &huma.Schema{Type: "boolean", Default: false}}
	}
	add := func(op *huma.Operation, f func(http.ResponseWriter, *http.Request, *Config)) {
		op.Path = base + op.Path
		for _, status := range append(common, op.Errors...) {
			op.Responses[strconv.Itoa(status)] = a.refusal(status)
		}
		op.Description += needs(catalog.Operator)
		a.huma.OpenAPI().AddOperation(op)
		a.mux.HandleFunc(op.Method+" "+op.Path, func(w http.ResponseWriter, r *http.Request) {
			c := a.config()
			if !access.From(r.Context()).Operator() {
				problem(w, forbidden(access.From(r.Context()), catalog.Operator))
				return
			}
			select {
			case c.shared.bulk <- struct{}{}:
				defer func() { <-c.shared.bulk }()
				f(w, r, c)
			case <-r.Context().Done():
				answerFailure(w, c.serverFailure(r.Context(), op.OperationID, r.Context().Err()))
			}
		})
	}
	add(&huma.Operation{OperationID: "export", Method: http.MethodGet, Path: "/export", Tags: tag,
		Summary: "Read everything as one file", Description: "Without secrets; with tokens, what those hash to.",
		Parameters: []*huma.Param{format, flag("tokens", "Tokens, too")},
		Errors:     []int{http.StatusUnprocessableEntity, http.StatusInternalServerError},
		Responses:  map[string]*huma.Response{"200": {Description: http.StatusText(http.StatusOK), Content: file}},
	}, a.export)
	add(&huma.Operation{OperationID: "import", Method: http.MethodPost, Path: "/import", Tags: tag,
		Summary: "Bring a file in", Description: "A file with a mistake changes nothing. After another error, the same import goes on where it ended. Names go to whom the file says, and what it calls proven is.",
		Parameters:  []*huma.Param{format, flag("replace", "Remove what the file does not have"), flag("dry_run", "Only tell what would change")},
		RequestBody: &huma.RequestBody{Required: true, Content: file},
		Errors:      append(making, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInternalServerError, http.StatusInsufficientStorage),
		Responses: map[string]*huma.Response{"200": {Description: http.StatusText(http.StatusOK), Content: map[string]*huma.MediaType{
			"application/json": {Schema: a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[wire.Imported](), true, "")},
		}}},
	}, a.bring)
}

// refusal is a response of the document.
func (a *api) refusal(status int) *huma.Response {
	return &huma.Response{Description: http.StatusText(status), Content: map[string]*huma.MediaType{
		wire.ProblemType: {Schema: a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[wire.Problem](), true, "")},
	}}
}

// options reads the query of a request about files.
func options(r *http.Request, flags map[string]*bool) (format catalog.Format, wrong *wire.Problem) {
	p := wire.Refuse(http.StatusUnprocessableEntity, "validation failed")
	format = catalog.JSON
	for name, values := range r.URL.Query() {
		value, to := values[0], flags[name]
		switch {
		case name == "format":
			if format = catalog.Format(value); fileTypes[format] == "" {
				p.Errors = append(p.Errors, wire.Error{In: "query", Name: name, Detail: "no choice", Remedy: `write one of "json, toml, routes"`})
			}
		case to == nil:
			p.Errors = append(p.Errors, wire.Error{In: "query", Name: echo(name), Detail: "unknown query parameter", Remedy: "leave it out, or correct its name"})
		default:
			var err error
			if *to, err = strconv.ParseBool(value); err != nil {
				p.Errors = append(p.Errors, wire.Error{In: "query", Name: name, Detail: "neither true nor false", Remedy: "write one of them"})
			}
		}
	}
	if len(p.Errors) > 0 {
		return format, p
	}
	return format, nil
}

func (a *api) export(w http.ResponseWriter, r *http.Request, c *Config) {
	var o catalog.ExportOptions
	var wrong *wire.Problem
	if o.Format, wrong = options(r, map[string]*bool{"tokens": &o.Tokens}); wrong != nil {
		problem(w, wrong)
		return
	}
	out := &late{w: w, kind: fileTypes[o.Format]}
	err := c.Catalog.Export(r.Context(), out, o)
	switch {
	case err == nil:
	case out.begun:
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	default:
		answerFailure(w, c.serverFailure(r.Context(), "export", err))
	}
}

// late sends the header with the first byte, so that what goes wrong before is a
// problem.
type late struct {
	w     http.ResponseWriter
	kind  string
	begun bool
}

func (l *late) Write(b []byte) (int, error) {
	if !l.begun {
		l.w.Header().Set("Content-Type", l.kind)
		l.begun = true
	}
	return l.w.Write(b)
}

// bring is the import.
func (a *api) bring(w http.ResponseWriter, r *http.Request, c *Config) {
	var o catalog.ImportOptions
	var wrong *wire.Problem
	if o.Format, wrong = options(r, map[string]*bool{"replace": &o.Replace, "dry_run": &o.DryRun}); wrong != nil {
		problem(w, wrong)
		return
	}
	// It does not fail, with the connections that there are.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bulkPatience))
	defer c.shared.tokens.forget()
	done, err := c.Catalog.Import(r.Context(), actor(r.Context()), http.MaxBytesReader(w, r.Body, c.maxImport), o)
	if err != nil {
		answerFailure(w, c.importFailure(r.Context(), err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = jsonFormat.Marshal(w, wire.Imported{
		Projects: wire.Diff(done.Projects), Proxies: wire.Diff(done.Proxies), Trusts: wire.Diff(done.Trusts), Tokens: wire.Diff(done.Tokens),
		Pending: nonNil(done.Pending),
	})
}

// importFailure makes an error of an import into an answer. What is neither the
// store's nor the connection's is the file's.
func (c *Config) importFailure(ctx context.Context, err error) error {
	var tooLarge *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &tooLarge):
		return wire.Refuse(http.StatusRequestEntityTooLarge, "the file has more than %d bytes", c.maxImport)
	case errors.As(err, &network) && network.Timeout():
		return wire.Refuse(http.StatusRequestTimeout, "the file did not come in time")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return wire.Refuse(http.StatusBadRequest, "the file broke off")
	case errors.Is(err, store.ErrFull):
		return wire.Refuse(http.StatusInsufficientStorage, "%s; a part of the file may be in; make room and import it again", c.trouble(ctx, err))
	case away(err):
		return later(wire.Refuse(http.StatusServiceUnavailable, "the store does not answer now (%s); a part of the file may be in; import it again", c.trouble(ctx, err)), time.Second)
	}
	p := wire.Refuse(http.StatusUnprocessableEntity, "validation failed")
	for _, one := range catalog.Problems(err) {
		p.Errors = append(p.Errors, wire.Error{In: "body", Name: one.Field, Detail: one.Problem, Remedy: one.Remedy})
	}
	if len(p.Errors) == 0 {
		p.Errors = []wire.Error{{In: "body", Pointer: "#", Detail: err.Error(), Remedy: "correct the file; nothing of it has been imported"}}
	}
	return p
}
