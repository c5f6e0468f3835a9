//go:build nic

package nic

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/xsk"
)

// queues is how many each card has.
const queues = 4

var modes = []struct {
	name   string
	ask    xsk.ZeroCopy
	attach xsk.Attach
	mode   xsk.Mode
	where  xsk.AttachMode
}{
	{"zero-copy", xsk.ZeroCopyRequire, xsk.AttachDriver, xsk.ZeroCopyMode, xsk.Driver},
	{"copy", xsk.ZeroCopyOff, xsk.AttachDriver, xsk.Copy, xsk.Driver},
	{"generic", xsk.ZeroCopyOff, xsk.AttachGeneric, xsk.Copy, xsk.Generic},
}

func TestMain(m *testing.M) {
	for _, name := range []string{"eth0", "eth1", "eth2"} {
		for _, set := range []func() error{
			// No chatter of the kernel's own on cards that only sockets use.
			func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0) },
			func() error { return setChannels(name, queues) },
			func() error { return up(name, true) },
		} {
			if err := set(); err != nil {
				println(name, err.Error())
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// TestTraffic: all queues carry traffic, both ways at once, byte for byte.
func TestTraffic(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			a, b := openCard(t, "eth0", queues, m.ask, m.attach), openCard(t, "eth1", queues, m.ask, m.attach)
			for _, c := range []*card{a, b} {
				if c.program.Mode() != m.where {
					t.Errorf("%s: attached in %v mode", c.name, c.program.Mode())
				}
				for _, s := range c.sockets {
					if s.Mode() != m.mode {
						t.Errorf("%s, queue %d: %v", c.name, s.Queue(), s.Mode())
					}
				}
			}
			there, back := newStream(a, b), newStream(b, a)
			pump(t, 10_000, there, back)
			for _, s := range []*stream{there, back} {
				s.complete(t)
				s.everyQueue(t)
			}
			a.audit()
			b.audit()
		})
	}
}

// TestSmallChunks: a driver that would cut frames in chunks of 2048 bytes gets them
// in copy mode only.
func TestSmallChunks(t *testing.T) {
	c := openCard(t, "eth0", 0, xsk.ZeroCopyAuto, xsk.AttachDriver)
	need, err := xsk.ZeroCopyChunk(c.index)
	must(t, err)
	if coarse := driver(t, "eth0") == "igb"; (need > xsk.Chunk2K) != coarse {
		t.Errorf("%s needs chunks of %d bytes", driver(t, "eth0"), need)
	}
	c.open(0, xsk.ZeroCopyAuto)
	if got := c.sockets[0].Mode(); got != xsk.Copy {
		t.Errorf("%v mode", got)
	}
	_, err = xsk.Open(c.umem, xsk.SocketConfig{Ifindex: c.index, Queue: 1, ZeroCopy: xsk.ZeroCopyRequire})
	if !errors.Is(err, xsk.ErrZeroCopy) {
		t.Errorf("required: %v", err)
	}
}

// TestLinkFlap: after the link was down and up again traffic goes on, and no
// chunk is left behind.
func TestLinkFlap(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			a, b := openCard(t, "eth0", queues, m.ask, m.attach), openCard(t, "eth1", queues, m.ask, m.attach)
			there, back := newStream(a, b), newStream(b, a)
			for range 3 {
				done := make(chan error)
				go func() {
					time.Sleep(100 * time.Millisecond)
					err := up("eth1", false)
					time.Sleep(100 * time.Millisecond)
					done <- errors.Join(err, up("eth1", true))
				}()
				flapping := true
				for flapping {
					pumpLossy(t, 500, 50*time.Millisecond, there, back)
					select {
					case err := <-done:
						must(t, err)
						flapping = false
					default:
					}
				}
				linked(t, "eth1")
				a.audit()
				b.audit()
				// What waited while the link was down may come late.
				pumpLossy(t, 100, time.Second, there, back)
				again, andBack := newStream(a, b), newStream(b, a)
				pump(t, 2000, again, andBack)
				again.complete(t)
				andBack.complete(t)
				again.everyQueue(t)
				andBack.everyQueue(t)
			}
		})
	}
}

// changed sets the number of queues, after their sockets were closed: the kernel
// ends those some time later.
func changed(t *testing.T, name string, n int) {
	t.Helper()
	var err error
	eventually(t, fmt.Sprintf("%s to have %d queues", name, n), func() bool {
		err = setChannels(name, n)
		return !errors.Is(err, unix.EINVAL)
	})
	must(t, err)
}

// TestChannels: each number of queues works, and while they have sockets the kernel
// lets none of them go, and nothing comes of trying.
func TestChannels(t *testing.T) {
	for _, m := range modes[:2] {
		t.Run(m.name, func(t *testing.T) {
			t.Cleanup(func() { changed(t, "eth1", queues) })
			for _, n := range []int{queues, 2, 3, 1, queues} {
				changed(t, "eth1", n)
				a, b := openCard(t, "eth0", queues, m.ask, m.attach), openCard(t, "eth1", n, m.ask, m.attach)
				s := newStream(a, b)
				pump(t, 1000, s)
				if n > 1 {
					if err := setChannels("eth1", n-1); !errors.Is(err, unix.EINVAL) {
						t.Errorf("a queue of %d went with its socket: %v", n, err)
					}
				}
				pump(t, 1000, s)
				s.complete(t)
				s.everyQueue(t)
				a.audit()
				b.audit()
				a.close()
				b.close()
			}
		})
	}
}

// TestChannelsWhileRunning: queues without a socket go and come back while traffic
// goes on over the others. virtio_net allows that only with the program in the
// network stack, igb with it in the driver, too.
func TestChannelsWhileRunning(t *testing.T) {
	attach := xsk.AttachDriver
	if driver(t, "eth1") == "virtio_net" {
		attach = xsk.AttachGeneric
	}
	t.Cleanup(func() { changed(t, "eth1", queues) })
	a := openCard(t, "eth0", queues, xsk.ZeroCopyOff, xsk.AttachDriver)
	b := openCard(t, "eth1", queues, xsk.ZeroCopyOff, attach)
	pump(t, 1000, newStream(a, b))
	for _, s := range b.sockets[2:] {
		must(t, b.program.Unregister(s.Queue()))
		must(t, s.Close())
	}
	b.sockets = b.sockets[:2]
	for _, n := range []int{2, queues} {
		changed(t, "eth1", n)
		linked(t, "eth1")
		for q := 2; q < n; q++ {
			b.open(q, xsk.ZeroCopyOff)
		}
		pumpLossy(t, 500, time.Second, newStream(a, b)) // flows find their new queues
		s := newStream(a, b)
		pump(t, 2000, s)
		s.complete(t)
		s.everyQueue(t)
		a.audit()
		b.audit()
	}
}
