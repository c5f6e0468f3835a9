package visits

import (
	"context"
	"math/rand/v2"
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// perWrite ends an attempt to write.
const perWrite = 10 * time.Second

// said is a key that this process announces, from one goroutine.
type said struct {
	store store.Store
	key   string
	a     store.Announcement // nil: it is not announced
	left  bool               // but may be in the store
}

func (s *said) set(ctx context.Context, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, perWrite)
	defer cancel()
	if s.a == nil {
		a, err := s.store.Announce(ctx, s.key)
		if err != nil {
			return err
		}
		s.a = a
	}
	return s.a.Set(ctx, value)
}

// remove is to be tried again if it fails: the key lives as long as the process.
func (s *said) remove(ctx context.Context) error {
	if s.a != nil {
		err := s.a.Close()
		s.a, s.left = nil, err != nil
		return err
	}
	if !s.left {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, perWrite)
	defer cancel()
	_, err := s.store.Commit(ctx, store.Txn{Delete: []string{s.key}})
	s.left = err != nil
	return err
}

// sleepUpTo waits for a random time; false: ctx has ended.
func sleepUpTo(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
