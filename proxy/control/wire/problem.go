package wire

import (
	"fmt"
	"net/http"
	"strings"
)

// Problem says why a request was not carried out (RFC 9457), as
// application/problem+json.
type Problem struct {
	Type   string  `json:"type,omitempty" doc:"URI of the kind of problem; absent: about:blank"`
	Title  string  `json:"title" doc:"The status in words"`
	Status int     `json:"status" doc:"HTTP status"`
	Detail string  `json:"detail,omitempty" doc:"What is wrong, and what to do about it"`
	Errors []Error `json:"errors,omitempty" doc:"Each thing that is wrong with the request"`
}

// Error is one thing that is wrong with a request.
type Error struct {
	In      string `json:"in" enum:"body,path,query,header" doc:"Which part of the request it is in"`
	Pointer string `json:"pointer,omitempty" example:"#/backends/0" doc:"Where in the body: a JSON pointer as a URI fragment (RFC 6901 6); # is the whole body"`
	Name    string `json:"name,omitempty" doc:"Name of the parameter or header"`
	Detail  string `json:"detail" doc:"What is wrong"`
	Remedy  string `json:"remedy,omitempty" doc:"What to do about it"`
}

// Error gives a line for each thing that is wrong.
func (p *Problem) Error() string {
	if len(p.Errors) == 0 {
		if p.Detail == "" {
			return p.Title
		}
		return p.Detail
	}
	lines := make([]string, len(p.Errors))
	for i := range p.Errors {
		lines[i] = p.Errors[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Error gives "place: detail; remedy".
func (e *Error) Error() string {
	text := e.Detail
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	switch {
	case e.Name != "":
		return e.Name + ": " + text
	case strings.HasPrefix(e.Pointer, "#/"):
		return strings.TrimPrefix(e.Pointer, "#/") + ": " + text
	}
	return text
}

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the media type of problems, where values have that of JSON.
func (p *Problem) ContentType(string) string { return ProblemType }

// ProblemType is the media type of a [Problem].
const ProblemType = "application/problem+json"

// Refuse makes a problem.
func Refuse(status int, format string, a ...any) *Problem {
	return &Problem{Status: status, Title: http.StatusText(status), Detail: fmt.Sprintf(format, a...)}
}
