package dynamic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aarch64.com/isthmus/translate"
)

func open(t *testing.T, c Config) *Map {
	t.Helper()
	if c.Idle == 0 {
		c.Idle = 8 * time.Hour
	}
	m, problem, err := New(c)
	if err != nil || problem != nil {
		t.Fatal(problem, err)
	}
	return m
}

func six(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::2", i)) }

func pool(s string) Config { return Config{Pool4: netip.MustParsePrefix(s)} }

func TestAssign(t *testing.T) {
	m := open(t, pool("100.64.0.0/29")) // six hosts: neither .0 nor .7
	seen := map[netip.Addr]bool{}
	for i := range 6 {
		a, woken, err := m.Assign(six(i))
		if err != nil || !woken || seen[a] || !m.Pool().Contains(a) || a == m.Pool().Addr() || a.As4()[3] == 7 {
			t.Fatalf("host %d: %v, %v", i, a, err)
		}
		if who, ok := m.Host(a); !ok || who != six(i) {
			t.Errorf("%v is %v's, %v", a, who, ok)
		}
		if again, woken, err := m.Assign(six(i)); again != a || woken || err != nil {
			t.Errorf("host %d: %v the second time, %v", i, again, err)
		}
		seen[a] = true
	}
	if _, _, err := m.Assign(six(6)); !errors.Is(err, ErrExhausted) {
		t.Errorf("a seventh host: %v", err)
	}
	if _, err := m.Remove(six(3)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Assign(six(6)); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
}

func TestSameAddressWithoutState(t *testing.T) {
	a, b := open(t, pool("100.64.0.0/16")), open(t, pool("100.64.0.0/16"))
	for i := range 100 {
		a.Assign(six(i))
		b.Assign(six(99 - i))
	}
	same := 0
	for i := range 100 {
		x, _, _ := a.Assign(six(i))
		y, _, _ := b.Assign(six(i))
		if x == y {
			same++
		}
	}
	if same < 98 {
		t.Errorf("only %d of 100 hosts got the same address in another order", same)
	}
}

func TestBounds(t *testing.T) {
	c := pool("100.64.0.0/16")
	c.MaxPer64 = 2
	m := open(t, c)
	for i, want := range []error{nil, nil, ErrTooMany} {
		if _, _, err := m.Assign(netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%d", i+1))); !errors.Is(err, want) {
			t.Errorf("address %d of a /64: %v, want %v", i, err, want)
		}
	}
	if _, _, err := m.Assign(netip.MustParseAddr("2001:db8:1:1::1")); err != nil {
		t.Errorf("the next /64: %v", err)
	}
}

func TestLimit(t *testing.T) {
	c := pool("100.64.0.0/16")
	c.Limit = 8
	m := open(t, c)
	for i := range 7 { // .1 to .7
		if a, _, err := m.Assign(six(i)); err != nil || a.As4()[2] != 0 || a.As4()[3] > 7 {
			t.Errorf("host %d: %v, %v", i, a, err)
		}
	}
	if _, _, err := m.Assign(six(7)); !errors.Is(err, ErrExhausted) {
		t.Errorf("an eighth host: %v", err)
	}
}

func TestStaticMappingsKeepTheirAddresses(t *testing.T) {
	c := pool("100.64.0.0/30") // .1 and .2
	c.Static = []translate.EAM{{IPv6: netip.MustParsePrefix("2001:db8::1/128"), IPv4: netip.MustParsePrefix("100.64.0.1/32")}}
	m := open(t, c)
	if a, _, err := m.Assign(six(1)); err != nil || a != netip.MustParseAddr("100.64.0.2") {
		t.Errorf("%v, %v", a, err)
	}
	if _, _, err := m.Assign(six(2)); !errors.Is(err, ErrExhausted) {
		t.Errorf("%v", err)
	}
}

func TestAgeing(t *testing.T) {
	m := open(t, pool("100.64.0.0/24"))
	clock := time.Now()
	m.now = func() time.Time { return clock }
	busy, _, _ := m.Assign(six(1))
	idle, _, _ := m.Assign(six(2))
	if err := m.Add(six(3), netip.MustParseAddr("100.64.0.9")); err != nil {
		t.Fatal(err)
	}
	if n := len(m.Active()); n != 3 {
		t.Fatalf("%d active", n)
	}
	for range epochsPerIdle + 1 {
		clock = clock.Add(m.Epoch())
		m.Age()
		if n := len(m.Active()); n != 1 { // the pinned one
			t.Fatalf("%d active after an epoch", n)
		}
		if !m.Wake(busy) {
			t.Fatal("the busy host's mapping has gone")
		}
	}
	if m.Wake(idle) {
		t.Error("the idle host's mapping is still there")
	}
	if a, _, err := m.Assign(six(2)); a != idle || err != nil {
		t.Errorf("back after a while: %v, %v, had %v", a, err, idle)
	}
	if m.Len() != 3 {
		t.Errorf("%d mappings", m.Len())
	}
}

func TestAddAndRemove(t *testing.T) {
	m := open(t, pool("100.64.0.0/24"))
	a := netip.MustParseAddr
	for _, c := range []struct {
		six, four, want string
	}{
		{"2001:db8::1", "100.64.0.5", ""},
		{"2001:db8::1", "100.64.0.5", ""}, // again is fine
		{"2001:db8::1", "100.64.0.6", "it has 100.64.0.5"},
		{"2001:db8::2", "100.64.0.5", "taken by 2001:db8::1"},
		{"2001:db8::2", "100.64.0.0", "not an address for a host"},
		{"2001:db8::2", "192.0.2.1", "not an address for a host"},
		{"192.0.2.1", "100.64.0.6", "no IPv6 address"},
		{"::ffff:192.0.2.1", "100.64.0.6", "no IPv6 address"},
		{"fe80::1%eth0", "100.64.0.6", "no IPv6 address"},
	} {
		err := m.Add(a(c.six), a(c.four))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.six, c.four, err, c.want)
		}
	}
	if _, err := m.Remove(a("100.64.0.5")); err != nil {
		t.Error(err)
	}
	if _, err := m.Remove(a("2001:db8::1")); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

func TestStateSurvives(t *testing.T) {
	c := pool("100.64.0.0/24")
	c.StateFile = filepath.Join(t.TempDir(), "map")
	m := open(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { m.Keep(ctx, func(err error) { t.Error(err) }); close(done) }()
	for i := range 20 {
		if _, _, err := m.Assign(six(i)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-done
	next := open(t, c)
	for i, e := range m.List() {
		if got := next.List()[i]; got.IPv4 != e.IPv4 || got.IPv6 != e.IPv6 || !got.Created.Equal(e.Created) {
			t.Errorf("got %+v, want %+v", got, e)
		}
	}
	if n := len(next.Active()); n != 0 {
		t.Errorf("%d mappings are active before their first packet", n)
	}
	files, _ := os.ReadDir(filepath.Dir(c.StateFile))
	if len(files) != 1 {
		t.Errorf("files left: %v", files)
	}
	// Another pool has no use for these addresses.
	c.Pool4 = netip.MustParsePrefix("100.65.0.0/24")
	if n := open(t, c).Len(); n != 0 {
		t.Errorf("%d mappings outside the pool", n)
	}
}

func TestBadStateFiles(t *testing.T) {
	good := encode([]Entry{{IPv6: six(1), IPv4: netip.MustParseAddr("100.64.0.5")}})
	for name, data := range map[string][]byte{
		"empty":        nil,
		"torn":         good[:len(good)-5],
		"torn at head": good[:10],
		"edited":       []byte(strings.Replace(string(good), "100.64.0.5", "100.64.0.6", 1)),
		"foreign":      []byte("root:x:0:0:root:/root:/bin/bash\n"),
		"binary":       {0, 1, 2, 0xff},
		"wrong family": encode([]Entry{{IPv6: netip.MustParseAddr("192.0.2.1"), IPv4: netip.MustParseAddr("100.64.0.5")}}),
		"no address":   encode([]Entry{{}}),
	} {
		t.Run(name, func(t *testing.T) {
			c := pool("100.64.0.0/24")
			c.Idle, c.StateFile = time.Hour, filepath.Join(t.TempDir(), "map")
			if err := os.WriteFile(c.StateFile, data, 0o600); err != nil {
				t.Fatal(err)
			}
			m, problem, err := New(c)
			if err != nil || problem == nil || m.Len() != 0 {
				t.Fatalf("problem %v, error %v", problem, err)
			}
			kept, _ := filepath.Glob(c.StateFile + ".*")
			if len(kept) != 1 || !strings.Contains(problem.Error(), kept[0]) {
				t.Fatalf("kept %v; problem %v", kept, problem)
			}
			if got, _ := os.ReadFile(kept[0]); string(got) != string(data) {
				t.Error("the file that was set aside has changed")
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		c := pool("100.64.0.0/24")
		c.Idle, c.StateFile = time.Hour, t.TempDir()
		if _, _, err := New(c); err == nil {
			t.Error("a directory was taken for a state file")
		}
	})
}

func TestBadConfigs(t *testing.T) {
	for _, c := range []Config{
		{}, {Pool4: netip.MustParsePrefix("2001:db8::/64"), Idle: 1}, {Pool4: netip.MustParsePrefix("10.0.0.0/7"), Idle: 1},
		{Pool4: netip.MustParsePrefix("100.64.0.1/16"), Idle: 1}, {Pool4: netip.MustParsePrefix("100.64.0.0/16")},
	} {
		if _, _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode([]Entry{{IPv6: six(1), IPv4: netip.MustParseAddr("100.64.0.5")}}))
	f.Add([]byte(magic + "\nsha256 \n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := decode(data)
		if err != nil {
			return
		}
		if again, err := decode(encode(entries)); err != nil || len(again) != len(entries) {
			t.Errorf("%d entries became %d, %v", len(entries), len(again), err)
		}
	})
}
