package endtoend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

var shared = setup{name: "shared", fastPath: true, shared: true}

// TestHundredVMs: they all reach the server at once, which sees one address;
// and any (address, port) that it sees leads to the VM by one command.
func TestHundredVMs(t *testing.T) {
	w := newWorld(t, lab.TopologyConfig{VMs: 100, ChecksumOffload: true, GRO: true})
	w.configure(shared, "")
	w.start()
	l := w.listen(w.Server, "tcp4", servicePort)
	// Whom the server accepts is told by the first bytes.
	near := make([]*net.TCPConn, len(w.VMs))
	var all sync.WaitGroup
	for i, vm := range w.VMs {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c, err := vm.Dial(ctx, "tcp6", service(servicePort))
			if err != nil {
				t.Errorf("%s: %v", vm.Addr6, err)
				return
			}
			near[i] = c.(*net.TCPConn)
			if _, err := c.Write(vm.Addr6.AsSlice()); err != nil {
				t.Error(err)
			}
		})
	}
	far := map[netip.Addr]*net.TCPConn{}
	for range w.VMs {
		c, err := accept(l)
		must(t, err)
		defer c.Close()
		var who [16]byte
		must(t, c.SetDeadline(time.Now().Add(patience)))
		_, err = c.Read(who[:])
		must(t, err)
		far[netip.AddrFrom16(who)] = c
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, vm := range w.VMs {
		defer near[i].Close()
		c := far[vm.Addr6]
		if c == nil {
			t.Fatalf("the server has heard nothing of %s", vm.Addr6)
		}
		if err := exchange(near[i], c); err != nil {
			t.Errorf("%s: %v", vm.Addr6, err)
		}
		seen := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		if seen.Addr() != lab.HypervisorAddr4 {
			t.Errorf("the server sees %s as %s", vm.Addr6, seen)
		}
		if got := w.isthmus("map", "owner", seen.Addr().String(), fmt.Sprint(seen.Port())); !strings.HasPrefix(got, vm.Addr6.String()+" (100.64.") {
			t.Errorf("owner of %s: %s, want %s", seen, got, vm.Addr6)
		}
	}
	if n := w.metric("isthmus_router_share_hosts"); n != float64(len(w.VMs)) {
		t.Errorf("%.0f VMs have ports", n)
	}
}

const (
	floodSize  = 100_000
	floodLeast = floodSize * 3 / 4 // a busy machine's queues lose datagrams
)

// TestFlood: a VM opens 100,000 connections, as fast as it can, and stays
// within its limits. A transfer of another VM goes on meanwhile, and new
// connections succeed at once.
func TestFlood(t *testing.T) {
	for _, tt := range []struct {
		name, share string
		limited     bool
	}{
		{"default_limits", "", true},
		// Then only the slice of ports bounds it: 100,000 connections, to
		// as many places as they need.
		{"no_limits", "max_connections = 0\nnew_per_second = 0", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, lab.TopologyConfig{VMs: 3, ChecksumOffload: true, GRO: true})
			w.configure(shared, tt.share)
			w.start()
			l := w.listen(w.Server, "tcp4", servicePort)
			from, to, err := w.dial(w.VMs[1].Host, l)
			must(t, err)

			flooded := make(chan error, 1)
			go func() { flooded <- w.flood(w.VMs[0]) }()
			transferred := make(chan error, 1)
			go func() { transferred <- transfer(from, to, 256<<20) }()
			opened := 0
			for during := true; during; opened++ {
				select {
				case err := <-flooded:
					must(t, err)
					during = false
				default:
				}
				w.tryNew(w.VMs[2].Host, l)
				time.Sleep(5 * time.Millisecond) // below new_per_second itself
			}
			for range 10 {
				w.tryNew(w.VMs[2].Host, l)
			}
			if err := <-transferred; err != nil {
				t.Errorf("the transfer that was going on: %v", err)
			}
			t.Logf("%d new connections during the flood", opened)

			entries := w.connections()
			let, fast := w.metric(`isthmus_router_share_packets_total{outcome="opened"}`), w.metric(`isthmus_router_share_packets_total{outcome="too_fast"}`)
			many := w.metric(`isthmus_router_share_packets_total{outcome="too_many"}`)
			t.Logf("%d connections in the kernel; %.0f opened, %.0f too fast, %.0f too many", entries, let, fast, many)
			if tt.limited != (fast+many > 0) {
				t.Errorf("%.0f were too fast, %.0f too many", fast, many)
			}
			var status struct{ Limited map[string]uint64 }
			must(t, json.Unmarshal([]byte(w.isthmus("status", "--json")), &status))
			if tt.limited {
				if let+fast+many < floodLeast || entries > floodSize/4 {
					t.Errorf("%d connections", entries)
				}
				if len(status.Limited) != 1 || status.Limited[w.VMs[0].Addr6.String()] == 0 {
					t.Errorf("over limits: %v, want %s alone", status.Limited, w.VMs[0].Addr6)
				}
			} else if entries < floodLeast || len(status.Limited) != 0 {
				t.Errorf("%d connections; over limits: %v", entries, status.Limited)
			}
		})
	}
}

// tryNew opens a connection and uses it.
func (w *world) tryNew(vm *lab.Host, l net.Listener) {
	w.t.Helper()
	a, b, err := w.dial(vm, l)
	if err == nil {
		err = exchange(a, b)
		a.Close()
		b.Close()
	}
	if err != nil {
		w.t.Errorf("a new connection of another VM: %v", err)
	}
}

// flood sends datagrams to floodSize places, each of which is a connection to
// the kernel's NAT: 500 ports of 200 addresses, from a port per address.
func (w *world) flood(vm *lab.VM) error {
	const addresses = 200
	payload := make([]byte, 8)
	for a := range addresses {
		c, err := vm.ListenPacket("udp6", ":0")
		if err != nil {
			return err
		}
		to := net.UDPAddr{IP: lab.Translated(netip.AddrFrom4([4]byte{198, 51, 100, byte(2 + a%100)})).AsSlice()}
		for p := range floodSize / addresses {
			to.Port = 10000 + 500*(a/100) + p
			// Errors of ICMP show on a socket that is not connected as well,
			// where the address's neighbour is unreachable.
			if _, err := c.WriteTo(payload, &to); err != nil && !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EACCES) {
				c.Close()
				return err
			}
		}
		c.Close()
	}
	return nil
}

// connections counts the entries of conntrack on the hypervisor.
func (w *world) connections() (n int) {
	w.t.Helper()
	must(w.t, w.Hypervisor.Do(func() error {
		b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		if err != nil {
			return err
		}
		_, err = fmt.Sscan(string(b), &n)
		return err
	}))
	return n
}
