package control

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/wire"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// failure makes an error of the catalog into an answer for the client.
func (c *Config) failure(ctx context.Context, op *huma.Operation, err error) error {
	if p := (*wire.Problem)(nil); errors.As(err, &p) {
		return err
	}
	if wrong := catalog.Problems(err); len(wrong) > 0 {
		p := wire.Refuse(http.StatusUnprocessableEntity, "validation failed")
		for _, one := range wrong {
			p.Errors = append(p.Errors, place(op, one))
		}
		return p
	}
	var taken *catalog.Taken
	switch {
	case errors.As(err, &taken):
		return wire.Refuse(http.StatusConflict, "%v", taken)
	case errors.Is(err, catalog.ErrTaken):
		return wire.Refuse(http.StatusConflict, "the name is taken, or kept for a while for who had it; if it is yours, ask the operator")
	case errors.Is(err, catalog.ErrNotFound):
		return wire.Refuse(http.StatusNotFound, "%v", err)
	case errors.Is(err, catalog.ErrLimit):
		return wire.Refuse(http.StatusConflict, "%v; delete some, or ask the operator for more", err)
	case errors.Is(err, catalog.ErrInUse):
		return wire.Refuse(http.StatusConflict, "%v", err)
	case errors.Is(err, store.ErrConflict):
		return wire.Refuse(http.StatusPreconditionFailed, "it is not what If-Match or If-None-Match says any more: somebody else has changed it; get it again and look at what is new")
	case errors.Is(err, store.ErrFull):
		return wire.Refuse(http.StatusInsufficientStorage, "%s; nothing has been changed; tell the operator", c.trouble(ctx, err))
	}
	return c.serverFailure(ctx, op.OperationID, err)
}

// serverFailure is for what the client can't help.
func (c *Config) serverFailure(ctx context.Context, what string, err error) error {
	if away(err) {
		return later(wire.Refuse(http.StatusServiceUnavailable, "the store does not answer now (%s); a change may have been made or not: send it again, it is safe to", c.trouble(ctx, err)), time.Second)
	}
	c.Log(true, "API: "+what+": "+err.Error())
	return wire.Refuse(http.StatusInternalServerError, "something went wrong here; the operator's log says what")
}

// away tells whether the store did not answer, or not in time.
func away(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// trouble says what is wrong with the store, to who asks. Of a request whose time was
// over, what follows the store knows better.
func (c *Config) trouble(ctx context.Context, err error) string {
	p := access.From(ctx)
	if errors.Is(err, context.DeadlineExceeded) && access.Told(p, err) {
		if why := c.Mirror.Stats().Problem; why != "" {
			return why
		}
	}
	return access.Trouble(p, err)
}

// later adds when it is worth asking again.
func later(p *wire.Problem, wait time.Duration) error {
	return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {retryAfter(wait)}})
}

// retryAfter is in whole seconds (RFC 9110 10.2.3).
func retryAfter(wait time.Duration) string {
	return strconv.FormatInt(int64(max(1, (wait+time.Second-1)/time.Second)), 10)
}

// place says where in the request a field of a record is.
func place(op *huma.Operation, wrong *catalog.Invalid) wire.Error {
	e := wire.Error{In: "body", Detail: wrong.Problem, Remedy: wrong.Remedy}
	name := wrong.Field
	if name == "name" && op.Method == http.MethodPut {
		name = "project" // what its path calls the name of one
	}
	switch {
	case strings.Contains(op.Path, "{"+name+"}"):
		e.In, e.Name = "path", name
	case op.Method == http.MethodGet:
		e.In, e.Name = "query", name
	case name == "":
		e.Pointer = "#"
	default:
		e.Pointer = pointer("." + name)
	}
	return e
}

// unauthorized is the answer to who could not say who asks (RFC 6750 3).
func (c *Config) unauthorized(ctx context.Context, w http.ResponseWriter, given bool, err error) {
	var flood *access.ErrFlood
	switch {
	case errors.As(err, &flood):
		answerFailure(w, later(wire.Refuse(http.StatusTooManyRequests, "%v", flood), flood.Wait))
	case errors.Is(err, access.ErrUnknown):
		challenge := `Bearer realm="isthmus"`
		if given {
			challenge += `, error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		problem(w, wire.Refuse(http.StatusUnauthorized, "%v", err))
	default:
		answerFailure(w, c.serverFailure(ctx, "who asks", err))
	}
}

// answerFailure answers with what failure, or one like it, has made of an error.
func answerFailure(w http.ResponseWriter, err error) {
	var with huma.HeadersError
	if errors.As(err, &with) {
		for name, values := range with.GetHeaders() {
			w.Header()[name] = values
		}
	}
	var p *wire.Problem
	if errors.As(err, &p) {
		problem(w, p)
	}
}
