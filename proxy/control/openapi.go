package control

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

const description = `The proxies of isthmus: which host name leads to which VM.

Every request carries a token in the header Authorization: Bearer; over the Unix socket of the host
there is none. A project that a token is not for does not exist as far as it can see.

A request that was not carried out is answered with application/problem+json (RFC 9457), whose errors
name each thing that is wrong, and what to do. After 429 and 503, Retry-After says when to ask again.

PUT can be sent again: what is the same changes nothing. ETag and If-Match keep two people from
undoing each other's changes; without If-Match the last one wins. The answer to a change carries its
revision in Isthmus-Revision. Sent along with a request, that has any node answer as of then or later.`

var tags = []*huma.Tag{
	{Name: "proxies", Description: "Host names, and where they lead"},
	{Name: "projects", Description: "Customers, and where their VMs are"},
	{Name: "tokens", Description: "Keys to this API"},
	{Name: "trusts", Description: "Domains that need no proof"},
	{Name: "all at once", Description: "Files with everything, for backups and moves"},
	{Name: "others", Description: "Who you are, nodes and changes"},
}

// Statuses of all operations, and of those that make or change something.
var (
	common   = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMisdirectedRequest, http.StatusTooManyRequests, http.StatusServiceUnavailable}
	making   = []int{http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}
	changing = append([]int{http.StatusConflict, http.StatusPreconditionFailed}, making...)
)

// finish adds what the library does not say of itself.
func (a *api) finish() {
	doc := a.huma.OpenAPI()
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete} {
			if op == nil {
				continue
			}
			if op.Method == http.MethodPut && strings.HasSuffix(op.Path, "}") && op.OperationID != "put-trust" {
				made := *op.Responses["200"]
				made.Description = http.StatusText(http.StatusCreated)
				op.Responses["201"] = &made
			}
			if slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.Name == "If-None-Match" }) && op.Method == http.MethodGet {
				op.Responses["304"] = &huma.Response{Description: http.StatusText(http.StatusNotModified)}
			}
		}
	}
	for name, s := range doc.Components.Schemas.Map() {
		if !strings.HasPrefix(name, "Put") && !strings.HasPrefix(name, "Post") {
			s.AdditionalProperties = nil // answers may say more one day
		}
	}
}

// document is what /api/v1/openapi.json says.
func (a *api) document() []byte { return document() }

var document = sync.OnceValue(func() []byte {
	a := newAPI(func() *Config { return &Config{} }, 0)
	doc, err := json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	if err != nil {
		panic(err) // it has been made of nothing but this package
	}
	return append(doc, '\n')
})

// OpenAPI is the description of the API (OpenAPI 3.1, JSON), as it is served and as
// docs/openapi.json has it.
func OpenAPI() []byte { return document() }
