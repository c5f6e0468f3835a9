// Package store keeps the few kinds of records that hypervisors share: projects,
// proxies, tokens, the audit log. It knows keys and bytes; what they mean is
// package catalog's.
//
//	control ─▶ catalog ─▶ Store.Commit ─▶ engine ─▶ Store.Watch ─▶ mirror ─▶ routes.Table
//
// Two engines stand behind [Store]: bolt, a file of one process, and etcd, a
// cluster. Both pass the same tests (storetest).
//
// A revision numbers commits, of all keys together, and grows with each. An entry
// knows the revision that made it and the one that changed it last, which is what
// a [Condition] names: compare and set.
package store

import (
	"context"
	"errors"
)

// Revision numbers the commits of a store from 1. Those that one process sees need
// not follow each other without gaps.
type Revision int64

// Limits that hold for every engine, so that what one takes the other does, too.
const (
	MaxKey   = 1 << 10  // bytes
	MaxValue = 64 << 10 // bytes
	MaxTxn   = 100      // conditions, puts and deletes of one transaction together; etcd's is 128
	MaxBytes = 1 << 20  // keys and values of one transaction together; etcd's requests have 1.5 MiB
)

var (
	// ErrConflict tells that a condition did not hold. Nothing has changed.
	ErrConflict = errors.New("somebody else has changed it meanwhile")
	// ErrCompacted tells that the changes after a revision are not known any more.
	// Whoever watches lists again.
	ErrCompacted = errors.New("the history asked for is gone")
	// ErrUnavailable tells that the store can't be asked right now. Whether a
	// commit that ended so was carried out is not known.
	ErrUnavailable = errors.New("the store can't be reached")
	// ErrFull tells that the store takes no more until somebody makes room.
	ErrFull = errors.New("the store is full")
)

// Entry is one key and its value. Nobody changes Value.
type Entry struct {
	Key      string
	Value    []byte
	Created  Revision
	Modified Revision
}

// Change is what became of a key. Gone ones have no Value and the revision that
// removed them.
type Change struct {
	Entry
	Gone bool
}

// Condition holds if the key was last changed at the revision; 0: there is no such
// key.
type Condition struct {
	Key      string
	Modified Revision
}

// Put is a value for a key.
type Put struct {
	Key   string
	Value []byte
}

// Txn is carried out as a whole, or not at all. No key stands in both Put and
// Delete, or in one of them twice.
type Txn struct {
	If     []Condition
	Put    []Put
	Delete []string // one that is not there is no error
}

// Store is an engine. Its methods may be called from many goroutines. Errors wrap
// those above where they fit; a context that ends gives its own error. After Close
// all fail with ErrUnavailable.
type Store interface {
	// Get reads keys at one revision, the newest one there is (linearizable). Those
	// that are not there are left out; without keys it tells the revision.
	Get(ctx context.Context, keys ...string) (map[string]Entry, Revision, error)

	// List calls f with all entries whose keys begin with prefix, in the order of
	// keys, as they were at the revision it returns. An error of f ends it and is
	// returned; after any error, what f has been given is not all there is, and
	// ErrCompacted is to be tried again. f may use the store.
	List(ctx context.Context, prefix string, f func(Entry) error) (Revision, error)

	// Watch calls f with the changes of keys that begin with prefix, made after a
	// revision, in order, until ctx ends or f returns an error. All changes of one
	// commit come in one call, which may have those of several; through is the
	// revision up to which everything has been told, and a call without changes
	// just says so. Idle, it calls f at least every few seconds if the store answers.
	// It ends with ErrUnavailable if the store does not answer for some seconds; who
	// watched goes on after the last through. A revision that the store has not
	// reached, as of one restored from a backup, is ErrCompacted, too.
	Watch(ctx context.Context, prefix string, after Revision, f func(changes []Change, through Revision) error) error

	// Commit carries out a transaction and gives its revision. What it changed is in
	// every Get and List from then on.
	Commit(ctx context.Context, t Txn) (Revision, error)

	// Announce prepares a key that is there for as long as this process is, from the
	// first Set on: it is removed some seconds after the process has died, or on Close.
	// Announced keys have revisions and are watched and listed like all others. If
	// two processes announce the same one, the last Set counts. To find the one that
	// does what only one shall do, let each announce a key of its own below a common
	// prefix: it is who has the lowest Created.
	Announce(ctx context.Context, key string) (Announcement, error)

	// Close ends watches and announcements.
	Close() error
}

// Announcement is a key that lives with this process.
type Announcement interface {
	// Set changes the value. If the key gets lost in a time without the store, it is
	// put back, by the next Set or before.
	Set(ctx context.Context, value []byte) error
	// Close removes the key.
	Close() error
}
