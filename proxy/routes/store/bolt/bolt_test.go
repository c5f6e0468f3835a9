package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/proxy/routes/store"
)

func put(key, value string) store.Txn {
	return store.Txn{Put: []store.Put{{Key: key, Value: []byte(value)}}}
}

func commit(t *testing.T, s *Store, txn store.Txn) store.Revision {
	t.Helper()
	r, err := s.Commit(t.Context(), txn)
	must(t, err)
	return r
}

func count(t *testing.T, s *Store, prefix string) (n int) {
	t.Helper()
	_, err := s.List(t.Context(), prefix, func(store.Entry) error { n++; return nil })
	must(t, err)
	return n
}

// A new file is nobody else's to read.
func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "routes.db")
	open(t, path, Options{})
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		info, err := os.Stat(p)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s: %v, want %v", p, info.Mode(), want)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left over: %v", left)
	}
}

// The file is one process's.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.db")
	first := open(t, path, Options{})
	_, err := Open(t.Context(), path, Options{Wait: 20 * time.Millisecond})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "another process has the file "+path) {
		t.Errorf("open twice: %v", err)
	}
	// A restart: the new process waits for the old one.
	commit(t, first, put("a", "1"))
	go func() {
		time.Sleep(50 * time.Millisecond)
		first.Close()
	}()
	if n := count(t, open(t, path, Options{Wait: 30 * time.Second}), ""); n != 1 {
		t.Errorf("%d keys", n)
	}
}

// Several that make the file at once get the same.
func TestMakeTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "routes.db")
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			s, err := Open(t.Context(), path, Options{Wait: 30 * time.Second})
			if err != nil {
				t.Error(err)
				return
			}
			_, err = s.Commit(t.Context(), put(fmt.Sprint(i), ""))
			if err := errors.Join(err, s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := count(t, open(t, path, Options{}), ""); n != 5 {
		t.Errorf("%d of 5 keys", n)
	}
}

// filled makes a file with some pages, and closes it.
func filled(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "routes.db")
	s := open(t, path, Options{})
	for i := range 50 {
		commit(t, s, put(fmt.Sprintf("key/%02d", i), strings.Repeat("value ", 200)))
	}
	must(t, s.Close())
	return path
}

// What is damaged is refused, and stays as it is.
func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
	}{
		{"emptied", func([]byte) []byte { return nil }},
		{"cut to a byte", func(b []byte) []byte { return b[:1] }},
		{"cut to a page", func(b []byte) []byte { return b[:4096] }},
		{"cut to half of what is used", func(b []byte) []byte { return b[:len(bytes.TrimRight(b, "\x00"))/2] }},
		{"cut to the first pages", func(b []byte) []byte { return b[:4*4096] }},
		{"something else", func([]byte) []byte { return []byte(strings.Repeat("[[route]]\n", 10_000)) }},
		{"zeroed", func(b []byte) []byte { clear(b); return b }},
		{"all but the first pages zeroed", func(b []byte) []byte { clear(b[2*4096:]); return b }},
		{"all but the first pages nonsense", func(b []byte) []byte {
			for i := 2 * 4096; i < len(b); i++ {
				b[i] = byte(i * 7)
			}
			return b
		}},
		{"a byte of each value", func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("value value value"), []byte("value valse value"))
		}},
		{"a byte of each key", func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("key/2"), []byte("key/3")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filled(t)
			b, err := os.ReadFile(path)
			must(t, err)
			b = c.damage(b)
			must(t, os.WriteFile(path, b, 0o600))
			s, err := Open(t.Context(), path, Options{Wait: 50 * time.Millisecond})
			if err == nil {
				t.Errorf("it is opened, with %d keys", count(t, s, ""))
				s.Close()
			}
			if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "the file "+path+" is damaged") {
				t.Errorf("error: %v", err)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, b) {
				t.Error("the file has been changed")
			}
			// The remedy.
			must(t, os.Rename(path, path+".damaged"))
			if n := count(t, open(t, path, Options{}), ""); n != 0 {
				t.Errorf("a new file has %d keys", n)
			}
		})
	}
}

// One page of metadata is enough: a torn write of the other is a crash's doing.
func TestTornMeta(t *testing.T) {
	for page := range 2 {
		path := filled(t)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt(make([]byte, 64), int64(page)*4096+16)
		must(t, errors.Join(err, f.Close()))
		s := open(t, path, Options{})
		if n := count(t, s, "key/"); n < 49 {
			t.Errorf("without meta page %d, %d of 50 keys", page, n)
		}
		commit(t, s, put("more", ""))
	}
}

// A format of later is refused with a word.
func TestFormat(t *testing.T) {
	path := filled(t)
	b, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, bytes.ReplaceAll(b, []byte(format), []byte("isthmus-routes-9")), 0o600))
	if _, err := Open(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), `has the format "isthmus-routes-9"`) {
		t.Errorf("error: %v", err)
	}
}

