package routes

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

const (
	// settle is how long a file has to rest before it is read: who writes in
	// place does so in pieces, and each piece may look like a whole.
	settle = 50 * time.Millisecond
	// poll finds what inotify does not tell: a link into another directory, a
	// file system on the network, an overflow.
	poll = 2 * time.Second
	// maxFile bounds what is read: room for a million routes, and an end to
	// /dev/zero.
	maxFile = 256 << 20
	// deniedKept is of how many addresses it is looked whether the rule lets them
	// pass by now: an address of this host may go, and with it the mistake.
	deniedKept = 16
)

// File keeps a Table as a file says. A file that is wrong, or gone, changes
// nothing: the routes before stay.
type File struct {
	path    string
	table   *Table
	log     func(warn bool, message string)
	watcher *fsnotify.Watcher // nil: inotify could not be had

	mu      sync.Mutex
	reach   Reach
	id      identity // of what was read last
	sum     [sha256.Size]byte
	problem string       // the last failure, so that each is told once
	denied  []netip.Addr // some that the rule did not let pass in what was read last
	stats   FileStats
}

// FileStats are the figures of a File.
type FileStats struct {
	Routes   int
	Revision uint64    // counts changes of routes since the start
	Loaded   time.Time // when the routes that hold were read
	Errors   uint64    // times that the file could not be used
	Problem  string    // why it can't be now, or ""
}

// OpenFile reads the file at path into table. It has to be there and right, empty
// if there are no routes yet: a process that can't serve its routes should not
// take the place of one that does.
func OpenFile(path string, reach Reach, table *Table, log func(warn bool, message string)) (*File, error) {
	f := &File{path: path, table: table, log: log, reach: reach}
	var err error
	// The directory, since a file that is replaced by another is no longer the
	// one that would be watched; and before the first look at it.
	if f.watcher, err = fsnotify.NewWatcher(); err == nil {
		if err = f.watcher.Add(filepath.Dir(path)); err != nil {
			f.watcher.Close()
			f.watcher = nil
		}
	}
	watchErr := err
	data, id, err := f.read()
	if err == nil {
		var s *Snapshot
		if s, err = f.snapshot(data, reach); err == nil {
			f.store(s, data, id)
			if watchErr != nil {
				log(true, fmt.Sprintf("routes: %v; changes of %s are seen by a look every %v (raise fs.inotify.max_user_instances)", watchErr, path, poll))
			}
			return f, nil
		}
	}
	f.Close()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: no such file; make it, empty if there are no routes yet, or correct routes_file in [proxy]", path)
	}
	return nil, err
}

// Close ends the watch. The Table keeps its routes.
func (f *File) Close() {
	if f.watcher != nil {
		f.watcher.Close()
	}
}

// Stats are the figures.
func (f *File) Stats() FileStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// Watch follows the file until ctx ends.
func (f *File) Watch(ctx context.Context) {
	var events chan fsnotify.Event
	var errs chan error
	if f.watcher != nil {
		events, errs = f.watcher.Events, f.watcher.Errors
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	soon := time.NewTimer(0) // what has changed since OpenFile
	defer soon.Stop()
	armed := true
	touched := false // the file itself; its looks may be the same after
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			// What happens to another file may concern this one, which may be a link,
			// but must not put off the look at it: a log beside it is never at rest.
			if own := filepath.Base(e.Name) == filepath.Base(f.path); own || !armed {
				touched = touched || own
				soon.Reset(settle)
				armed = true
			}
		case _, ok := <-errs:
			if !ok {
				errs = nil
			}
			touched, armed = true, true
			soon.Reset(settle)
		case <-tick.C:
			f.look(false)
		case <-soon.C:
			if f.look(touched) {
				touched, armed = false, false
			} else {
				soon.Reset(settle)
			}
		}
	}
}

// identity is what a file looks like from outside.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// errChanging says that somebody is writing.
var errChanging = errors.New("the file changes while it is read")

func (f *File) stat() (id identity, err error) {
	var st unix.Stat_t
	if err := unix.Stat(f.path, &st); err != nil {
		return id, &fs.PathError{Op: "stat", Path: f.path, Err: err}
	}
	return identify(&st), nil
}

func identify(st *unix.Stat_t) identity {
	return identity{dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim} //nolint:unconvert // 32 bits on some
}

