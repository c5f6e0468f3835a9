package main

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// TestKilledDuringTraffic kills the daemon with kill -9 while a VM keeps sending
// through it, and starts it again with the traffic still coming: the next one
// works at once, over both paths.
func TestKilledDuringTraffic(t *testing.T) {
	for _, path := range []struct{ name, ports string }{
		{"AF_XDP", "[[router.port]]\ninterface = 'vm0'\n[[router.port]]\ninterface = 'wan0'\n"},
		{"kernel", ""},
	} {
		t.Run(path.name, func(t *testing.T) {
			topology, err := labtest.New(t, "killed").Build(lab.TopologyConfig{Queues: 2})
			if err != nil {
				t.Fatal(err)
			}
			vm := topology.VMs[0]
			file := writeConfig(t, fmt.Sprintf("[router]\nallow_private4 = true\neam = [{ ipv6 = '%s/128', ipv4 = '%s/32' }]\n%s", vm.Addr6, vm.Addr4, path.ports))
			arrived := sendAlways(t, vm.Host, topology.Server)
			for range 3 {
				p := start(t, topology.Hypervisor, nil, "run", "-c", file)
				p.wait(`"message":"ready"`)
				for range 100 {
					select {
					case <-arrived:
					case <-time.After(patience):
						t.Fatalf("no traffic after a start; it said %q", p.seen)
					}
				}
				p.signal(syscall.SIGKILL)
				p.end()
				if found := leftovers(t, topology.Hypervisor, "vm0", "wan0"); found != nil {
					t.Errorf("a killed process left behind: %q", found)
				}
				// What was still under way must not count for the next.
				for quiet := false; !quiet; {
					select {
					case <-arrived:
					case <-time.After(200 * time.Millisecond):
						quiet = true
					}
				}
			}
		})
	}
}

// sendAlways sends a datagram every millisecond until the test ends, and tells
// of each that arrives.
func sendAlways(t *testing.T, from, to *lab.Host) <-chan struct{} {
	t.Helper()
	sink, err := to.ListenPacket("udp4", ":7")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	arrived := make(chan struct{}, 1000)
	go func() {
		for b := make([]byte, 2000); ; {
			if _, _, err := sink.ReadFrom(b); err != nil {
				return
			}
			select {
			case arrived <- struct{}{}:
			default: // nobody is interested
			}
		}
	}()
	c, err := from.Dial(context.Background(), "udp6", netip.AddrPortFrom(lab.Translated(lab.ServerAddr4), 7).String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); c.Close() })
	go func() {
		for ctx.Err() == nil {
			// Without a daemon the hypervisor answers "unreachable", which
			// the next write reports; the sender goes on.
			_, _ = c.Write(make([]byte, 100))
			time.Sleep(time.Millisecond)
		}
	}()
	return arrived
}
