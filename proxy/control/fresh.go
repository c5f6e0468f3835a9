package control

import (
	"context"
	"time"
)

// fresh remembers what the store has said for a short while, so that many who ask
// the same are one to the store.
type fresh[T any] struct {
	life time.Duration
	one  chan struct{} // who has put something in may touch what follows
	at   time.Time     // when it was asked for
	v    T
}

func newFresh[T any](life time.Duration) *fresh[T] {
	return &fresh[T]{life: life, one: make(chan struct{}, 1)}
}

// get gives what load has said, or says now.
func (f *fresh[T]) get(ctx context.Context, load func(context.Context) (T, error)) (v T, err error) {
	select {
	case f.one <- struct{}{}:
		defer func() { <-f.one }()
	case <-ctx.Done():
		return v, ctx.Err()
	}
	if now := time.Now(); f.at.IsZero() || now.Sub(f.at) >= f.life {
		if v, err = load(ctx); err != nil {
			return v, err
		}
		f.v, f.at = v, now
	}
	return f.v, nil
}

// forget has the next one ask again.
func (f *fresh[T]) forget() {
	f.one <- struct{}{}
	f.at = time.Time{}
	<-f.one
}