// read gives all of a file that nobody is writing.
func (f *File) read() ([]byte, identity, error) {
	// A pipe without a writer would be waited for otherwise.
	file, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, identity{}, err
	}
	defer file.Close()
	var st unix.Stat_t
	look := func() (identity, error) {
		err := unix.Fstat(int(file.Fd()), &st)
		return identify(&st), err
	}
	before, err := look()
	if err != nil {
		return nil, before, fmt.Errorf("stat %s: %w", f.path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, before, fmt.Errorf("%s is no regular file; correct routes_file in [proxy]", f.path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, before, fmt.Errorf("read %s: %w", f.path, err)
	}
	if len(data) > maxFile {
		return nil, before, fmt.Errorf("%s is larger than %d MiB; remove routes that nobody needs", f.path, maxFile>>20)
	}
	if after, err := look(); err != nil || after != before {
		return nil, before, errChanging
	}
	return data, before, nil
}

func (f *File) snapshot(data []byte, reach Reach) (*Snapshot, error) {
	list, err := Parse(f.path, data, reach)
	if err != nil {
		return nil, err
	}
	return NewSnapshot(0, list)
}

// look reads the file if it is another, or if touched it may be. It is false if
// somebody is writing right now.
func (f *File) look(touched bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, err := f.stat()
	if err != nil {
		f.id = identity{}
		f.failed(fmt.Errorf("%w; put it back", err))
		return true
	}
	if id == f.id && !touched && !f.passable() {
		return true
	}
	if age := time.Since(time.Unix(id.mtime.Unix())); 0 <= age && age < settle {
		return false
	}
	data, id, err := f.read()
	switch {
	case errors.Is(err, errChanging):
		return false
	case err != nil:
		f.failed(err)
		return true
	}
	sum := sha256.Sum256(data)
	if sum == f.sum && f.problem == "" {
		f.id = id
		return true
	}
	f.id = id
	if len(data) == 0 && f.table.Of(Operator).Len() > 0 {
		f.failed(fmt.Errorf("%s is empty, which is what a file that is being written looks like; for no routes leave a comment in it", f.path))
		return true
	}
	f.denied = nil
	s, err := f.snapshot(data, func(a netip.Addr) error {
		err := f.reach(a)
		if err != nil && len(f.denied) < deniedKept {
			f.denied = append(f.denied, a)
		}
		return err
	})
	if err != nil {
		f.failed(err)
		return true
	}
	f.store(s, data, id)
	return true
}

// passable tells whether the rule lets an address pass that it did not.
func (f *File) passable() bool {
	return slices.ContainsFunc(f.denied, func(a netip.Addr) bool { return f.reach(a) == nil })
}

// store makes s count, unless it is what counts.
func (f *File) store(s *Snapshot, data []byte, id identity) {
	old := f.table.Of(Operator)
	f.denied = nil
	changes := s.Changes(old)
	if changes.Any() || f.stats.Revision == 0 {
		f.stats.Revision++
		s.Revision = f.stats.Revision
		f.table.Store(s)
	}
	if changes.Any() || f.stats.Loaded.IsZero() || f.problem != "" {
		f.log(false, fmt.Sprintf("routes: %d from %s (revision %d: %d added, %d removed, %d changed)",
			s.Len(), f.path, f.stats.Revision, changes.Added, changes.Removed, changes.Changed))
	}
	f.id, f.sum, f.problem = id, sha256.Sum256(data), ""
	f.stats.Routes, f.stats.Loaded, f.stats.Problem = s.Len(), time.Now(), ""
}

// failed tells, once, that the file can't be used.
func (f *File) failed(err error) {
	if f.problem == err.Error() {
		return
	}
	f.problem = err.Error()
	f.stats.Problem = f.problem
	f.stats.Errors++
	before := fmt.Sprintf("going on with the %d routes of before", f.table.Of(Operator).Len())
	var list *FileErrors
	if !errors.As(err, &list) {
		f.log(true, fmt.Sprintf("routes: %v; %s", err, before))
		return
	}
	for _, e := range list.List {
		f.log(true, "routes: "+e.Error())
	}
	f.log(true, fmt.Sprintf("routes: %s has %d mistakes and is not used; %s", f.path, len(list.List)+list.Omitted, before))
}

// Prepare finds out whether the file is right under another rule; use makes that
// the rule, and the routes what the file says.
func (f *File) Prepare(reach Reach) (use func(), err error) {
	data, id, err := f.read()
	if err != nil {
		return nil, err
	}
	s, err := f.snapshot(data, reach)
	if err != nil {
		return nil, err
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.reach = reach
		f.store(s, data, id)
	}, nil
}
