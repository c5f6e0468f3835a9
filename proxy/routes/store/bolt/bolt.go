package bolt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Defaults of the zero values in Options.
const (
	DefaultHistory      = 10_000
	DefaultHistoryBytes = 64 << 20
	DefaultMaxSize      = 2 << 30
	DefaultWait         = time.Second
)

// Options of a store. Zero values are usable.
type Options struct {
	History      int           // commits whose changes are kept for watchers that come back; 0: DefaultHistory
	HistoryBytes int64         // and at most so much of them; 0: DefaultHistoryBytes, or an eighth of MaxSize
	MaxSize      int64         // bytes that may be in use before puts fail with store.ErrFull; 0: DefaultMaxSize
	Wait         time.Duration // for another process to let go of the file; 0: DefaultWait
}

// Store is the engine.
type Store struct {
	path    string
	options Options
	db      *bbolt.DB

	// bbolt shows a commit before it is on the disk. The writer holds the gate until
	// it is; who begins to read passes through.
	gate sync.RWMutex

	broken atomic.Pointer[error] // why nothing goes any more

	writer   sync.WaitGroup
	wake     chan struct{} // for the writer: something is queued, or it is to end
	closing  chan struct{}
	closeErr error
	once     sync.Once

	mu       sync.Mutex // guards what follows
	queue    []*request
	closed   bool           // nothing is queued any more
	revision store.Revision // newest
	changed  chan struct{}  // closed by the next commit
	said     map[string]*announcement

	// The writer's alone.
	forgotten    store.Revision // history up to here is gone
	historyBytes int64
}

var _ store.Store = (*Store)(nil)

// ErrLocked tells that somebody else has the store. It is to be had when that one
// closes it.
var ErrLocked = errors.New("another process has the file")

// Buckets, and the keys of the first.
var (
	metaBucket    = []byte("meta")
	entryBucket   = []byte("entries")
	historyBucket = []byte("history")

	formatKey    = []byte("format")
	revisionKey  = []byte("revision")
	forgottenKey = []byte("forgotten")
)

const format = "isthmus-routes-1"

// hardSlack is added to twice MaxSize, the size that bbolt never gets beyond: room
// for deletions in a full store, and for bbolt, which grows files in steps.
const hardSlack = 32 << 20

// fileMode: it has customers' names and the hashes of tokens.
const fileMode = 0o600

// Open opens the store in a file, which it makes if there is none. A file that
// another process has is [store.ErrUnavailable], and so is a damaged one, which is
// left as it is.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.History == 0 {
		o.History = DefaultHistory
	}
	if o.HistoryBytes == 0 {
		o.HistoryBytes = min(DefaultHistoryBytes, o.MaxSize/8)
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	s := &Store{
		path: path, options: o, said: map[string]*announcement{},
		wake: make(chan struct{}, 1), closing: make(chan struct{}), changed: make(chan struct{}),
	}
	left, err := s.open()
	if err == nil {
		err = s.remove(left) // announced by a process that has ended
	}
	if err != nil {
		if s.db != nil {
			s.closeFile()
		}
		return nil, err
	}
	s.writer.Go(s.write)
	return s, nil
}

// open returns the keys that are marked as announced.
func (s *Store) open() (announced []string, err error) {
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := create(s.path); err != nil {
			return nil, fmt.Errorf("make the store of routes %s: %w", s.path, err)
		}
	case err != nil:
		return nil, fmt.Errorf("open the store of routes: %w", err)
	case info.Size() == 0:
		// bbolt would take it for a new one.
		return nil, s.damaged(errors.New("it is empty"))
	}
	err = s.guard(func() error {
		options := *bbolt.DefaultOptions
		options.Timeout = s.options.Wait
		options.FreelistType = bbolt.FreelistMapType
		// A mapping that grows waits for all readers; one that large has no need to.
		options.MaxSize = int(2*s.options.MaxSize + hardSlack)
		options.InitialMmapSize = options.MaxSize
		var err error
		s.db, err = bbolt.Open(s.path, fileMode, &options)
		switch {
		case errors.Is(err, berrors.ErrTimeout):
			return fmt.Errorf("%w: %w %s; stop it, or talk to its API instead (`fuser %s` tells which one)",
				store.ErrUnavailable, ErrLocked, s.path, s.path)
		case errors.As(err, new(syscall.Errno)):
			return fmt.Errorf("open the store of routes: %w", err)
		case err != nil: // bbolt does not like what it read
			return s.damaged(err)
		}
		announced, err = s.load()
		return err
	})
	return announced, err
}

// create makes a store that is whole before it has its name.
func create(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(f.Name(), fileMode, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		_, err = tx.CreateBucket(entryBucket)
		_, err2 := tx.CreateBucket(historyBucket)
		return errors.Join(err, err2, meta.Put(formatKey, []byte(format)),
			meta.Put(revisionKey, encodeRevision(0)), meta.Put(forgottenKey, encodeRevision(0)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// Somebody may have been faster; theirs is as good.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// load reads all of it once: what is spoiled is found now rather than later.
// It returns the keys that are marked as announced.
func (s *Store) load() (marked []string, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		info, err := os.Stat(s.path)
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return s.damaged(fmt.Errorf("it has %d bytes and should have %d", info.Size(), tx.Size()))
		}
		meta, entries, history := tx.Bucket(metaBucket), tx.Bucket(entryBucket), tx.Bucket(historyBucket)
		if meta == nil || entries == nil || history == nil {
			return fmt.Errorf("%s is no store of routes; name another file", s.path)
		}
		if is := meta.Get(formatKey); string(is) != format {
			return fmt.Errorf("%s has the format %.32q, and this isthmus knows %q; use the isthmus that wrote it, to export from", s.path, is, format)
		}
		if s.revision, err = decodeRevision(meta.Get(revisionKey)); err != nil {
			return s.damaged(err)
		}
		if s.forgotten, err = decodeRevision(meta.Get(forgottenKey)); err != nil {
			return s.damaged(err)
		}
		err = entries.ForEach(func(key, b []byte) error {
			r, err := decode(key, b)
			if err == nil && r.modified > s.revision {
				err = fmt.Errorf("revision %d is after the newest, %d", r.modified, s.revision)
			}
			if err != nil {
				return s.damaged(fmt.Errorf("key %q: %w", key, err))
			}
			if r.flags&announced != 0 {
				marked = append(marked, string(key))
			}
			return nil
		})
		if err != nil {
			return err
		}
		return history.ForEach(func(revision, b []byte) error {
			s.historyBytes += int64(len(b))
			if err := eachChange(revision, b, func([]byte, record) {}); err != nil {
				return s.damaged(fmt.Errorf("history %x: %w", revision, err))
			}
			return nil
		})
	})
	return marked, err
}

// Close removes what is announced, ends watches and lets go of the file.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.closing)
		s.writer.Wait()
		s.mu.Lock()
		keys := slices.Collect(maps.Keys(s.said))
		s.mu.Unlock()
		if s.broken.Load() == nil {
			s.closeErr = s.remove(keys)
		}
		s.closeFile()
	})
	return s.closeErr
}

// closeFile waits for readers, but not for those that a damaged file has thrown
// out of bbolt, perhaps with a lock.
func (s *Store) closeFile() {
	done := make(chan error, 1)
	go func() { done <- s.db.Close() }()
	if s.broken.Load() == nil {
		s.closeErr = errors.Join(s.closeErr, <-done)
		return
	}
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}
