package access

import (
	"errors"

	"aarch64.com/isthmus/proxy/routes/store"
)

// ErrAway tells that the store could not be asked about a token.
type ErrAway struct {
	// Operator tells that the token was an operator's when it was good last, some
	// minutes ago at most. That is enough to be told what is wrong, and for nothing else.
	Operator bool
	Err      error
}

func (e *ErrAway) Error() string { return e.Err.Error() }

// Unwrap gives the store's error.
func (e *ErrAway) Unwrap() error { return e.Err }

// Told tells whether who asks may know all about an error: addresses of the store
// are for operators.
func Told(p Principal, err error) bool {
	var away *ErrAway
	return p.Operator() || errors.As(err, &away) && away.Operator
}

// Trouble says what is wrong with the store, to who may be told.
func Trouble(p Principal, err error) string {
	switch {
	case Told(p, err):
		return err.Error()
	case errors.Is(err, store.ErrFull):
		return store.ErrFull.Error()
	case errors.Is(err, store.ErrUnavailable):
		return store.ErrUnavailable.Error()
	}
	return "it takes too long"
}
