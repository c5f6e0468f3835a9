package proof

import (
	"context"
	"errors"

	"aarch64.com/isthmus/proxy/routes/store"
)

// election follows who is a candidate. It is read once and watched from there: a
// thousand nodes that asked every few seconds would read a million records each time.
type election struct {
	k       *Checker
	key     string                    // of this node
	all     map[string]store.Revision // when candidates were announced; nil: not read yet
	through store.Revision
}

var errDecided = errors.New("it has been decided")

// wait returns when this node is the first one, or is not any more. An error is one of
// the store or of ctx.
func (e *election) wait(ctx context.Context, first bool) error {
	for {
		if e.all == nil {
			if err := e.read(ctx); err != nil {
				return err
			}
		}
		if e.first() == first {
			return nil
		}
		err := e.k.c.Store.Watch(ctx, lockPrefix, e.through, func(changes []store.Change, through store.Revision) error {
			for _, c := range changes {
				if e.all[c.Key] = c.Created; c.Gone {
					delete(e.all, c.Key)
				}
			}
			if e.through = through; e.first() == first {
				return errDecided
			}
			return nil
		})
		switch {
		case errors.Is(err, errDecided):
			return nil
		case errors.Is(err, store.ErrCompacted):
			e.all = nil
		case err != nil:
			return err
		}
	}
}

func (e *election) read(ctx context.Context) error {
	all := map[string]store.Revision{}
	revision, err := e.k.c.Store.List(ctx, lockPrefix, func(c store.Entry) error {
		all[c.Key] = c.Created
		return nil
	})
	if err == nil {
		e.all, e.through = all, revision
	}
	return err
}

// first tells whether nobody was announced before this node.
func (e *election) first() bool {
	own, there := e.all[e.key]
	for _, created := range e.all {
		if created < own {
			return false
		}
	}
	return there
}
