package bolt

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"aarch64.com/isthmus/proxy/routes/store"
)

// announcement is a key that goes with the process: its record is marked, and
// whoever opens the file next removes it.
type announcement struct {
	s      *Store
	key    string
	closed atomic.Bool
}

// Announce prepares a key. Only one process has the file, so that nobody else can
// announce the same.
func (s *Store) Announce(ctx context.Context, key string) (store.Announcement, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	if err := store.CheckKey(key); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.said[key] != nil {
		return nil, fmt.Errorf("this process announces %q already", key)
	}
	a := &announcement{s: s, key: key}
	s.said[key] = a
	return a, nil
}

// Set changes the value.
func (a *announcement) Set(ctx context.Context, value []byte) error {
	if a.closed.Load() {
		return fmt.Errorf("%q is not announced any more", a.key)
	}
	if err := store.CheckValue(a.key, value); err != nil {
		return err
	}
	_, err := a.s.commit(ctx, store.Txn{Put: []store.Put{{Key: a.key, Value: value}}}, announced)
	return err
}

// Close removes the key.
func (a *announcement) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	a.s.mu.Lock()
	delete(a.s.said, a.key)
	a.s.mu.Unlock()
	_, err := a.s.commit(context.Background(), store.Txn{Delete: []string{a.key}}, announced)
	if errors.Is(err, errClosed) {
		return nil // which has removed it
	}
	return err
}

// remove removes announced keys while no writer runs.
func (s *Store) remove(keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), store.MaxTxn)
		r := &request{Txn: store.Txn{Delete: keys[:n]}, flags: announced}
		if err := s.round([]*request{r}); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}
