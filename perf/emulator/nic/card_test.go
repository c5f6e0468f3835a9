//go:build nic

package nic

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/xsk"
)

var (
	pool6   = netip.MustParsePrefix("64:ff9b::/96")
	mapped4 = netip.MustParsePrefix("192.0.2.0/24")
)

// card is an interface whose queues are all served by sockets on one UMEM.
type card struct {
	t       *testing.T
	name    string
	index   int
	mac     net.HardwareAddr
	umem    *xsk.UMEM
	program *xsk.Program
	tables  *xsk.Tables
	sockets []*xsk.Socket
}

func openCard(t *testing.T, name string, queues int, zc xsk.ZeroCopy, attach xsk.Attach) *card {
	t.Helper()
	i, err := net.InterfaceByName(name)
	must(t, err)
	c := &card{t: t, name: name, index: i.Index, mac: i.HardwareAddr}
	chunk := xsk.Chunk2K
	if zc == xsk.ZeroCopyRequire {
		chunk, err = xsk.ZeroCopyChunk(c.index)
		must(t, err)
	}
	c.umem, err = xsk.NewUMEM(xsk.UMEMConfig{Chunks: queues*2048 + 1024, ChunkSize: chunk, Reserve: 1024})
	must(t, err)
	c.tables, err = xsk.NewTables()
	must(t, err)
	must(t, c.tables.Update([]netip.Prefix{pool6}, []netip.Prefix{mapped4}))
	c.program, err = xsk.AttachProgram(c.tables, xsk.ProgramConfig{Ifindex: c.index, Attach: attach})
	must(t, err)
	t.Cleanup(c.close)
	for q := range queues {
		c.open(q, zc)
	}
	// Some drivers take the link down to attach a program.
	linked(t, name)
	return c
}

// open serves a queue, of those that have no socket.
func (c *card) open(queue int, zc xsk.ZeroCopy) {
	c.t.Helper()
	s, err := xsk.Open(c.umem, xsk.SocketConfig{Ifindex: c.index, Queue: queue, Rx: 1024, Tx: 1024, Fill: 2048, Completion: 1024, ZeroCopy: zc})
	refused(c.t, err, zc)
	must(c.t, err)
	c.sockets = append(c.sockets, s)
	must(c.t, c.program.Register(queue, s))
}

func (c *card) close() {
	if c.program == nil {
		return
	}
	for _, s := range c.sockets {
		must(c.t, c.program.Unregister(s.Queue()))
		must(c.t, s.Close())
	}
	must(c.t, c.program.Close())
	must(c.t, c.tables.Close())
	must(c.t, c.umem.Close())
	c.program, c.sockets = nil, nil
}

// service keeps rings going, and says when a socket can't send.
func (c *card) service() (err error) {
	for _, s := range c.sockets {
		s.Service()
		if e := s.Flush(); e != nil {
			err = e
		}
	}
	return err
}

// audit waits until all that was sent has come back, and fails unless every chunk
// is where it belongs: free, or waiting to be filled.
func (c *card) audit() {
	c.t.Helper()
	sent := func() bool {
		_ = c.service()
		for _, s := range c.sockets {
			if st, err := s.Stats(); err != nil || st.Completed != st.Sent {
				return false
			}
		}
		return true
	}
	eventually(c.t, c.name+" to give back what was sent", sent)
	// In copy mode no chunk is ever with a driver, but for the moment in which the
	// kernel fills it; frames that were late may still come.
	copying := slices.ContainsFunc(c.sockets, func(s *xsk.Socket) bool { return s.Mode() == xsk.Copy })
	a, err := c.umem.Audit()
	for end := time.Now().Add(patience); copying && a.Kernel != 0 && time.Now().Before(end); a, err = c.umem.Audit() {
		time.Sleep(time.Millisecond)
	}
	if err != nil || a.Held != 0 || a.Tx != 0 || a.Misuse != 0 || copying && a.Kernel != 0 ||
		a.Free+a.Fill+a.Rx+a.Completion+a.Kernel != a.Chunks {
		c.t.Errorf("%s: %+v, %v", c.name, a, err)
	}
	for _, s := range c.sockets {
		if st, err := s.Stats(); err != nil || st.TxInvalidDescs != 0 || st.RxInvalidDescs != 0 || st.TxRejected != 0 {
			c.t.Errorf("%s, queue %d: %+v, %v", c.name, s.Queue(), st, err)
		}
	}
}

// full adds up what rings report as lost.
func (c *card) full() (n uint64) {
	for _, s := range c.sockets {
		st, err := s.Stats()
		must(c.t, err)
		n += st.RxRingFull + st.RxDropped + st.TxDropped
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is generous: every processor here is emulated.
const patience = 30 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// up sets an interface up or down.
func up(name string, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r); err != nil {
		return err
	}
	flags := r.Uint16() &^ unix.IFF_UP
	if on {
		flags |= unix.IFF_UP
	}
	r.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("set %s up to %v: %w", name, on, err)
	}
	return nil
}

// refused skips the test where the driver can't have zero-copy mode: virtio_net as a
// module maps a header of its own that lies in vmalloc memory, and on arm64 DMA from
// there is refused ("rejecting DMA map of vmalloc memory").
func refused(t testing.TB, err error, zc xsk.ZeroCopy) {
	t.Helper()
	if zc == xsk.ZeroCopyRequire && driver(t, "eth0") == "virtio_net" && errors.Is(err, xsk.ErrZeroCopy) && errors.Is(err, unix.ENOMEM) {
		t.Skip("virtio_net refuses zero-copy:", err)
	}
}

// driver is that of a card.
func driver(t testing.TB, name string) string {
	t.Helper()
	link, err := os.Readlink("/sys/class/net/" + name + "/device/driver")
	must(t, err)
	return filepath.Base(link)
}

// linked waits for a card's carrier; IFF_RUNNING and the state in netlink follow it
// some time later, down as well as up.
func linked(t testing.TB, name string) {
	t.Helper()
	eventually(t, name+" to have a link", func() bool {
		carrier, err := os.ReadFile("/sys/class/net/" + name + "/carrier")
		return err == nil && string(carrier) == "1\n"
	})
}
