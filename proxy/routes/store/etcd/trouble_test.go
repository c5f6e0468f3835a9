package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab/labetcd"
	"aarch64.com/isthmus/perf/lab/labetcd/etcdtest"
	"aarch64.com/isthmus/proxy/routes/store"
	"aarch64.com/isthmus/proxy/routes/store/etcd"
)

// patience is how long anything may take on a busy machine.
const patience = 40 * time.Second

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	began := time.Now()
	for ; !is(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
	t.Logf("%s: after %v", what, time.Since(began).Round(time.Millisecond))
}

func put(key, value string) store.Txn {
	return store.Txn{Put: []store.Put{{Key: key, Value: []byte(value)}}}
}

// value is what a key has; "": it is not there, or can't be told.
func value(ctx context.Context, s store.Store, key string) string {
	found, _, err := s.Get(ctx, key)
	if err != nil {
		return ""
	}
	return string(found[key].Value)
}

// watching watches until the store ends it.
func watching(t *testing.T, s store.Store) (ended chan error) {
	t.Helper()
	ctx := within(t)
	r, err := s.Commit(ctx, put("watched", "before"))
	must(t, err)
	live := make(chan struct{})
	ended = make(chan error, 1)
	go func() {
		ended <- s.Watch(ctx, "watched", r, func(c []store.Change, _ store.Revision) error {
			if len(c) > 0 {
				close(live)
			}
			return nil
		})
	}()
	_, err = s.Commit(ctx, put("watched", "now"))
	must(t, err)
	<-live
	return ended
}

func unavailable(t *testing.T, what string, ended chan error) {
	t.Helper()
	began := time.Now()
	select {
	case err := <-ended:
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: the watch ended with %v", what, err)
		}
		t.Logf("%s: the watch ended after %v: %v", what, time.Since(began).Round(time.Millisecond), err)
	case <-time.After(patience):
		t.Fatalf("%s: the watch goes on", what)
	}
}

// writer commits one key after the other until it is stopped, and knows which
// are acknowledged. Errors other than store.ErrUnavailable fail the test.
type writer struct {
	stop  chan struct{}
	all   sync.WaitGroup
	mu    sync.Mutex
	acked []string
}

func startWriter(t *testing.T, s store.Store) *writer {
	w := &writer{stop: make(chan struct{})}
	ctx := within(t)
	w.all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-w.stop:
				return
			default:
			}
			key := fmt.Sprintf("written/%06d", i)
			switch _, err := s.Commit(ctx, put(key, "")); {
			case err == nil:
				w.mu.Lock()
				w.acked = append(w.acked, key)
				w.mu.Unlock()
			case !errors.Is(err, store.ErrUnavailable):
				t.Errorf("commit: %v", err)
				return
			}
		}
	})
	return w
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// goesOn waits for some more commits.
func (w *writer) goesOn(t *testing.T, what string) {
	t.Helper()
	n := w.count()
	eventually(t, what, func() bool { return w.count() > n+10 })
}

// check looks whether all is there that was acknowledged.
func (w *writer) check(t *testing.T, s store.Store) {
	t.Helper()
	close(w.stop)
	w.all.Wait()
	there := map[string]bool{}
	_, err := s.List(within(t), "written/", func(e store.Entry) error {
		there[e.Key] = true
		return nil
	})
	must(t, err)
	for _, key := range w.acked {
		if !there[key] {
			t.Errorf("%s was acknowledged, and is lost", key)
		}
	}
	t.Logf("%d commits were acknowledged, %d are there", len(w.acked), len(there))
}

