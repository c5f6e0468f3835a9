package routes

import (
	"bytes"
	"fmt"
	"strings"
)

// maxErrors is how many errors are listed; the rest is counted.
const maxErrors = 20

// A FileError is one thing that is wrong with a file of routes.
type FileError struct {
	File         string
	Line, Column int // both start at 1; the column counts bytes
	Key          string
	Problem      string // what is wrong
	Remedy       string // what to do about it
}

// Error gives "file:line:column: key: problem; remedy".
func (e *FileError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Key != "" {
		fmt.Fprintf(&b, "%s: ", e.Key)
	}
	b.WriteString(e.Problem)
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

// FileErrors is everything that is wrong with a file of routes, in the order of
// its lines.
type FileErrors struct {
	List    []*FileError
	Omitted int // how many more there were
}

// Error gives one line per error.
func (e *FileErrors) Error() string {
	lines := make([]string, len(e.List), len(e.List)+1)
	for i, one := range e.List {
		lines[i] = one.Error()
	}
	if e.Omitted > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", e.Omitted))
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the single errors.
func (e *FileErrors) Unwrap() []error {
	list := make([]error, len(e.List))
	for i, one := range e.List {
		list[i] = one
	}
	return list
}

// fail notes what is wrong at the byte off.
func (r *reader) fail(off int, key, problem, remedy string) {
	if len(r.errs.List) == maxErrors {
		r.errs.Omitted++
		return
	}
	before := r.doc[:min(off, len(r.doc))]
	r.errs.List = append(r.errs.List, &FileError{
		File: r.name, Line: bytes.Count(before, []byte("\n")) + 1, Column: len(before) - bytes.LastIndexByte(before, '\n'),
		Key: key, Problem: problem, Remedy: remedy,
	})
}

// line is the number of the line with the byte off.
func (r *reader) line(off int) int { return bytes.Count(r.doc[:off], []byte("\n")) + 1 }
