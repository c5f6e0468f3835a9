package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"aarch64.com/isthmus/proxy/control/wire"
)

// maxErrors is how many things that are wrong are listed; the rest is counted.
const maxErrors = 20

// maxEcho bounds what an answer repeats of a request, in bytes.
const maxEcho = 100

// The library keeps what follows once for the whole process.
func init() {
	huma.NewError = newProblem
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false

	// "what is wrong; what to do", as everywhere.
	validation.MsgUnexpectedProperty = "there is no such field; leave it out, or correct its name"
	validation.MsgExpectedRequiredProperty = "the field %s is missing; add it"
	validation.MsgExpectedRFC3339DateTime = "no time; write one such as 2030-01-31T12:00:00Z (RFC 3339)"
	validation.MsgExpectedRFCIPAddr = "no IP address; write a VM's, such as 2001:db8::1; names are never looked up"
	validation.MsgExpectedBoolean = "neither true nor false; write one of them, without quotes"
	validation.MsgExpectedInteger = "no whole number; write one, without quotes"
	validation.MsgExpectedNumber = "no number; write one, without quotes"
	validation.MsgExpectedString = "no string; write it in quotes"
	validation.MsgExpectedArray = "no list; write it in brackets"
	validation.MsgExpectedObject = "no object; write fields in braces"
	validation.MsgExpectedOneOf = "no choice; write one of \"%s\""
	validation.MsgExpectedMinimumNumber = "too small; write %v or more"
	validation.MsgExpectedMaximumNumber = "too large; write %v or less"
	validation.MsgExpectedMinLength = "too short; write %d characters or more"
	validation.MsgExpectedMaxLength = "too long; write %d characters or less"
	validation.MsgExpectedMinItems = "too few; give %d or more"
	validation.MsgExpectedMaxItems = "too many; give %d or less"
}

// newProblem makes the library's errors into problems.
func newProblem(status int, detail string, errs ...error) huma.StatusError {
	if status == http.StatusInternalServerError && detail == "cannot read request body" {
		status, detail = http.StatusBadRequest, "the body broke off" // no fault of ours
	}
	p := &wire.Problem{Status: status, Title: http.StatusText(status), Detail: detail}
	for _, err := range errs {
		if err == nil {
			continue
		}
		if len(p.Errors) == maxErrors {
			p.Detail = fmt.Sprintf("%s; these are the first %d of %d errors", p.Detail, maxErrors, len(errs))
			break
		}
		p.Errors = append(p.Errors, newError(err))
	}
	return p
}

func newError(err error) wire.Error {
	d, ok := err.(huma.ErrorDetailer)
	if !ok {
		return wire.Error{In: "body", Pointer: "#", Detail: err.Error()}
	}
	detail := d.ErrorDetail()
	var e wire.Error
	e.Detail, e.Remedy, _ = strings.Cut(detail.Message, "; ")
	in, path, _ := strings.Cut(detail.Location, ".")
	if e.In = in; in != "body" {
		e.Name = echo(path)
		return e
	}
	path = strings.TrimPrefix(detail.Location, "body")
	e.Pointer = pointer(path)
	if detail.Message == validation.MsgUnexpectedProperty {
		// It may have any name, also one with dots. Bodies are flat: it is at the top.
		e.Pointer = "#" + fragment("/"+escape(echo(strings.TrimPrefix(path, "."))))
	}
	if e.Remedy == "" && e.Pointer == "#" {
		e.Remedy = "send one JSON object as the schema says (see openapi.json)"
	}
	return e
}

// pointer makes a JSON pointer in a URI's fragment (RFC 6901 6) from the library's
// way to write places: ".backends[0]".
func pointer(path string) string {
	path = strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(path)
	return "#" + fragment(echo(path))
}

func fragment(s string) string { return (&url.URL{Fragment: s}).EscapedFragment() }

// escape is RFC 6901 3.
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

// echo cuts what a client has sent.
func echo(s string) string {
	if len(s) <= maxEcho {
		return s
	}
	return strings.ToValidUTF8(s[:maxEcho], "") + "..."
}

// problem is an answer in a place where the library has no part in it.
func problem(w http.ResponseWriter, p *wire.Problem) {
	w.Header().Set("Content-Type", wire.ProblemType)
	w.WriteHeader(p.Status)
	// The client has gone if this fails, and is told nothing.
	_ = json.NewEncoder(w).Encode(p)
}