// What the disk spoils meanwhile ends the store, not the process, and is noticed
// by all that read it.
func TestDamageWhileOpen(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, path string)
	}{
		{"spoiled", func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			must(t, err)
			for i := 2 * 4096; i < len(b); i++ {
				b[i] ^= 0x55
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteAt(b, 0)
			must(t, errors.Join(err, f.Close()))
		}},
		// Pages that can't be read are a SIGBUS.
		{"cut short", func(t *testing.T, path string) { must(t, os.Truncate(path, 2*4096)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filled(t)
			s := open(t, path, Options{})
			c.damage(t, path)
			_, _, err := s.Get(t.Context(), "key/07")
			errs := map[string]error{"Get": err}
			_, errs["List"] = s.List(t.Context(), "", func(store.Entry) error { return nil })
			_, errs["Commit"] = s.Commit(t.Context(), put("a", ""))
			errs["Watch"] = s.Watch(t.Context(), "", 0, func([]store.Change, store.Revision) error { return nil })
			for name, err := range errs {
				if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "damaged") {
					t.Errorf("%s: %v", name, err)
				}
			}
			closed := make(chan struct{})
			go func() {
				s.Close()
				close(closed)
			}()
			select {
			case <-closed:
			case <-time.After(20 * time.Second):
				buf := make([]byte, 1<<20)
				t.Fatalf("Close hangs\n%s", buf[:runtime.Stack(buf, true)])
			}
		})
	}
}

// History is bounded, by commits and by bytes.
func TestHistory(t *testing.T) {
	for _, c := range []struct {
		name        string
		o           Options
		value, keep int // keep: commits, about
	}{
		{"commits", Options{History: 10}, 1, 10},
		{"bytes", Options{HistoryBytes: 100_000}, 9_900, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "routes.db")
			s := open(t, path, c.o)
			var last store.Revision
			for range 100 {
				last = commit(t, s, put("a", strings.Repeat("x", c.value)))
			}
			check := func(s *Store) {
				t.Helper()
				for after := range last + 1 {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					n := 0
					enough := errors.New("enough")
					err := error(enough)
					if after < last {
						err = s.Watch(ctx, "", after, func(c []store.Change, through store.Revision) error {
							if n += len(c); through == last {
								return enough
							}
							return nil
						})
					}
					cancel()
					if known := after >= last-store.Revision(c.keep); known && (err != enough || n != int(last-after)) || !known && !errors.Is(err, store.ErrCompacted) {
						t.Errorf("after %d of %d: %d changes, %v", after, last, n, err)
					}
				}
			}
			check(s)
			must(t, s.Close())
			check(open(t, path, c.o))
		})
	}
}

// A full store still deletes, and then takes more.
func TestFull(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "routes.db"), Options{MaxSize: 4 << 20, History: 5})
	value := strings.Repeat("x", 30_000)
	n := 0
	for ; ; n++ {
		_, err := s.Commit(t.Context(), put(fmt.Sprintf("key/%04d", n), value))
		if errors.Is(err, store.ErrFull) {
			t.Logf("after %d: %v", n, err)
			break
		}
		must(t, err)
		if n > 1000 {
			t.Fatal("it is never full")
		}
	}
	if got := count(t, s, ""); got != n {
		t.Errorf("%d keys of %d", got, n)
	}
	commit(t, s, store.Txn{If: []store.Condition{{Key: "none"}}})
	for i := range n / 2 {
		commit(t, s, store.Txn{Delete: []string{fmt.Sprintf("key/%04d", i)}})
	}
	commit(t, s, put("more", value))
}

// The same with the disk.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); errors.Is(err, unix.EPERM) {
		t.Skip("mounting a small file system takes root")
	} else {
		must(t, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "routes.db")
	s := open(t, path, Options{History: 5})
	value := strings.Repeat("x", 30_000)
	n := 0
	for ; ; n++ {
		_, err := s.Commit(t.Context(), put(fmt.Sprintf("key/%04d", n), value))
		if errors.Is(err, store.ErrFull) {
			t.Logf("after %d: %v", n, err)
			break
		}
		must(t, err)
		if n > 1000 {
			t.Fatal("it is never full")
		}
	}
	if got := count(t, s, ""); got != n {
		t.Errorf("%d keys of %d", got, n)
	}
	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "size=8m"))
	commit(t, s, put("more", value))
	must(t, s.Close())
	if got := count(t, open(t, path, Options{}), ""); got != n+1 {
		t.Errorf("%d keys of %d after opening again", got, n+1)
	}
}

// Who gives up before its turn has changed nothing.
func TestWithdraw(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "routes.db"), Options{})
	s.gate.RLock() // the writer gets as far as its fsync
	var all sync.WaitGroup
	first := make(chan error, 1)
	all.Go(func() {
		_, err := s.Commit(t.Context(), put("first", ""))
		first <- err
	})
	for { // until the writer has it
		s.mu.Lock()
		taken := len(s.queue) == 0
		s.mu.Unlock()
		if taken && !s.gate.TryRLock() {
			break
		} else if taken {
			s.gate.RUnlock()
		}
		runtime.Gosched()
	}
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	all.Go(func() {
		_, err := s.Commit(ctx, put("second", ""))
		second <- err
	})
	for {
		s.mu.Lock()
		queued := len(s.queue) == 1
		s.mu.Unlock()
		if queued {
			break
		}
		runtime.Gosched()
	}
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("withdrawn: %v", err)
	}
	s.gate.RUnlock()
	must(t, <-first)
	all.Wait()
	found, _, err := s.Get(t.Context(), "first", "second")
	must(t, err)
	if len(found) != 1 {
		t.Errorf("there are %v", found)
	}
}
