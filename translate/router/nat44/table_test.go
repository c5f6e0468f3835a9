package nat44

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func stats(t *testing.T, tab *Table) Stats {
	t.Helper()
	s, err := tab.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// counted waits until so many new connections have been let through or not, and gives
// the figures: a busy kernel has some packets under way when they have been sent.
func counted(t *testing.T, tab *Table, n uint64) (s Stats) {
	t.Helper()
	for range 1000 {
		if s = stats(t, tab); s.Opened+s.TooFast+s.TooMany >= n {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return s
}

// mine fails unless the address and port are in the VM's slice, and lead back.
func mine(t *testing.T, tab *Table, mapped netip.Addr, got netip.AddrPort) {
	t.Helper()
	shared, ports, ok := tab.Slice(mapped)
	if !ok || got.Addr() != shared || got.Port() < ports.First || got.Port() > ports.Last {
		t.Errorf("%s was seen as %s, its slice is %s %s", mapped, got, shared, ports)
	}
	if owner, _ := tab.Owner(got.Addr(), got.Port()); owner != mapped {
		t.Errorf("%s belongs to %s, want %s", got, owner, mapped)
	}
}

func TestShare(t *testing.T) {
	w := newWorld(t)
	vms := []netip.Addr{vm(0), vm(1), vm(77), vm(140)}
	tab := w.open(Config{Mapped: vms})
	var wg sync.WaitGroup
	for _, m := range vms {
		for _, network := range []string{"tcp4", "udp4"} {
			wg.Go(func() {
				for range 20 {
					_, got, err := w.call(network, m)
					if err != nil {
						t.Errorf("%s from %s: %v", network, m, err)
						return
					}
					mine(t, tab, m, got)
				}
			})
		}
		wg.Go(func() {
			for range 3 {
				got, err := w.ping(m)
				if err != nil {
					t.Errorf("ping from %s: %v", m, err)
					return
				}
				mine(t, tab, m, got)
			}
		})
	}
	wg.Wait()
	s := stats(t, tab)
	want := Stats{VMs: 4, Capacity: 141, Opened: 4 * (20 + 20 + 3)}
	if s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	counts, err := tab.Connections()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range vms {
		if counts[m] < 40 {
			t.Errorf("%s has %d connections, want 40 or more", m, counts[m])
		}
	}
}

// One port of each of three VMs, all towards the same server.
func TestSameSourcePort(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{Mapped: []netip.Addr{vm(0), vm(1), vm(2)}})
	for i := range 3 {
		c, err := w.dial("tcp4", vm(i), 40000, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := seen(c)
		if err != nil {
			t.Fatal(err)
		}
		mine(t, tab, vm(i), got)
	}
}

// A VM's ports are enough for as many connections to one place, and the next
// VM's are not touched.
func TestSliceExhausted(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{Mapped: []netip.Addr{vm(0), vm(1)}, PortsPerVM: 16})
	ports := map[netip.AddrPort]bool{}
	for range 16 {
		_, got, err := w.call("tcp4", vm(0))
		if err != nil {
			t.Fatal(err)
		}
		mine(t, tab, vm(0), got)
		ports[got] = true
	}
	if len(ports) != 16 {
		t.Errorf("16 connections had %d ports", len(ports))
	}
	if c, err := w.dial("tcp4", vm(0), 0, time.Second); err == nil {
		c.Close()
		t.Error("the 17th connection has found a port")
	}
	_, got, err := w.call("tcp4", vm(1))
	if err != nil {
		t.Fatal(err)
	}
	mine(t, tab, vm(1), got)
}

func TestNoSlice(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{})
	if err := tab.Add(vm(0), vm(141)); !errors.Is(err, ErrNoSlice) || !strings.Contains(err.Error(), vm(141).String()) {
		t.Errorf("error %v, want ErrNoSlice about %s", err, vm(141))
	}
	if err := tab.Add(serverAddr); err == nil || errors.Is(err, ErrNoSlice) {
		t.Errorf("error %v about an address outside of the pool", err)
	}
	if _, _, err := w.call("tcp4", vm(0)); err != nil {
		t.Errorf("the VM with a slice: %v", err)
	}
	// One beyond the slices, one that nobody has added.
	for _, m := range []netip.Addr{vm(141), vm(1)} {
		if _, err := w.dial("tcp4", m, 0, 5*time.Second); !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("TCP from %s: %v, want it to be refused by ICMP", m, err)
		}
	}
	if s := stats(t, tab); s.VMs != 1 || s.WithoutSlice != 1 || s.NoSlice != 2 {
		t.Errorf("%+v", s)
	}
	// Another address has room for the one.
	if err := tab.Update([]netip.Addr{sharedAddr, otherAddr}); err != nil {
		t.Fatal(err)
	}
	_, got, err := w.call("tcp4", vm(141))
	if err != nil {
		t.Fatal(err)
	}
	mine(t, tab, vm(141), got)
	if got.Addr() != otherAddr {
		t.Errorf("%s was seen as %s", vm(141), got)
	}
	if s := stats(t, tab); s.VMs != 2 || s.WithoutSlice != 0 {
		t.Errorf("%+v", s)
	}
}

