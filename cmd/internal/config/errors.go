package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxErrors is how many errors are listed; the rest is counted.
const maxErrors = 20

// Error is one thing that is wrong with the file.
type Error struct {
	File         string
	Line, Column int // both start at 1; the column counts bytes
	Key          string
	Problem      string // what is wrong
	Remedy       string // what to do about it
}

// Error gives "file:line:column: key: problem; remedy".
func (e *Error) Error() string {
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

// Errors is everything that is wrong with one file, in the order of its lines.
type Errors struct {
	List    []*Error
	Omitted int // how many more there were
}

// Error gives one line per error.
func (e *Errors) Error() string {
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
func (e *Errors) Unwrap() []error {
	list := make([]error, len(e.List))
	for i, one := range e.List {
		list[i] = one
	}
	return list
}

// IsInvalid tells whether err says that a file's content is wrong, rather than
// that it could not be read.
func IsInvalid(err error) bool {
	var e *Errors
	return errors.As(err, &e)
}

// report collects the errors of one document.
type report struct {
	file string
	doc  []byte
	errs Errors
}

// add notes an error about the byte at off.
func (r *report) add(off int, key, problem, remedy string) {
	if len(r.errs.List) == maxErrors {
		r.errs.Omitted++
		return
	}
	line, column := position(r.doc, off)
	r.addAt(line, column, key, problem, remedy)
}

func (r *report) addAt(line, column int, key, problem, remedy string) {
	if len(r.errs.List) == maxErrors {
		r.errs.Omitted++
		return
	}
	r.errs.List = append(r.errs.List, &Error{
		File: r.file, Line: line, Column: column, Key: key, Problem: problem, Remedy: remedy,
	})
}

// err is nil when nothing is wrong.
func (r *report) err() error {
	if len(r.errs.List) == 0 {
		return nil
	}
	// Decoding and checking are two passes; people read from top to bottom.
	slices.SortStableFunc(r.errs.List, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &r.errs
}

// position gives the line and the column of the byte at off, both from 1.
func position(doc []byte, off int) (line, column int) {
	before := doc[:min(off, len(doc))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}
