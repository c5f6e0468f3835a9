package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

func withDisk(path string) func(*Config, *times) {
	return func(c *Config, _ *times) { c.Disk = path }
}

// Without the store, a node begins with what it had.
func TestDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(w.dir, "state", "copy")
	n := w.start("a", withDisk(path))
	now := w.proxy("shop", "a.example")
	n.at(now)
	n.wait("the disk copy", func() bool { return n.Stats().Disk.Revision >= now })
	last := w.proxy("shop", "b.example")
	n.at(last)
	n.end() // writes
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if list, _ := os.ReadDir(filepath.Dir(path)); len(list) != 1 {
		t.Errorf("something was left behind: %v", list)
	}
	later := w.proxy("shop", "c.example")
	// A process whose store can't even be opened, as by one that still has its file.
	opened := make(chan struct{})
	b := w.start("a", func(c *Config, m *times) {
		c.Disk = path
		open := c.Open
		c.Open = func(ctx context.Context) (store.Store, error) {
			select {
			case <-opened:
				return open(ctx)
			default:
				return nil, fmt.Errorf("%w: another process has it", store.ErrUnavailable)
			}
		}
	})
	select {
	case <-b.Ready():
	default:
		t.Error("not ready with a disk copy")
	}
	if !b.has("a.example") || !b.has("b.example") || b.has("c.example") || b.Stats().Loaded != FromDisk || b.View().Revision < last {
		t.Errorf("%+v", b.Stats())
	}
	b.wait("one warning", func() bool { return b.log.count("true", "another process has it") == 1 })
	route := b.table.Load().Lookup("a.example")
	close(opened)
	b.at(later)
	b.wait("the store to be there", func() bool { s := b.Stats(); return s.Loaded == FromStore && s.Up })
	if s := b.Stats(); !b.has("c.example") || s.Repaired != 0 || b.log.count("true") != 1 {
		t.Errorf("%+v\n%v", s, b.log)
	}
	if b.table.Load().Lookup("a.example") != route {
		t.Error("a route that is the same as on the disk is another one")
	}
}

// Nothing that stands where the copy should keeps a node from starting.
func TestDiskUnusable(t *testing.T) {
	w := newWorld(t)
	w.proxy("shop", "a.example")
	good := func() []byte {
		n := w.start("a", withDisk(filepath.Join(w.dir, "good")))
		n.wait("a copy", func() bool { return n.Stats().Disk.Size > 0 })
		n.end()
		b, err := os.ReadFile(filepath.Join(w.dir, "good"))
		must(t, err)
		return b
	}()
	flipped := slices.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{
		"empty":     {},
		"short":     good[:20],
		"torn":      good[:len(good)-1],
		"longer":    append(slices.Clone(good), 0),
		"flipped":   flipped,
		"foreign":   []byte("[[route]]\nhost = \"a.example\"\n"),
		"newer":     bytes.Replace(good, []byte("routes 1"), []byte("routes 2"), 1),
		"zeros":     make([]byte, 4096),
		"huge size": sealed([]byte(diskMagic + "\x01\x01\xff\xff\xff\xff\x0f")),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "copy")
			must(t, os.WriteFile(path, data, 0o600))
			log := &lines{}
			m := New(Config{Disk: path, Log: log.log})
			if m.View().Revision != 0 || m.Stats().Loaded != Nowhere || m.Stats().Disk.Errors != 1 || log.count("true", path) == 0 {
				t.Errorf("%+v\n%v", m.Stats(), log)
			}
			kept, err := os.ReadFile(path + aside)
			if err != nil || !bytes.Equal(kept, data) {
				t.Errorf("not put aside: %v", err)
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		path := t.TempDir()
		log := &lines{}
		if m := New(Config{Disk: path, Log: log.log}); m.Stats().Disk.Problem == "" || log.count("true") == 0 {
			t.Errorf("%+v", m.Stats())
		}
		if _, err := os.Stat(path); err != nil {
			t.Error("somebody's directory has been moved")
		}
	})
	t.Run("left over", func(t *testing.T) {
		dir := t.TempDir()
		old, young, other := filepath.Join(dir, "copy"+unfinished+"1"), filepath.Join(dir, "copy"+unfinished+"2"), filepath.Join(dir, "other"+unfinished+"1")
		for _, name := range []string{old, young, other} {
			must(t, os.WriteFile(name, nil, 0o600))
			if name != young {
				must(t, os.Chtimes(name, time.Time{}, time.Now().Add(-2*time.Hour)))
			}
		}
		New(Config{Disk: filepath.Join(dir, "copy")})
		if _, err := os.Stat(old); err == nil {
			t.Error("an old unfinished file is still there")
		}
		for _, name := range []string{young, other} {
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s is gone", name)
			}
		}
	})
}

