package control

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"aarch64.com/isthmus/proxy/control/wire"
)

// What the document promises is what is answered: every answer of every test is
// held against it, by somebody else's reader of OpenAPI.
var router = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromData(OpenAPI())
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	return legacy.NewRouter(doc)
})

func TestOpenAPIIsValid(t *testing.T) {
	if _, err := router(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(OpenAPI(), []byte(`"openapi": "3.1.`)) {
		t.Error("not OpenAPI 3.1")
	}
}

// The check would notice.
func TestConformanceBites(t *testing.T) {
	req, err := http.NewRequest("GET", base+"/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status     int
		kind, text string
	}{
		{200, "application/json", `{"by": "x", "operator": "yes", "cnames": []}`},
		{200, "application/json", `{"by": "x", "operator": true}`},
		{200, "text/plain", `me`},
		{418, wire.ProblemType, `{"title": "I'm a teapot", "status": 418}`},
		{401, wire.ProblemType, `{"status": 401}`},
		{401, "application/json", `{"title": "Unauthorized", "status": 401}`},
	} {
		if err := conforms(t.Context(), req, &reply{&http.Response{StatusCode: c.status, Header: http.Header{"Content-Type": {c.kind}}}, []byte(c.text)}); err == nil {
			t.Errorf("%d %s %s passes", c.status, c.kind, c.text)
		}
	}
}

func (w *world) conforms(req *http.Request, r *reply) {
	w.t.Helper()
	if err := conforms(w.t.Context(), req, r); err != nil {
		w.t.Errorf("%s %s: %s is not as the document says: %v\n%s", req.Method, req.URL.Path, r.Status, err, r.text)
	}
}

func conforms(ctx context.Context, req *http.Request, r *reply) error {
	if !strings.HasPrefix(req.URL.Path, base+"/") || strings.HasSuffix(req.URL.Path, "/openapi.json") || req.Method == http.MethodHead || req.URL.RawPath != "" {
		return nil
	}
	find, err := router()
	if err != nil {
		return err
	}
	same := req.Clone(ctx)
	same.URL = &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery}
	route, params, err := find.FindRoute(same)
	if err != nil {
		if r.StatusCode != http.StatusNotFound && r.StatusCode != http.StatusMethodNotAllowed && r.StatusCode != http.StatusUnauthorized {
			return err // it is not in the document, and yet there is something
		}
		return nil
	}
	return openapi3filter.ValidateResponse(ctx, &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: same, PathParams: params, Route: route},
		Status:                 r.StatusCode, Header: r.Header, Body: io.NopCloser(bytes.NewReader(r.text)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
}
