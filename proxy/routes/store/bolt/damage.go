package bolt

import (
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"

	berrors "go.etcd.io/bbolt/errors"

	"aarch64.com/isthmus/proxy/routes/store"
)

var errClosed = fmt.Errorf("%w: it has been closed", store.ErrUnavailable)

// guard runs what reads the mapped file. A page that the disk can't give is a
// SIGBUS, and a page of nonsense a panic in bbolt; neither may end a process that
// forwards packets.
func (s *Store) guard(fn func() error) (err error) {
	if why := s.broken.Load(); why != nil {
		return *why
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = s.damaged(fmt.Errorf("reading it: %v", p))
		}
	}()
	if err = fn(); errors.Is(err, berrors.ErrDatabaseNotOpen) {
		err = errClosed
	}
	return err
}

// damaged ends the use of the file.
func (s *Store) damaged(why error) error {
	err := fmt.Errorf("%w: the file %s is damaged (%w) and has been left as it is; stop isthmus, move the file away, "+
		"and put back a copy of it, or start with an empty one and `isthmus routes import` what was exported last",
		store.ErrUnavailable, s.path, why)
	s.broken.CompareAndSwap(nil, &err)
	return err
}

// afterWrite says what a failed write means.
func (s *Store) afterWrite(err error) error {
	switch {
	case err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrFull):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, berrors.ErrMaxSizeReached):
		return fmt.Errorf("%w: write %s: %w; make room on the disk", store.ErrFull, s.path, err)
	}
	// After a failed fsync, what the kernel shows is not what the disk has.
	err = fmt.Errorf("%w: write %s: %w; look after the disk, then start isthmus again", store.ErrUnavailable, s.path, err)
	s.broken.CompareAndSwap(nil, &err)
	return err
}