// What is neither TCP, UDP nor ICMP has no ports that would tell whose it is.
func TestOtherProtocols(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{Mapped: []netip.Addr{vm(0)}})
	err := w.vms.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_GRE)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: vm(0).As4()}); err != nil {
			return err
		}
		return unix.Sendto(fd, make([]byte, 8), 0, &unix.SockaddrInet4{Addr: serverAddr.As4()})
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := stats(t, tab); s.Protocol != 1 || s.Opened != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTooManyConnections(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{Mapped: []netip.Addr{vm(0), vm(1)}, MaxConnections: 1000, NewPerSecond: -1})
	quiet, _, err := w.call("tcp4", vm(1))
	if err != nil {
		t.Fatal(err)
	}
	w.flood(vm(0), 0, 5000)
	counted(t, tab, 1+5000)
	if _, err := tab.limit(); err != nil {
		t.Fatal(err)
	}
	w.flood(vm(0), 5000, 5000)
	s := counted(t, tab, 1+10_000)
	if s.TooMany != 5000 {
		t.Errorf("%+v", s)
	}
	if limited, err := tab.Limited(); err != nil || limited[vm(0)] != s.TooMany || len(limited) != 1 {
		t.Errorf("limited are %v, %v; want %s with %d", limited, err, vm(0), s.TooMany)
	}
	if _, err := w.dial("tcp4", vm(0), 0, 5*time.Second); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("one more connection: %v, want it to be refused by ICMP", err)
	}
	if err := alive(quiet); err != nil {
		t.Errorf("the other VM's connection: %v", err)
	}
	for range 50 {
		if _, _, err := w.call("tcp4", vm(1)); err != nil {
			t.Fatalf("the other VM: %v", err)
		}
	}
	// Once its connections have ended, the VM may go on.
	flush(t, w)
	if _, err := tab.limit(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.call("tcp4", vm(0)); err != nil {
		t.Error(err)
	}
}

func TestTooFast(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{Mapped: []netip.Addr{vm(0), vm(1)}, NewPerSecond: 100})
	w.flood(vm(0), 0, 2000)
	s := counted(t, tab, 2000)
	if s.TooFast == 0 || s.Opened < 100 || s.Opened+s.TooFast != 2000 {
		t.Errorf("%+v", s)
	}
	if limited, err := tab.Limited(); err != nil || limited[vm(0)] != s.TooFast || len(limited) != 1 {
		t.Errorf("limited are %v, %v; want %s with %d", limited, err, vm(0), s.TooFast)
	}
	if _, _, err := w.call("tcp4", vm(1)); err != nil {
		t.Errorf("the other VM: %v", err)
	}
}

