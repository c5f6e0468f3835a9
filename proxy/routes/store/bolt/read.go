package bolt

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Limits of what is read at once, by List and by Watch.
const (
	chunkEntries = 512
	chunkBytes   = 1 << 20
)

// idle is how long a watch says nothing at most.
const idle = 2 * time.Second

// ready tells whether a call makes sense.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.closing:
		return errClosed
	default:
		return nil
	}
}

// revisionOf is the revision that a transaction sees.
func revisionOf(tx *bbolt.Tx) (store.Revision, error) {
	return decodeRevision(tx.Bucket(metaBucket).Get(revisionKey))
}

// begin begins a transaction that reads.
func (s *Store) begin() (*bbolt.Tx, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	return s.db.Begin(false)
}

// view runs fn in a transaction that reads.
func (s *Store) view(fn func(*bbolt.Tx) error) error {
	return s.guard(func() error {
		tx, err := s.begin()
		if err != nil {
			return err
		}
		defer tx.Rollback()
		return fn(tx)
	})
}

// Get reads keys.
func (s *Store) Get(ctx context.Context, keys ...string) (found map[string]store.Entry, revision store.Revision, err error) {
	if err := s.ready(ctx); err != nil {
		return nil, 0, err
	}
	for _, key := range keys {
		if err := store.CheckKey(key); err != nil {
			return nil, 0, err
		}
	}
	found = make(map[string]store.Entry, len(keys))
	err = s.view(func(tx *bbolt.Tx) error {
		if revision, err = revisionOf(tx); err != nil {
			return s.damaged(err)
		}
		entries := tx.Bucket(entryBucket)
		for _, key := range keys {
			b := entries.Get([]byte(key))
			if b == nil {
				continue
			}
			r, err := decode([]byte(key), b)
			if err != nil {
				return s.damaged(fmt.Errorf("key %q: %w", key, err))
			}
			found[key] = r.entry([]byte(key))
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return found, revision, nil
}

// List reads all with a prefix. It holds one transaction of bbolt's, so that
// pages which it may still read are not used again; f is called between chunks.
func (s *Store) List(ctx context.Context, prefix string, f func(store.Entry) error) (revision store.Revision, err error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	var tx *bbolt.Tx
	err = s.guard(func() error {
		if tx, err = s.begin(); err != nil {
			return err
		}
		if revision, err = revisionOf(tx); err != nil {
			_ = tx.Rollback()
			return s.damaged(err)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	cursor := tx.Bucket(entryBucket).Cursor()
	var chunk []store.Entry
	for next := []byte(prefix); next != nil; {
		if err := s.ready(ctx); err != nil {
			return 0, err
		}
		err := s.guard(func() error {
			chunk, next, err = s.chunk(cursor, next, []byte(prefix), chunk[:0])
			return err
		})
		if err != nil {
			return 0, err
		}
		for _, e := range chunk {
			if err := f(e); err != nil {
				return 0, err
			}
		}
		clear(chunk)
	}
	return revision, nil
}

// chunk reads some entries from a key on, and says where the next chunk begins;
// nil: there is none.
func (s *Store) chunk(cursor *bbolt.Cursor, from, prefix []byte, into []store.Entry) (chunk []store.Entry, next []byte, err error) {
	chunk = into
	size := 0
	for key, b := cursor.Seek(from); key != nil && bytes.HasPrefix(key, prefix); key, b = cursor.Next() {
		if len(chunk) == chunkEntries || size > chunkBytes {
			return chunk, bytes.Clone(key), nil
		}
		r, err := decode(key, b)
		if err != nil {
			return nil, nil, s.damaged(fmt.Errorf("key %q: %w", key, err))
		}
		chunk = append(chunk, r.entry(key))
		size += len(b)
	}
	return chunk, nil, nil
}

// Watch tells changes, out of the history.
func (s *Store) Watch(ctx context.Context, prefix string, after store.Revision, f func([]store.Change, store.Revision) error) error {
	silent := time.NewTimer(idle)
	defer silent.Stop()
	for {
		if err := s.ready(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		changes, through, err := s.changes([]byte(prefix), after)
		if err != nil {
			return err
		}
		tell := len(changes) > 0
		if through == after {
			select {
			case <-changed:
			case <-silent.C:
				tell = true
			case <-ctx.Done():
			case <-s.closing:
			}
		}
		after = through
		if tell {
			if err := f(changes, after); err != nil {
				return err
			}
			silent.Reset(idle)
		}
	}
}

// changes reads history after a revision, and says up to which it went.
func (s *Store) changes(prefix []byte, after store.Revision) (list []store.Change, through store.Revision, err error) {
	through = after
	err = s.view(func(tx *bbolt.Tx) error {
		newest, err := revisionOf(tx)
		if err != nil {
			return s.damaged(err)
		}
		forgotten, err := decodeRevision(tx.Bucket(metaBucket).Get(forgottenKey))
		if err != nil {
			return s.damaged(err)
		}
		if after < forgotten || after > newest {
			return fmt.Errorf("%w: after revision %d was asked for, and it goes from %d to %d", store.ErrCompacted, after, forgotten, newest)
		}
		size := 0
		cursor := tx.Bucket(historyBucket).Cursor()
		for key, b := cursor.Seek(encodeRevision(after + 1)); key != nil && len(list) < chunkEntries && size < chunkBytes; key, b = cursor.Next() {
			err := eachChange(key, b, func(changed []byte, r record) {
				if !bytes.HasPrefix(changed, prefix) {
					return
				}
				c := store.Change{Entry: r.entry(changed), Gone: r.flags&gone != 0}
				if c.Gone {
					c.Value = nil
				}
				list = append(list, c)
			})
			if err != nil {
				return s.damaged(fmt.Errorf("history %x: %w", key, err))
			}
			size += len(b)
			if through, err = decodeRevision(key); err != nil {
				return s.damaged(err)
			}
		}
		return nil
	})
	return list, through, err
}
