package nat44

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// childEnv makes the test binary a process that opens a table and waits.
const childEnv = "ISTHMUS_NAT44_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	_, err := Open(Config{Pool4: pool, Addresses: []netip.Addr{sharedAddr}, Mapped: []netip.Addr{vm(0), vm(1)}})
	switch {
	case errors.Is(err, ErrPermission):
		fmt.Println("permission:", err)
	case err != nil:
		fmt.Println("error:", err)
	default:
		fmt.Println("open")
		time.Sleep(time.Minute)
	}
}

// child starts such a process on the hypervisor and returns its first line.
func (w *world) child(credential *syscall.Credential) (*exec.Cmd, string) {
	w.t.Helper()
	binary, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	c := exec.Command(binary)
	if credential != nil {
		// Another user could not get at the file.
		f, err := os.Open(binary)
		if err != nil {
			w.t.Fatal(err)
		}
		defer f.Close()
		c = exec.Command("/proc/self/fd/3")
		c.ExtraFiles = []*os.File{f}
		c.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		c.Dir = "/"
	}
	c.Env = append(os.Environ(), childEnv+"=1")
	out, err := c.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.hypervisor.Start(c); err != nil {
		w.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.t.Fatalf("the child says %q: %v", line, err)
	}
	return c, strings.TrimSpace(line)
}

