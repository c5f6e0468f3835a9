package page

import (
	"net/http"
	"slices"
	"strings"

	"aarch64.com/isthmus/proxy/routes/catalog"
)

// field is one of a form, with all that is said about it.
type field struct {
	Name, Label, Hint string
	Value             string
	Kind              string // of the input; "": text
	Lines             int    // of a textarea; 0: an input
	Mode              string // inputmode: which keys a phone shows
	Complete          string // autocomplete
	Required          bool
	Locked            bool // shown, but not to be changed
	Mono              bool // addresses and the like
	Short             bool
	Focus             bool
	Choices           []choice // radio buttons, or a select
	Select            bool

	Errors []string // what is wrong with it, and what to do
	Theirs string   // what somebody else has made of it meanwhile
	Taken  bool     // and that is in Value now, for it was not touched here
}

type choice struct{ Value, Label, Hint string }

// On tells whether a box is ticked.
func (f *field) On() bool { return f.Value == "on" }

// Describe is what belongs to the field for those who don't see it: the IDs of its
// hint, errors and notes.
func (f *field) Describe() string {
	var ids []string
	if len(f.Errors) > 0 {
		ids = append(ids, f.Name+"-error")
	}
	if f.Theirs != "" {
		ids = append(ids, f.Name+"-theirs")
	}
	if f.Hint != "" {
		ids = append(ids, f.Name+"-hint")
	}
	return strings.Join(ids, " ")
}

// form is what a form shows.
type form struct {
	Action string
	Fields []*field
	Submit string
	Cancel string // where to go without sending it
	Hidden map[string]string
	Errors []string // that belong to no field
}

func (f *form) field(name string) *field {
	i := slices.IndexFunc(f.Fields, func(x *field) bool { return x.Name == name })
	if i < 0 {
		return nil
	}
	return f.Fields[i]
}

// Wrong are the fields with errors.
func (f *form) Wrong() (list []*field) {
	for _, x := range f.Fields {
		if len(x.Errors) > 0 {
			list = append(list, x)
		}
	}
	return list
}

// wrong puts what is wrong to its fields, and the cursor into the first of them.
func (f *form) wrong(all []*catalog.Invalid) {
	for _, e := range all {
		name, _, _ := strings.Cut(e.Field, "[")
		text := upperFirst(e.Problem) + "."
		if e.Remedy != "" {
			text += " " + upperFirst(e.Remedy) + "."
		}
		if x := f.field(name); x != nil {
			x.Errors = append(x.Errors, text)
		} else {
			f.Errors = append(f.Errors, text)
		}
	}
	f.focus()
}

func (f *form) focus() {
	for _, x := range f.Fields {
		x.Focus = false
	}
	if w := f.Wrong(); len(w) > 0 {
		w[0].Focus = true
	}
}

// status is that of a page with the form.
func (f *form) status() int {
	if len(f.Errors) > 0 || len(f.Wrong()) > 0 {
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}
