package routes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// watched is a File that is followed, in a directory of its own.
type watched struct {
	*File
	t     *testing.T
	dir   string
	table *Table
	mu    sync.Mutex
	lines []string
}

func route(host string) string {
	return fmt.Sprintf("[[route]]\nhost = %q\nbackends = [\"2001:db8::1\"]\n", host)
}

func newWatched(t *testing.T, doc string) *watched {
	w := &watched{t: t, dir: t.TempDir(), table: &Table{}}
	w.write("routes.toml", doc)
	w.open()
	return w
}

func (w *watched) open() {
	f, err := OpenFile(filepath.Join(w.dir, "routes.toml"), inDocumentation, w.table, func(_ bool, s string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lines = append(w.lines, s)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.File = f
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.Watch(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done; f.Close() })
}

func (w *watched) write(name, doc string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(doc), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// replace is what a careful writer does.
func (w *watched) replace(doc string) {
	w.t.Helper()
	w.write("new", doc)
	if err := os.Rename(filepath.Join(w.dir, "new"), filepath.Join(w.dir, "routes.toml")); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) log() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.lines, "\n")
}

func (w *watched) wait(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: not so after 20 s; %+v; log:\n%s", what, w.Stats(), w.log())
		}
	}
}

func (w *watched) has(host string) bool { return w.table.Load().Lookup(host) != nil }

func TestFileReplaced(t *testing.T) {
	w := newWatched(t, route("a.example"))
	if s := w.Stats(); !w.has("a.example") || s.Routes != 1 || s.Revision != 1 {
		t.Fatalf("after the start: %+v", s)
	}
	before := w.table.Load()
	w.replace(route("a.example") + route("b.example"))
	w.wait("new route", func() bool { return w.has("b.example") })
	if before.Len() != 1 {
		t.Error("the snapshot of before has changed")
	}
	w.write("routes.toml", route("c.example")) // in place
	w.wait("written in place", func() bool { return w.has("c.example") && !w.has("a.example") })
	w.wait("log", func() bool { return strings.Contains(w.log(), "revision 3: 1 added, 2 removed, 0 changed") })
}

// Kubernetes mounts a file as routes.toml -> ..data/routes.toml, and swaps ..data.
// A directory in which another file is written all the time, such as a log.
func TestFileInBusyDirectory(t *testing.T) {
	w := newWatched(t, route("a.example"))
	end := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
				if err := os.WriteFile(filepath.Join(w.dir, "log"), []byte("line\n"), 0o644); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	defer func() { close(end); busy.Wait() }()
	// By looks every two seconds alone, this would take eight.
	began := time.Now()
	for i := range 5 {
		host := fmt.Sprintf("b%d.example", i)
		w.replace(route(host))
		w.wait(host, func() bool { return w.has(host) })
	}
	if took := time.Since(began); took > 3*poll {
		t.Errorf("five changes took %v", took)
	}
}