// TestTrouble is what may happen to three members.
func TestTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t, labetcd.Config{Program: etcdtest.Current(t), Members: 3})
	ctx := within(t)
	n := 0
	config := func(members ...*labetcd.Member) etcd.Config {
		n++
		c := w.config(fmt.Sprintf("/trouble%d/", n))
		if len(members) > 0 {
			c.Endpoints = nil
		}
		for _, m := range members {
			c.Endpoints = append(c.Endpoints, m.Endpoint())
		}
		return c
	}

	t.Run("killed", func(t *testing.T) {
		s := w.open(t, config())
		writes := startWriter(t, s)
		writes.goesOn(t, "all are well")
		leader, err := w.Leader(ctx)
		must(t, err)
		leader.Kill()
		writes.goesOn(t, "the leader is killed")
		must(t, leader.Start())
		follower := w.Members[0]
		if leader, err := w.Leader(ctx); err != nil || leader == follower {
			follower = w.Members[1]
		}
		follower.Kill()
		writes.goesOn(t, "a follower is killed")
		must(t, follower.Start())
		for _, m := range w.Members {
			m.Kill()
		}
		for _, m := range w.Members {
			must(t, m.Launch())
		}
		must(t, w.WaitReady(ctx))
		writes.goesOn(t, "all were killed and started again")
		writes.check(t, s)
	})

	t.Run("cut off from a member", func(t *testing.T) {
		m := w.Members[0]
		s, only := w.open(t, config()), w.open(t, config(m))
		writes := startWriter(t, s)
		writes.goesOn(t, "all are well")
		ended := watching(t, only)
		must(t, w.Cut(w.node, m.Host))
		began := time.Now()
		for time.Since(began) < 2*time.Second {
			if _, _, err := s.Get(ctx, "a"); err != nil {
				t.Errorf("reading from the others: %v", err)
			}
		}
		writes.goesOn(t, "cut off")
		unavailable(t, "cut off", ended)
		must(t, w.Mend(w.node, m.Host))
		eventually(t, "mended", func() bool { _, _, err := only.Get(ctx, "a"); return err == nil })
		writes.check(t, s)
	})

	t.Run("frozen", func(t *testing.T) {
		m := w.Members[2]
		s, only := w.open(t, config()), w.open(t, config(m))
		a, err := s.Announce(ctx, "node/a")
		must(t, err)
		must(t, a.Set(ctx, []byte("here")))
		ended := watching(t, only)
		must(t, m.Freeze())
		began := time.Now()
		for time.Since(began) < 4*time.Second { // longer than a lease
			// If it is the leader, nobody answers until there is another.
			if found, _, err := s.Get(ctx, "node/a"); err == nil && string(found["node/a"].Value) != "here" {
				t.Errorf("announced: %q", found["node/a"].Value)
			}
			time.Sleep(50 * time.Millisecond)
		}
		eventually(t, "the others answer", func() bool { return value(ctx, s, "node/a") == "here" })
		unavailable(t, "frozen", ended)
		must(t, m.Thaw())
		must(t, w.WaitReady(ctx))
	})

	t.Run("node without the network", func(t *testing.T) {
		c := config()
		c.Timeout = 2 * time.Second
		s := w.open(t, c)
		c.Dial = w.Net.Dial
		outside := w.open(t, c)
		a, err := s.Announce(ctx, "node/a")
		must(t, err)
		must(t, a.Set(ctx, []byte("here")))
		must(t, w.Isolate(w.node))
		began := time.Now()
		for name, err := range map[string]error{"Get": third(s.Get(ctx, "a")), "Commit": second(s.Commit(ctx, put("a", "")))} {
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
			t.Logf("%s after %v: %v", name, time.Since(began).Round(time.Millisecond), err)
		}
		eventually(t, "the key is gone with its lease", func() bool {
			found, _, err := outside.Get(ctx, "node/a")
			return err == nil && len(found) == 0
		})
		if err := a.Set(ctx, []byte("again")); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Set: %v", err)
		}
		must(t, w.Rejoin(w.node))
		eventually(t, "it is put back, with the value that could not be told", func() bool { return value(ctx, outside, "node/a") == "again" })
		must(t, a.Set(ctx, []byte("well")))
		must(t, s.Close())
		if got := value(ctx, outside, "node/a"); got != "" {
			t.Errorf("after Close: %q", got)
		}
	})

	t.Run("compacted while listed", func(t *testing.T) {
		s := w.open(t, config())
		for i := range 10 {
			var txn store.Txn
			for k := range store.MaxTxn {
				txn.Put = append(txn.Put, store.Put{Key: fmt.Sprintf("key/%d/%d", i, k)})
			}
			_, err := s.Commit(ctx, txn)
			must(t, err)
		}
		first := true
		_, err := s.List(ctx, "key/", func(store.Entry) error {
			if first {
				first = false
				_, err := s.Commit(ctx, put("other", ""))
				return errors.Join(err, w.Compact(ctx))
			}
			return nil
		})
		if !errors.Is(err, store.ErrCompacted) {
			t.Errorf("List: %v", err)
		}
	})

	// The last one, for the members take a while to find each other again.
	t.Run("a member without a majority", func(t *testing.T) {
		m := w.Members[1]
		s := w.open(t, config())
		c := config(m)
		c.Timeout = 2 * time.Second
		only := w.open(t, c)
		ended := watching(t, only)
		for _, o := range w.Members {
			if o != m {
				must(t, w.Cut(m.Host, o.Host))
			}
		}
		unavailable(t, "without a majority", ended)
		if _, _, err := only.Get(ctx, "a"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("reading where there is no majority: %v", err)
		}
		if _, err := only.Commit(ctx, put("a", "")); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("writing where there is no majority: %v", err)
		}
		for range 20 {
			if _, err := s.Commit(ctx, put("a", "")); err != nil {
				t.Errorf("writing to the others: %v", err)
			}
		}
	})
}