func TestKilledAndStarted(t *testing.T) {
	w := newWorld(t)
	c, line := w.child(nil)
	if line != "open" {
		t.Fatal(line)
	}
	before, was, err := w.call("tcp4", vm(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // "signal: killed"
	if err := alive(before); err != nil {
		t.Errorf("after the kill: %v", err)
	}
	if _, _, err := w.call("tcp4", vm(1)); err != nil {
		t.Errorf("a new connection after the kill: %v", err)
	}
	tab := w.open(Config{Mapped: []netip.Addr{vm(0), vm(1)}})
	mine(t, tab, vm(0), was)
	if err := alive(before); err != nil {
		t.Errorf("after the start: %v", err)
	}
}

// A table that an earlier run has left gets new rules in its old chains; one of
// another shape, as of another version, is replaced as a whole. Either works, and
// one that is not ours stays.
func TestLeftover(t *testing.T) {
	w := newWorld(t)
	config := Config{Mapped: []netip.Addr{vm(0), vm(1)}, Keep: true}
	look := func(tab *Table) (old *leftover) {
		t.Helper()
		var err error
		if old, err = tab.rules.find(); err != nil {
			t.Fatal(err)
		}
		return old
	}
	for _, c := range []struct {
		name   string
		change func(tab *Table)
		fits   bool
	}{
		{"as it was", func(*Table) {}, true},
		{"its map emptied", func(tab *Table) { tab.rules.c.FlushSet(tab.rules.slices()) }, true},
		{"a chain more", func(tab *Table) {
			tab.rules.c.AddChain(&nftables.Chain{Name: "more", Table: tab.rules.table})
		}, false},
		{"a set more", func(tab *Table) {
			if err := tab.rules.c.AddSet(&nftables.Set{Name: "more", Table: tab.rules.table, KeyType: nftables.TypeIPAddr}, nil); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"the chain that translates missing", func(tab *Table) {
			chain := tab.rules.chains()[2]
			tab.rules.c.FlushChain(chain)
			tab.rules.c.DelChain(chain)
		}, false},
	} {
		tab := w.open(config)
		c.change(tab)
		if err := tab.rules.c.Flush(); err != nil {
			t.Fatal(c.name, err)
		}
		if old := look(tab); old == nil || !old.ours || old.fits != c.fits {
			t.Errorf("%s: found %+v", c.name, old)
		}
		if err := tab.Close(); err != nil {
			t.Fatal(c.name, err)
		}
		tab = w.open(config)
		if old := look(tab); old == nil || !old.fits || len(old.sets) != 3 || len(old.objs) != len(counters) {
			t.Errorf("%s: made %+v", c.name, old)
		}
		if _, _, err := w.call("udp4", vm(1)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if s := stats(t, tab); s.Opened != 1 {
			t.Errorf("%s: %+v", c.name, s)
		}
		if err := tab.Close(); err != nil {
			t.Fatal(c.name, err)
		}
	}
}

func TestReplacedUnderTraffic(t *testing.T) {
	w := newWorld(t)
	config := Config{Mapped: []netip.Addr{vm(0), vm(1)}, Keep: true, PortsPerVM: 8192, NewPerSecond: -1}
	tab := w.open(config)
	c, _, err := w.call("tcp4", vm(0))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	broken := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			// A connection that goes on, and one that is new.
			if err := alive(c); err != nil {
				broken <- err
				return
			}
			_, _, err := w.call("udp4", vm(1))
			if err != nil {
				broken <- err
				return
			}
			time.Sleep(time.Millisecond)
		}
		broken <- nil
	}()
	for range 20 {
		if err := tab.Close(); err != nil {
			t.Fatal(err)
		}
		if tab, err = w.tryOpen(config); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	if err := <-broken; err != nil {
		t.Error(err)
	}
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
}

// Slices of another size leave nobody with ports that are now another's.
func TestOpenedWithOtherSlices(t *testing.T) {
	w := newWorld(t)
	config := Config{Mapped: []netip.Addr{vm(0), vm(1)}, Keep: true}
	tab := w.open(config)
	_, got, err := w.call("udp4", vm(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	config.PortsPerVM = 1024
	tab = w.open(config)
	if owner, _ := tab.Owner(got.Addr(), got.Port()); owner != vm(0) {
		t.Fatalf("%s belongs to %s", got, owner)
	}
	if s := stats(t, tab); s.Forgotten != 1 {
		t.Errorf("%+v", s)
	}
}

func TestClose(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep %t", keep), func(t *testing.T) {
			w := newWorld(t)
			tab := w.open(Config{Keep: keep, Table: "mine"})
			for range 2 {
				if err := tab.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if got := w.tables(); (len(got) == 1 && got[0] == "mine") != keep || len(got) > 1 {
				t.Errorf("tables %v", got)
			}
			if err := tab.Add(vm(0)); err == nil {
				t.Error("a closed table takes VMs")
			}
			if _, err := tab.Stats(); err == nil {
				t.Error("a closed table has counters")
			}
		})
	}
}

func TestRemovedByOthers(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{})
	w.nft(func(c *nftables.Conn) { c.FlushRuleset() })
	if err := tab.Add(vm(0)); err == nil {
		t.Error("added to a table that is gone")
	}
	if _, err := tab.Stats(); err == nil {
		t.Error("counters of a table that is gone")
	}
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
}

func TestForeignTable(t *testing.T) {
	for name, fill := range map[string]func(*nftables.Conn, *nftables.Table){
		"empty": func(*nftables.Conn, *nftables.Table) {},
		"with a chain of that name": func(c *nftables.Conn, table *nftables.Table) {
			chain := c.AddChain(&nftables.Chain{Table: table, Name: chainForward})
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, UserData: []byte{0, 5, 'm', 'i', 'n', 'e', 0}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.nft(func(c *nftables.Conn) {
				fill(c, c.AddTable(&nftables.Table{Name: DefaultTable, Family: nftables.TableFamilyIPv4}))
			})
			if tab, err := w.tryOpen(Config{}); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), DefaultTable) {
				t.Errorf("%v, %v", tab, err)
			}
			if got := w.tables(); len(got) != 1 || got[0] != DefaultTable {
				t.Errorf("tables %v", got)
			}
			// Beside it there is room.
			w.open(Config{Table: "other"})
		})
	}
}

func TestNoPorts(t *testing.T) {
	w := newWorld(t)
	if err := w.hypervisor.Sysctl("net.ipv4.ip_local_port_range", "1024 65535"); err != nil {
		t.Fatal(err)
	}
	_, err := w.tryOpen(Config{})
	if !errors.Is(err, ErrNoPorts) || !strings.Contains(err.Error(), "ip_local_port_range") {
		t.Errorf("error %v", err)
	}
	if got := w.tables(); len(got) != 0 {
		t.Errorf("tables %v", got)
	}
}

func TestNoPermission(t *testing.T) {
	w := newWorld(t)
	const nobody = 65534
	c, line := w.child(&syscall.Credential{Uid: nobody, Gid: nobody})
	_ = c.Wait()
	if !strings.HasPrefix(line, "permission:") {
		t.Error(line)
	}
}

func TestRun(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{Mapped: []netip.Addr{vm(0)}, MaxConnections: 100, NewPerSecond: -1})
	w.flood(vm(0), 0, 200)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tab.Run(ctx) }()
	for len(w.elements(setBlocked)) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("nobody was blocked")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := w.dial("tcp4", vm(0), 0, 5*time.Second); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("one more connection: %v, want it to be refused by ICMP", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
