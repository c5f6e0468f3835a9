package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/proxy/routes/store"
)

// disk keeps the last copy in a file. The file is written anew as a whole, under
// another name, and takes the place of the one before in one step.
type disk struct {
	path string // "": none
	log  func(warn bool, message string)
	wake chan struct{}

	mu  sync.Mutex
	now DiskStats
}

// DiskStats are the figures of the disk copy.
type DiskStats struct {
	Revision store.Revision // that it has; 0: there is none
	Written  time.Time
	Size     int64 // bytes
	Errors   uint64
	Problem  string // why it is not up to date, or ""
}

const (
	// maxDisk bounds what is read: some million records.
	maxDisk = 4 << 30
	// diskRate is how much is written in a second at most, on average: 100,000
	// records are 40 MB.
	diskRate = 1 << 20
	// aside is behind the name of a file that can't be used.
	aside = ".unreadable"
	// unfinished is behind the name of one that is being written, and before
	// something random.
	unfinished = ".new-"
)

func (d *disk) stats() DiskStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// load reads the copy, if there is one that can be used. One that can't is put
// aside.
func (d *disk) load() (c diskCopy, ok bool) {
	if d.path == "" {
		return c, false
	}
	d.tidy()
	data, err := readFile(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false
	}
	if err == nil {
		if c, err = decodeDisk(data); err == nil {
			d.now = DiskStats{Revision: c.revision, Written: c.written, Size: int64(len(data))}
			return c, true
		}
		err = fmt.Errorf("%s: %w", d.path, err)
		if e := os.Rename(d.path, d.path+aside); e == nil {
			err = fmt.Errorf("%w; it is %s now", err, d.path+aside)
		}
	}
	d.failed(fmt.Errorf("%w; starting without", err))
	return diskCopy{}, false
}

func readFile(path string) ([]byte, error) {
	// A pipe without a writer would be waited for otherwise.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxDisk {
		return nil, fmt.Errorf("%s is no regular file, or too large", path)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// tidy removes what was being written when a process ended.
func (d *disk) tidy() {
	dir, name := filepath.Split(d.path)
	list, _ := os.ReadDir(cmp.Or(dir, ".")) // without a directory there is nothing to tidy
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), name+unfinished) {
			continue
		}
		// A process that is being replaced may be writing right now.
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(dir + e.Name())
		}
	}
}

// run writes the copy after changes, now and then, until ctx ends.
func (d *disk) run(ctx context.Context, every time.Duration, view func() *View) {
	if d.path == "" {
		return
	}
	for {
		select {
		case <-d.wake:
		case <-ctx.Done():
			return
		}
		// At most at a rate, but what came within this time is in the next one.
		d.write(view())
		sleep(ctx, max(every, time.Duration(d.stats().Size)*time.Second/diskRate))
	}
}

// flush writes what run has left to be written.
func (d *disk) flush(v *View) {
	select {
	case <-d.wake:
		if d.path != "" {
			d.write(v)
		}
	default:
	}
}

// write replaces the copy.
func (d *disk) write(v *View) {
	written := time.Now().UTC()
	size, err := replaceFile(d.path, func(w io.Writer) error { return encodeDisk(w, v, written) })
	if err != nil {
		d.failed(err)
		wake(d.wake) // again after the usual time
		return
	}
	d.mu.Lock()
	had := d.now.Problem
	d.now = DiskStats{Revision: v.Revision, Written: written, Size: size, Errors: d.now.Errors}
	d.mu.Unlock()
	if had != "" {
		d.log(false, "routes: the copy of the store is on the disk again")
	}
}

func (d *disk) failed(err error) {
	d.mu.Lock()
	news := d.now.Problem != err.Error()
	d.now.Errors++
	d.now.Problem = err.Error()
	d.mu.Unlock()
	if news {
		d.log(true, fmt.Sprintf("routes: copy of the store: %v", err))
	}
}

// replaceFile writes a file that only the owner may read, or leaves the one before.
func replaceFile(path string, write func(io.Writer) error) (size int64, err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+unfinished)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return 0, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	if size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return 0, err
	}
	if err = f.Sync(); err != nil {
		return 0, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	if err = f.Close(); err != nil {
		return 0, err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return 0, err
	}
	if d, err := os.Open(dir); err == nil { // without, the old one comes back after a power cut
		_ = d.Sync()
		d.Close()
	}
	return size, nil
}
