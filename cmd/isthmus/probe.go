package main

import (
	"context"
	"errors"
	"sync/atomic"
)

// probe finds out whether the workers still answer. One question is under way
// at a time: where workers hang, questions must not pile up.
type probe struct {
	ask  func() // returns when every worker has answered
	busy atomic.Bool
}

// alive is nil when every worker answers before ctx ends.
func (p *probe) alive(ctx context.Context) error {
	if !p.busy.CompareAndSwap(false, true) {
		return errors.New("the workers have not answered the last question yet")
	}
	answered := make(chan struct{})
	go func() {
		p.ask()
		p.busy.Store(false)
		close(answered)
	}()
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return errors.New("the workers do not answer")
	}
}