// A disk that can't be written to is told of once, and tried again.
func TestDiskWriteFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := filepath.Join(w.dir, "state")
	must(t, os.WriteFile(dir, nil, 0o600)) // where a directory has to be
	n := w.start("a", withDisk(filepath.Join(dir, "copy")))
	n.wait("errors", func() bool { s := n.Stats(); return s.Disk.Errors > 2 && s.Disk.Problem != "" })
	n.at(w.proxy("shop", "a.example"))
	if n.log.count("true") > 2 || !n.has("a.example") { // one at the start, one for the write
		t.Errorf("%v", n.log)
	}
	must(t, os.Remove(dir))
	n.wait("written", func() bool { s := n.Stats(); return s.Disk.Problem == "" && s.Disk.Size > 0 })
}

func sealed(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(slices.Clone(b), sum[:]...)
}

// FuzzDisk: what has a right checksum is still not believed, and what can be read
// comes out the same when written again.
func FuzzDisk(f *testing.F) {
	v := func(changes ...store.Change) *View {
		m := New(Config{})
		m.apply(changes, 42, true)
		return m.View()
	}
	put := func(p store.Put, r store.Revision) store.Change {
		return store.Change{Entry: store.Entry{Key: p.Key, Value: p.Value, Created: r, Modified: r + 1}}
	}
	for _, x := range []*View{v(), v(put(projectPut("shop", "2001:db8:64:1::/64"), 3), put(proxyPut("shop", "a.example", 80), 5))} {
		var b bytes.Buffer
		must(f, encodeDisk(&b, x, time.Unix(1, 2)))
		f.Add(b.Bytes()[:b.Len()-sha256.Size])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := decodeDisk(data); err == nil && len(data) < sha256.Size {
			t.Fatal("no checksum")
		}
		c, err := decodeDisk(sealed(data))
		if err != nil {
			return
		}
		table := &routes.Table{}
		m := New(Config{Table: table})
		m.apply(c.changes(), c.revision, true)
		var b bytes.Buffer
		must(t, encodeDisk(&b, m.View(), c.written))
		again, err := decodeDisk(b.Bytes())
		if err != nil || again.revision != c.revision || !again.written.Equal(c.written) {
			t.Fatalf("%v: %+v, was %+v", err, again, c)
		}
		last := map[string]store.Entry{}
		for _, e := range c.entries {
			last[e.Key] = e
		}
		for _, e := range again.entries {
			if x := last[e.Key]; !bytes.Equal(x.Value, e.Value) || x.Created != e.Created || x.Modified != e.Modified {
				t.Fatalf("%s: %+v, was %+v", e.Key, e, x)
			}
		}
		for key := range last {
			if (isRecord(key) || key == catalog.TallyKey) && !slices.ContainsFunc(again.entries, func(e store.Entry) bool { return e.Key == key }) && !strings.HasSuffix(key, "/") && last[key].Value != nil {
				t.Fatalf("%s is gone", key)
			}
		}
	})
}
