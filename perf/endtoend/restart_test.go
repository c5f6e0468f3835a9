package endtoend

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"aarch64.com/isthmus/perf/lab"
)

// away is how long isthmus is not there; a restart by systemd takes less.
const away = 500 * time.Millisecond

// TestRestart: connections outlive a restart, however isthmus ends: one that is
// idle meanwhile, and two on which both sides go on sending. Each VM keeps its
// address and its ports.
func TestRestart(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, lab.TopologyConfig{VMs: 3, ChecksumOffload: true, GRO: true})
			w.upstream(w.VMs[2])
			w.VMs = w.VMs[:2]
			w.configure(s, "")
			w.start()
			l := w.listen(w.Server, "tcp4", servicePort)
			idleVM, idleServer, err := w.dial(w.VMs[0].Host, l)
			must(t, err)
			must(t, exchange(idleVM, idleServer))
			before := w.identities(s, l)
			for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
				t.Run(signal.String(), func(t *testing.T) {
					var busy []chan error
					for i, toward := range []bool{false, true} {
						from, to, err := w.dial(w.VMs[i].Host, l)
						must(t, err)
						if toward {
							from, to = to, from
						}
						c := make(chan error, 1)
						busy = append(busy, c)
						go func() { c <- trickle(from, to) }()
					}
					time.Sleep(200 * time.Millisecond)
					w.stop(signal)
					time.Sleep(away)
					w.start()
					for i, c := range busy {
						if err := <-c; err != nil {
							t.Errorf("busy connection %d: %v", i, err)
						}
					}
					if err := exchange(idleVM, idleServer); err != nil {
						t.Errorf("idle connection: %v", err)
					}
					if after := w.identities(s, l); after != before {
						t.Errorf("before the restart\n%sand after\n%s", before, after)
					}
				})
			}
		})
	}
}

// upstream makes a host the default router of the hypervisor's IPv6, one that
// has a NAT64 of its own: it knows nothing of connections through isthmus, and
// resets those that get there.
func (w *world) upstream(h *lab.VM) {
	w.t.Helper()
	must(w.t, w.Hypervisor.Route("default6", h.Addr6.String(), ""))
	must(w.t, h.Addr("lo", lab.Translated(lab.ServerAddr4).String()+"/128"))
}

// trickle sends for longer than isthmus is away, in pieces, and wants them all.
func trickle(from, to *net.TCPConn) error {
	done := make(chan error, 1)
	const pieces = 130
	go func() {
		for n := range pieces {
			if _, err := from.Write([]byte{byte(n)}); err != nil {
				done <- fmt.Errorf("after %d pieces: %w", n, err)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		done <- nil
	}()
	if err := to.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	b := make([]byte, 1)
	for n := range pieces {
		if _, err := to.Read(b); err != nil {
			return fmt.Errorf("%d of %d pieces arrived: %w", n, pieces, err)
		}
		if b[0] != byte(n) {
			return fmt.Errorf("piece %d is %d", n, b[0])
		}
	}
	return <-done
}

// identities tells, for each VM, by which address the server sees it; and where
// that is shared, which ports it has.
func (w *world) identities(s setup, l net.Listener) string {
	w.t.Helper()
	var out strings.Builder
	for _, vm := range w.VMs {
		a, b, err := w.dial(vm.Host, l)
		must(w.t, err)
		seen := b.RemoteAddr().(*net.TCPAddr).AddrPort()
		a.Close()
		b.Close()
		fmt.Fprint(&out, vm.Addr6, " ", seen.Addr())
		if s.shared {
			const ports = 256 // the default, and blocks begin at multiples of it
			fmt.Fprintf(&out, " slice %d, %s", seen.Port()/ports, strings.TrimSpace(w.isthmus("map", "owner", seen.Addr().String(), fmt.Sprint(seen.Port()))))
		}
		fmt.Fprintln(&out)
	}
	return out.String()
}