func third[A, B any](_ A, _ B, err error) error { return err }
func second[A any](_ A, err error) error        { return err }

// TestAway: there is no etcd, and then there is.
func TestAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, labetcd.Config{Program: etcdtest.Debian(t), Auth: true})
	ctx := within(t)
	w.Members[0].Kill()
	c := w.config("")
	c.Timeout = 2 * time.Second
	s := w.open(t, c)
	errs := map[string]error{
		"Get":    third(s.Get(ctx, "a")),
		"Commit": second(s.Commit(ctx, put("a", ""))),
		"List":   second(s.List(ctx, "", func(store.Entry) error { return nil })),
		"Watch":  s.Watch(ctx, "", 0, func([]store.Change, store.Revision) error { return nil }),
	}
	a, err := s.Announce(ctx, "node/a")
	must(t, err)
	errs["Set"] = a.Set(ctx, []byte("here"))
	for name, err := range errs {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(fmt.Sprint(err), w.Endpoints()[0]) {
			t.Errorf("%s does not say who is away: %v", name, err)
		}
	}
	must(t, w.Members[0].Start())
	eventually(t, "etcd is back", func() bool { return value(ctx, s, "node/a") == "here" })
	_, err = s.Commit(ctx, put("a", ""))
	must(t, err)
	// A member of this age reports progress out of order.
	_, after, err := s.Get(ctx)
	must(t, err)
	_, err = s.Commit(ctx, put("outside", ""))
	must(t, err)
	calls := 0
	enough := errors.New("enough")
	err = s.Watch(ctx, "inside", after, func(_ []store.Change, through store.Revision) error {
		if through != after {
			t.Errorf("progress through %d is believed", through)
		}
		if calls++; calls == 2 {
			return enough
		}
		return nil
	})
	if err != enough {
		t.Error(err)
	}
}

