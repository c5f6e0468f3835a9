package bolt

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Limits of one round of the writer.
const (
	roundTxns  = 256
	roundBytes = 8 << 20
)

// request is one transaction on its way through the writer.
type request struct {
	store.Txn
	flags byte // of what it puts

	revision store.Revision
	err      error
	done     chan struct{}
}

// Commit carries out a transaction; when it returns, the disk has it.
func (s *Store) Commit(ctx context.Context, t store.Txn) (store.Revision, error) {
	if err := t.Check(); err != nil {
		return 0, err
	}
	return s.commit(ctx, t, 0)
}

func (s *Store) commit(ctx context.Context, t store.Txn, flags byte) (store.Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	r := &request{Txn: t, flags: flags, done: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, errClosed
	}
	s.queue = append(s.queue, r)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if s.withdraw(r) {
			return 0, ctx.Err()
		}
		<-r.done // it is being written, which takes no time worth lying about
	}
	return r.revision, r.err
}

// withdraw takes a request back that the writer has not taken yet.
func (s *Store) withdraw(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, q := range s.queue {
		if q == r {
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			return true
		}
	}
	return false
}

// write is the writer: round after round until the store is closed.
func (s *Store) write() {
	for {
		round := s.take()
		if len(round) > 0 {
			s.carryOut(round)
			continue
		}
		select {
		case <-s.wake:
		case <-s.closing:
			if round = s.take(); len(round) == 0 {
				return
			}
			s.carryOut(round)
		}
	}
}

// take gets what waits, up to a round's limits.
func (s *Store) take() []*request {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < min(len(s.queue), roundTxns) && size < roundBytes {
		for _, p := range s.queue[n].Put {
			size += len(p.Value)
		}
		n++
	}
	round := append([]*request(nil), s.queue[:n]...)
	rest := copy(s.queue, s.queue[n:])
	clear(s.queue[rest:])
	s.queue = s.queue[:rest]
	return round
}

// carryOut writes a round and answers it.
func (s *Store) carryOut(round []*request) {
	if err := s.round(round); err != nil {
		if len(round) > 1 && errors.Is(err, store.ErrFull) {
			// One asks for too much; those that delete may still go through.
			for _, r := range round {
				s.carryOut([]*request{r})
			}
			return
		}
		for _, r := range round {
			r.revision, r.err = 0, err
		}
	}
	for _, r := range round {
		close(r.done)
	}
}

// round writes some transactions, one revision each, in one of bbolt's.
func (s *Store) round(round []*request) error {
	s.mu.Lock()
	before := s.revision
	s.mu.Unlock()
	w := roundWriter{s: s, revision: before, forgotten: s.forgotten, historyBytes: s.historyBytes}
	err := s.guard(func() error {
		tx, err := s.db.Begin(true)
		if err != nil {
			return err
		}
		defer tx.Rollback() // unless it has been committed
		w.tx, w.entries, w.history = tx, tx.Bucket(entryBucket), tx.Bucket(historyBucket)
		w.full = s.used(tx) > s.options.MaxSize
		for _, r := range round {
			if err := w.one(r); err != nil {
				return err
			}
		}
		if w.revision == before {
			return nil // which spares the disk
		}
		if err := w.finish(); err != nil {
			return err
		}
		s.gate.Lock()
		defer s.gate.Unlock()
		if err := tx.Commit(); err != nil {
			return err
		}
		s.forgotten, s.historyBytes = w.forgotten, w.historyBytes
		s.mu.Lock()
		s.revision = w.revision
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		return nil
	})
	return s.afterWrite(err)
}

// used is how much of the file is in use, in bytes.
func (s *Store) used(tx *bbolt.Tx) int64 {
	stats := s.db.Stats()
	return tx.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(s.db.Info().PageSize)
}

// roundWriter is the state of a round that may still be rolled back.
type roundWriter struct {
	s                *Store
	tx               *bbolt.Tx
	entries, history *bbolt.Bucket
	full             bool
	revision         store.Revision
	forgotten        store.Revision
	historyBytes     int64
}

// one carries out a transaction, or sets its error. It returns an error only if
// the whole round has failed.
func (w *roundWriter) one(r *request) error {
	for _, c := range r.If {
		is, err := w.get(c.Key)
		if err != nil {
			return err
		}
		if is.modified != c.Modified {
			r.revision, r.err = 0, fmt.Errorf("%w: %q is at revision %d, not at %d", store.ErrConflict, c.Key, is.modified, c.Modified)
			return nil
		}
	}
	if w.full && len(r.Put) > 0 {
		r.revision, r.err = 0, fmt.Errorf("%w: %s has %d MB in use; delete some, or raise its limit", store.ErrFull, w.s.path, w.s.options.MaxSize>>20)
		return nil
	}
	next := w.revision + 1
	var history []byte
	for _, p := range r.Put {
		old, err := w.get(p.Key)
		if err != nil {
			return err
		}
		now := record{created: old.created, modified: next, flags: r.flags, value: p.Value}
		if old.modified == 0 {
			now.created = next
		}
		if err := w.entries.Put([]byte(p.Key), now.encode(p.Key)); err != nil {
			return err
		}
		history = appendChange(history, p.Key, now)
	}
	for _, key := range r.Delete {
		old, err := w.get(key)
		if err != nil {
			return err
		}
		// An announcement removes what is still its own.
		if old.modified == 0 || r.flags&announced != 0 && old.flags&announced == 0 {
			continue
		}
		if err := w.entries.Delete([]byte(key)); err != nil {
			return err
		}
		history = appendChange(history, key, record{flags: gone})
	}
	if len(history) > 0 {
		w.revision = next
		key := encodeRevision(next)
		seal(key, history)
		if err := w.history.Put(key, history); err != nil {
			return err
		}
		w.historyBytes += int64(len(history))
	}
	r.revision, r.err = w.revision, nil
	return nil
}

// get reads a record; one without revisions is that of no key.
func (w *roundWriter) get(key string) (record, error) {
	b := w.entries.Get([]byte(key))
	if b == nil {
		return record{}, nil
	}
	r, err := decode([]byte(key), b)
	if err != nil {
		err = w.s.damaged(fmt.Errorf("key %q: %w", key, err))
	}
	return r, err
}

// finish forgets history that is too much and writes the revisions down.
func (w *roundWriter) finish() error {
	c := w.history.Cursor()
	for key, b := c.First(); key != nil; key, b = c.First() {
		oldest, err := decodeRevision(key)
		if err != nil {
			return w.s.damaged(err)
		}
		if oldest == w.revision || w.revision-oldest < store.Revision(w.s.options.History) && w.historyBytes <= w.s.options.HistoryBytes {
			break
		}
		w.historyBytes -= int64(len(b))
		if err := c.Delete(); err != nil {
			return err
		}
		w.forgotten = oldest
	}
	meta := w.tx.Bucket(metaBucket)
	return errors.Join(meta.Put(revisionKey, encodeRevision(w.revision)), meta.Put(forgottenKey, encodeRevision(w.forgotten)))
}
