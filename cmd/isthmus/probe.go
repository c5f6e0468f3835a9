package main

import (
	"context"
	"fmt"
	"sync/atomic"
)

// probe finds out whether a service still answers. One question is under way
// at a time: where they hang, questions must not pile up.
type probe struct {
	who  string
	ask  func() // returns when all that work for it have answered
	busy atomic.Bool
}

// alive is nil when there is an answer before ctx ends.
func (p *probe) alive(ctx context.Context) error {
	if !p.busy.CompareAndSwap(false, true) {
		return fmt.Errorf("%s: no answer to the last question yet", p.who)
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
		return fmt.Errorf("%s: no answer", p.who)
	}
}