// TestFull: etcd takes no more, and then it does.
func TestFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, labetcd.Config{Program: etcdtest.Current(t), TLS: true, Auth: true, Quota: 16 << 20})
	ctx := within(t)
	s := w.open(t, w.config(""))
	for _, key := range []string{"a", "b"} {
		_, err := s.Commit(ctx, put(key, "1"))
		must(t, err)
	}
	ended := watching(t, s)
	must(t, w.Fill(ctx))
	for name, err := range map[string]error{
		"Commit":   second(s.Commit(ctx, put("a", "2"))),
		"Announce": func() error { a, _ := s.Announce(ctx, "node/a"); return a.Set(ctx, nil) }(),
	} {
		if !errors.Is(err, store.ErrFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := value(ctx, s, "a"); got != "1" {
		t.Errorf("reading from a full store: %q", got)
	}
	_, err := s.Commit(ctx, store.Txn{Delete: []string{"b"}})
	must(t, err)
	must(t, w.MakeRoom(ctx))
	_, err = s.Commit(ctx, put("a", "2"))
	must(t, err)
	// The key that could not be announced comes by itself.
	eventually(t, "announced", func() bool {
		found, _, err := s.Get(ctx, "node/a")
		return err == nil && len(found) == 1
	})
	select {
	case err := <-ended:
		t.Errorf("the watch ended with %v", err)
	default:
	}

	// Progress of a current member is believed, also of what is outside the prefix.
	_, after, err := s.Get(ctx)
	must(t, err)
	outside, err := s.Commit(ctx, put("outside", ""))
	must(t, err)
	enough := errors.New("enough")
	err = s.Watch(ctx, "inside", after, func(_ []store.Change, through store.Revision) error {
		if through >= outside {
			return enough
		}
		return nil
	})
	if err != enough {
		t.Error(err)
	}

	// Who may not get in is told why.
	var all sync.WaitGroup
	defer all.Wait()
	for name, change := range map[string]func(*etcd.Config){
		"check user and password":     func(c *etcd.Config) { c.Password = "wrong" },
		"permission denied":           func(c *etcd.Config) { c.User, c.Password = "", "" },
		"signed by unknown authority": func(c *etcd.Config) { c.CA = "" },
		"certificate required":        func(c *etcd.Config) { c.Cert, c.Key = "", "" },
		"connection refused":          func(c *etcd.Config) { c.Endpoints = []string{"https://[2001:db8:e7cd::2]:1"} },
	} {
		c := w.config("")
		c.Timeout = 2 * time.Second
		change(&c)
		bad := w.open(t, c)
		all.Go(func() {
			_, _, err := bad.Get(ctx, "a")
			if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), name) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		config etcd.Config
		want   string
	}{
		{etcd.Config{}, "no etcd endpoints"},
		{etcd.Config{Endpoints: []string{"etcd1.example"}}, "needs a host and a port"},
		{etcd.Config{Endpoints: []string{"http://:2379"}}, "needs a host and a port"},
		{etcd.Config{Endpoints: []string{"ftp://etcd1.example:2379"}}, "http or https, not ftp"},
		{etcd.Config{Endpoints: []string{"http://me:secret@etcd1.example:2379"}}, "nothing but host and port"},
		{etcd.Config{Endpoints: []string{"http://etcd1.example:2379/isthmus"}}, "nothing but host and port"},
		{etcd.Config{Endpoints: []string{"http://etcd1.example:2379", "https://etcd2.example:2379"}}, "http or all https"},
		{etcd.Config{Endpoints: []string{"http://[::1]:2379", "etcd2.example:2379"}, CA: "ca.pem"}, "certificates need https"},
		{etcd.Config{Endpoints: []string{"[::1]:2379"}, CA: "/nowhere/ca.pem"}, "/nowhere/ca.pem"},
		{etcd.Config{Endpoints: []string{"[::1]:2379"}, CA: "/dev/null"}, "has none in PEM form"},
		{etcd.Config{Endpoints: []string{"[::1]:2379"}, Cert: "cert.pem"}, "needs its key"},
		{etcd.Config{Endpoints: []string{"[::1]:2379"}, Cert: "/nowhere/cert.pem", Key: "key.pem"}, "/nowhere/cert.pem"},
		{etcd.Config{Endpoints: []string{"[::1]:2379"}, User: "me"}, "user and password"},
		{etcd.Config{Endpoints: []string{"[::1]:2379"}, TTL: time.Millisecond}, "a second is the least"},
		{etcd.Config{Endpoints: []string{"[::1]:2379"}, Prefix: strings.Repeat("/", 2000)}, "2000 bytes"},
	} {
		s, err := etcd.Open(c.config)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.config.Endpoints, err, c.want)
		}
	}
	// None of these connects.
	for _, e := range [][]string{{"http://etcd1.example:2379/"}, {"https://etcd1.example:2379", "https://[2001:db8::1]:2379"}, {"etcd1.example:2379"}} {
		s, err := etcd.Open(etcd.Config{Endpoints: e, Dial: func(context.Context, string, string) (net.Conn, error) {
			t.Error("it connects")
			return nil, errors.New("no")
		}})
		must(t, err)
		must(t, s.Close())
	}
}
