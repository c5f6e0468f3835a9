package mirror

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/bolt"
)

// full are the changes that make n proxies in n/100 projects.
func full(n int) (list []store.Change) {
	at := func(p store.Put) {
		r := store.Revision(len(list) + 1)
		list = append(list, store.Change{Entry: store.Entry{Key: p.Key, Value: p.Value, Created: r, Modified: r}})
	}
	for i := range (n + 99) / 100 {
		at(projectPut(fmt.Sprintf("project%05d", i), fmt.Sprintf("2001:db8:%x:%x::/64", i>>16, i&0xffff)))
	}
	for i := range n {
		p := proxyOf("shop", fmt.Sprintf("www.shop%07d.customer.example", i), 80)
		p.Project = fmt.Sprintf("project%05d", i/100)
		p.Backends = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::2", i/100>>16, i/100&0xffff))}
		p.Challenge = "abcdefghijklmnopqrstuvwxyz"
		p.CreatedBy, p.ChangedBy, p.Created, p.Seen, p.Checked = "abcdefghijklmnop", "abcdefghijklmnop", time.Now(), time.Now(), time.Now()
		at(store.Put{Key: catalog.ProxyPrefix + p.Host, Value: value(p)})
	}
	return list
}

// cpu reports the CPU time of each turn, of the collector, too: on a busy machine
// that is steadier than how long it took.
func cpu(b *testing.B) func() {
	used := func() time.Duration {
		var u unix.Rusage
		must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := used()
	return func() { b.ReportMetric(float64(used()-began)/1e3/float64(b.N), "cpu-us/op") }
}

func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		all := full(n)
		m := New(Config{Table: &routes.Table{}})
		m.apply(all, store.Revision(len(all)), true)
		proxies := all[(n+99)/100:]
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			defer cpu(b)()
			for i := 0; b.Loop(); i++ {
				c := proxies[i*7919%len(proxies)]
				c.Modified = m.View().Revision + 1
				p := proxyOf("shop", c.Key[len(catalog.ProxyPrefix):], uint16(81+i%100))
				p.Project = fmt.Sprintf("project%05d", i*7919%len(proxies)/100)
				p.Backends = []netip.Addr{netip.MustParseAddr("2001:db8::2")}
				c.Value = value(p)
				m.apply([]store.Change{c}, c.Modified, false)
			}
		})
	}
}

// BenchmarkStart is what 100,000 proxies take: to be applied at once, to be written
// to and read from the disk, to be listed and compared, and to be held.
func BenchmarkStart(b *testing.B) {
	all := full(100_000)
	dir := b.TempDir()
	path := filepath.Join(dir, "copy")
	s := openBolt(b, filepath.Join(dir, "store"), bolt.Options{})
	for i := 0; i < len(all); i += store.MaxTxn {
		var t store.Txn
		for _, c := range all[i:min(i+store.MaxTxn, len(all))] {
			t.Put = append(t.Put, store.Put{Key: c.Key, Value: c.Value})
		}
		_, err := s.Commit(context.Background(), t)
		must(b, err)
	}
	memory := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	m := New(Config{Disk: path})
	b.Run("list", func(b *testing.B) {
		defer cpu(b)()
		before := memory()
		for b.Loop() {
			m = New(Config{})
			_, err := m.list(context.Background(), s, needFirst)
			must(b, err)
		}
		b.ReportMetric(float64(memory()-before)/100_000, "B/proxy")
	})
	b.Run("list again", func(b *testing.B) {
		defer cpu(b)()
		for b.Loop() {
			_, err := m.list(context.Background(), s, needFirst)
			must(b, err)
		}
	})
	b.Run("count", func(b *testing.B) {
		defer cpu(b)()
		for b.Loop() {
			must(b, add(context.Background(), s, &catalog.Tally{}))
		}
	})
	b.Run("write", func(b *testing.B) {
		defer cpu(b)()
		d := disk{path: path, log: func(bool, string) {}, wake: make(chan struct{}, 1)}
		for b.Loop() {
			d.write(m.View())
		}
		b.ReportMetric(float64(d.now.Size)/1e6, "MB")
	})
	b.Run("read", func(b *testing.B) {
		defer cpu(b)()
		New(Config{Disk: path}).disk.write(m.View())
		for b.Loop() {
			if c := New(Config{Disk: path}).View().Counts(); c.All() != 100_000 {
				b.Fatal(c)
			}
		}
	})
	b.Run("all judged again", func(b *testing.B) {
		defer cpu(b)()
		for b.Loop() {
			m.SetReach(nil)
		}
	})
	runtime.KeepAlive(m)
}
