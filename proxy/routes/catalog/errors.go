package catalog

import (
	"errors"
	"strings"
)

var (
	// ErrNotFound tells that there is no such record, or none that the asker may see.
	ErrNotFound = errors.New("there is none of that name")
	// ErrTaken tells that a host name is another project's. Which, nobody is told;
	// errors.As may find a [*Taken].
	ErrTaken = errors.New("the name is taken")
	// ErrLimit tells that a project has as many proxies as it may have.
	ErrLimit = errors.New("the project has as many proxies as it may have")
	// ErrInUse tells that a project can't go while it has proxies.
	ErrInUse = errors.New("the project still has proxies: delete them first")
	// ErrOff and ErrUnproven are why a proxy is not served.
	ErrOff      = errors.New("switched off")
	ErrUnproven = errors.New("the domain is not proven")
	// ErrToken tells that a secret is nobody's, or not any more.
	ErrToken = errors.New("unknown, revoked or expired token")
)

// Invalid is one thing that is wrong with what somebody wants stored.
type Invalid struct {
	Field   string // as in the JSON form, such as backends[1]
	Problem string
	Remedy  string
}

// Error gives "field: problem; remedy".
func (e *Invalid) Error() string {
	s := e.Problem
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Invalids is everything that is wrong with it.
type Invalids []*Invalid

// Error gives one line for each.
func (e Invalids) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the single ones.
func (e Invalids) Unwrap() []error {
	list := make([]error, len(e))
	for i, one := range e {
		list[i] = one
	}
	return list
}

// Problems lists what is wrong according to an error, nil if it is about
// something else.
func Problems(err error) []*Invalid {
	var all Invalids
	if errors.As(err, &all) {
		return all
	}
	if one := (*Invalid)(nil); errors.As(err, &one) {
		return []*Invalid{one}
	}
	return nil
}

func (e *Invalids) add(field, problem, remedy string) {
	*e = append(*e, &Invalid{Field: field, Problem: problem, Remedy: remedy})
}

// orNil is nil without problems, which the interface of a nil slice is not.
func (e Invalids) orNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// Taken is an [ErrTaken] with what the asker can do if the name is theirs after
// all: publish the challenge, and try again.
type Taken struct {
	Host      string
	Challenge string // the asking project's own
}

// Error tells nothing about the project that has it.
func (e *Taken) Error() string {
	return e.Host + ": the name is taken; if it is yours, publish " + TXT(e.Host) + ` TXT "` + e.Challenge + `", remove other TXT records there, and try again`
}

// Is makes it an ErrTaken.
func (e *Taken) Is(err error) bool { return err == ErrTaken }