// A hundred VMs, usual limits, and one that opens 100,000 connections.
func TestOneOfAHundred(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{Mapped: vmRange(100)})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tab.Run(ctx) }()
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		f := w.newFlood()
		defer f.close()
		for i := range 100_000 {
			if err := f.send(vm(0), i); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := 1; i < 100; i++ {
		for _, network := range []string{"tcp4", "udp4"} {
			_, got, err := w.call(network, vm(i))
			if err != nil {
				t.Fatalf("%s from %s: %v", network, vm(i), err)
			}
			mine(t, tab, vm(i), got)
		}
	}
	<-flooded
	const tried = 100_000 + 2*99
	s := counted(t, tab, tried)
	if all := s.Opened + s.TooFast + s.TooMany; all != tried {
		t.Errorf("%+v", s)
	}
	// All of the flood but what the rate lets through, however slow it was.
	limited, err := tab.Limited()
	if err != nil || len(limited) != 1 || limited[vm(0)] != s.TooFast+s.TooMany || s.TooFast == 0 {
		t.Errorf("limited are %v, %v; %+v", limited, err, s)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Packets that nobody answers are no new connections each.
func TestUnansweredIsOne(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{Mapped: []netip.Addr{vm(0)}, NewPerSecond: 10})
	c, err := w.dial("udp4", vm(0), 0, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u := c.(*net.UDPConn)
	for range 200 {
		if _, err := u.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if s := stats(t, tab); s.Opened != 1 || s.TooFast != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{Mapped: []netip.Addr{vm(0), vm(1)}})
	gone, _, err := w.call("tcp4", vm(0))
	if err != nil {
		t.Fatal(err)
	}
	stays, _, err := w.call("tcp4", vm(1))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is not there
		if err := tab.Remove(vm(0), vm(5), vm(0)); err != nil {
			t.Fatal(err)
		}
	}
	if counts, err := tab.Connections(); err != nil || counts[vm(0)] != 0 || counts[vm(1)] != 1 {
		t.Errorf("connections: %v, %v", counts, err)
	}
	if err := alive(stays); err != nil {
		t.Errorf("the other VM's connection: %v", err)
	}
	if aliveWithin(gone, 300*time.Millisecond) == nil {
		t.Error("the removed VM's connection still works")
	}
	if _, err := w.dial("tcp4", vm(0), 0, 5*time.Second); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("TCP from the removed VM: %v, want it to be refused by ICMP", err)
	}
	if err := tab.Add(vm(0)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.call("tcp4", vm(0)); err != nil {
		t.Errorf("added again: %v", err)
	}
	if s := stats(t, tab); s.VMs != 2 || s.Forgotten != 1 {
		t.Errorf("%+v", s)
	}
}

func TestUpdate(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{Mapped: []netip.Addr{vm(0), vm(1)}})
	old, got, err := w.call("tcp4", vm(0))
	if err != nil {
		t.Fatal(err)
	}
	mine(t, tab, vm(0), got)

	if err := tab.Update(addrs("100.64.0.1")); err == nil {
		t.Error("an address of the pool was accepted")
	}
	if err := tab.Update([]netip.Addr{sharedAddr, otherAddr}); err != nil {
		t.Fatal(err)
	}
	if err := alive(old); err != nil {
		t.Errorf("a connection through an address that stays: %v", err)
	}
	if err := tab.Update([]netip.Addr{otherAddr}); err != nil {
		t.Fatal(err)
	}
	if s := stats(t, tab); s.Forgotten != 1 {
		t.Errorf("%+v", s)
	}
	_, got, err = w.call("tcp4", vm(0))
	if err != nil {
		t.Fatal(err)
	}
	mine(t, tab, vm(0), got)

	if err := tab.Update(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.dial("tcp4", vm(1), 0, 5*time.Second); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("TCP without an address to share: %v, want it to be refused by ICMP", err)
	}
}

// A UDP flow from before the table goes on with the shared address.
func TestBegunBefore(t *testing.T) {
	w := newWorld(t)
	if err := w.hypervisor.Do(func() error { return loadConntrack(w) }); err != nil {
		t.Fatal(err)
	}
	c, got, err := w.call("udp4", vm(0))
	if err != nil {
		t.Fatal(err)
	}
	if got.Addr() != vm(0) {
		t.Fatalf("without a table the server sees %s", got)
	}
	tab := w.open(Config{Mapped: []netip.Addr{vm(0)}})
	if got, err = seen(c); err != nil {
		t.Fatal(err)
	}
	mine(t, tab, vm(0), got)
	if s := stats(t, tab); s.Forgotten != 1 {
		t.Errorf("%+v", s)
	}
}

func TestManyVMs(t *testing.T) {
	w := newWorld(t)
	var all []netip.Addr
	for i := range 4000 {
		all = append(all, vm(i))
	}
	start := time.Now()
	tab := w.open(Config{Mapped: all, PortsPerVM: 16, Table: "many"})
	t.Logf("opened with %d VMs in %v", len(all), time.Since(start))
	if s := stats(t, tab); s.VMs != min(len(all), s.Capacity) {
		t.Errorf("%+v", s)
	}
	last := vm(tab.Plan().Capacity() - 1)
	for _, m := range []netip.Addr{vm(0), vm(999), last} {
		_, got, err := w.call("tcp4", m)
		if err != nil {
			t.Fatal(err)
		}
		mine(t, tab, m, got)
	}
	if err := tab.Remove(all...); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	for _, m := range all[:1000] {
		if err := tab.Add(m); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("added 1000 VMs one by one in %v", time.Since(start))
	if err := tab.Update([]netip.Addr{otherAddr}); err != nil {
		t.Fatal(err)
	}
	if _, got, err := w.call("tcp4", vm(999)); err != nil || got.Addr() != otherAddr {
		t.Errorf("%s was seen as %s, %v", vm(999), got, err)
	}
}

func TestConcurrentUse(t *testing.T) {
	w := newWorld(t)
	tab := w.open(Config{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				m := vm(i*20 + j)
				if err := errors.Join(tab.Add(m), tab.Remove(m), tab.Add(m)); err != nil {
					t.Error(err)
				}
				if _, err := tab.Stats(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 10 {
			a := [][]netip.Addr{{sharedAddr}, {otherAddr}}
			if err := tab.Update(a[i%2]); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if s := stats(t, tab); s.VMs != 80 {
		t.Errorf("%+v", s)
	}
	if got := w.elements(setSlices); !slices.Equal(got, vmRange(80)) {
		t.Errorf("the kernel has %d slices: %v", len(got), got)
	}
}