func TestFileBehindLinks(t *testing.T) {
	w := &watched{t: t, dir: t.TempDir(), table: &Table{}}
	version := func(n int, doc string) {
		dir := fmt.Sprintf("..%d", n)
		if err := os.Mkdir(filepath.Join(w.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		w.write(dir+"/routes.toml", doc)
		if err := os.Symlink(dir, filepath.Join(w.dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(w.dir, "..tmp"), filepath.Join(w.dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version(1, route("a.example"))
	if err := os.Symlink("..data/routes.toml", filepath.Join(w.dir, "routes.toml")); err != nil {
		t.Fatal(err)
	}
	w.open()
	version(2, route("b.example"))
	w.wait("swapped", func() bool { return w.has("b.example") && !w.has("a.example") })
}

func TestFileBadOrGone(t *testing.T) {
	w := newWatched(t, route("a.example"))
	path := filepath.Join(w.dir, "routes.toml")
	for n, c := range []struct {
		name string
		do   func()
		want string
	}{
		{"syntax", func() { w.replace("[[route]\n") }, path + ":1:8: expected ']]'"},
		{"a mistake", func() { w.replace(route("b.example") + route("b.example")) }, `"b.example".host: has a route in line 2 already`},
		{"out of reach", func() { w.replace(strings.Replace(route("b.example"), "db8", "db9", 1)) }, "2001:db9::1: outside"},
		{"gone", func() { _ = os.Remove(path) }, "no such file or directory; put it back; going on with the 1 routes of before"},
		{"a directory", func() { _ = os.Mkdir(path, 0o755) }, "is no regular file"},
		{"empty", func() { _ = os.Remove(path); w.replace("") }, "is empty, which is what a file that is being written looks like"},
		{"mistake again", func() { w.replace("x = 1\n") }, "x stands before the first section"},
	} {
		c.do()
		w.wait(c.name, func() bool { return strings.Contains(w.log(), c.want) })
		if s := w.Stats(); !w.has("a.example") || w.has("b.example") || w.table.Load().Revision != 1 || s.Problem == "" || s.Errors < uint64(n+1) {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
	if !strings.Contains(w.log(), "1 mistakes and is not used; going on with the 1 routes of before") {
		t.Error(w.log())
	}
	// The same as at the start is no change, but the problem has gone.
	w.replace(route("a.example"))
	w.wait("mended", func() bool { return w.Stats().Problem == "" })
	w.replace("# no routes yet\n")
	w.wait("no routes", func() bool { return w.table.Load().Len() == 0 })
}

// Each error is told once, however often the file is looked at.
// A rule may change its mind about an address without the file changing.
func TestFileDeniedThenAllowed(t *testing.T) {
	w := newWatched(t, route("a.example"))
	var allowed atomic.Bool
	use, err := w.Prepare(func(a netip.Addr) error {
		if a == netip.MustParseAddr("2001:db8::1") || allowed.Load() {
			return nil
		}
		return errors.New("an address of this host")
	})
	if err != nil {
		t.Fatal(err)
	}
	use()
	w.replace(route("a.example") + "[[route]]\nhost = \"b.example\"\nbackends = [\"2001:db8::2\"]\n")
	w.wait("the file is refused", func() bool { return w.Stats().Problem != "" })
	allowed.Store(true)
	w.wait("the route counts", func() bool { return w.has("b.example") && w.Stats().Problem == "" })
}

func TestFileErrorOnce(t *testing.T) {
	w := newWatched(t, route("a.example"))
	w.replace("x")
	w.wait("error", func() bool { return w.Stats().Errors == 1 })
	for range 3 {
		w.look(true)
	}
	if n := w.Stats().Errors; n != 1 {
		t.Errorf("told %d times", n)
	}
}

// A writer that truncates and writes in pieces never makes a piece count.
func TestFilePartialWrites(t *testing.T) {
	w := newWatched(t, route("a.example")+route("b.example"))
	stop := make(chan struct{})
	var seen sync.WaitGroup
	seen.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if n := w.table.Load().Len(); n != 2 && n != 100 {
				t.Errorf("%d routes count, which is a part of the file", n)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	f, err := os.Create(filepath.Join(w.dir, "routes.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := f.WriteString(route(fmt.Sprintf("h%d.example", i))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(settle / 50)
	}
	f.Close()
	w.wait("whole", func() bool { return w.table.Load().Len() == 100 })
	close(stop)
	seen.Wait()
}

// Renames without end, of good and bad files, while readers look: what counts is
// always one of the good ones.
func TestFileRenameRace(t *testing.T) {
	w := newWatched(t, route("a.example"))
	for i := range 200 {
		switch i % 4 {
		case 0:
			w.replace(route("a.example") + route(fmt.Sprintf("h%d.example", i)))
		case 1:
			w.replace("[[route]]\nhost = ")
		case 2:
			_ = os.Remove(filepath.Join(w.dir, "routes.toml"))
		case 3:
			_ = os.Truncate(filepath.Join(w.dir, "routes.toml"), 0)
		}
		w.look(true)
		if !w.has("a.example") {
			t.Fatalf("after step %d: %s", i, w.log())
		}
	}
	w.replace(route("last.example"))
	w.wait("the last", func() bool { return w.has("last.example") })
}

func TestOpenFileRefuses(t *testing.T) {
	dir := t.TempDir()
	open := func() error {
		table := &Table{}
		_, err := OpenFile(filepath.Join(dir, "routes.toml"), inDocumentation, table, func(bool, string) {})
		return err
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "no such file; make it") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "routes.toml"), []byte("x = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "routes.toml:1:1: x stands before") {
		t.Errorf("got %v", err)
	}
}

// Another rule for what is reached holds for the file from then on, and a file
// that breaks it keeps the rule out.
func TestFilePrepare(t *testing.T) {
	w := newWatched(t, route("a.example"))
	if _, err := w.Prepare(nothing); err == nil || !strings.Contains(err.Error(), "nothing is reached") {
		t.Errorf("got %v", err)
	}
	w.replace("# none\n")
	w.wait("no routes", func() bool { return w.table.Load().Len() == 0 })
	use, err := w.Prepare(nothing)
	if err != nil {
		t.Fatal(err)
	}
	use()
	w.replace(route("b.example"))
	w.wait("refused", func() bool { return strings.Contains(w.log(), "nothing is reached") })
}

func nothing(netip.Addr) error { return errors.New("nothing is reached") }
