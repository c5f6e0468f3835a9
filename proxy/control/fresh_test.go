package control

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestFresh(t *testing.T) {
	asked, failure := 0, error(nil)
	load := func(context.Context) (int, error) { asked++; return asked, failure }
	f := newFresh[int](time.Hour)
	get := func(want int) {
		t.Helper()
		if v, err := f.get(t.Context(), load); v != want || err != nil {
			t.Errorf("%d, %v, want %d", v, err, want)
		}
	}
	get(1)
	get(1)
	f.forget()
	failure = errors.New("away")
	if _, err := f.get(t.Context(), load); err != failure {
		t.Errorf("got %v", err)
	}
	failure = nil
	get(3) // a failure is not remembered
	f.life = 0
	get(4)

	// Who waits for somebody's look does not wait longer than it can.
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.get(t.Context(), func(context.Context) (int, error) {
		cancel()
		return f.get(ctx, load)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
