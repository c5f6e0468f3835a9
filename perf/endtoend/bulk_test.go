package endtoend

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
)

// Sizes of a stream, so that some packets of each are lost.
const (
	superSize   = 24 << 20
	segmentSize = 6 << 20
)

// way is where packets are harmed, and where the bytes go.
type way struct {
	name   string
	wan    bool // else on the VM's link
	toward bool // to the VM
}

var ways = []way{
	{"harm_at_VM/VM_to_server", false, false},
	{"harm_at_VM/server_to_VM", false, true},
	{"harm_at_WAN/VM_to_server", true, false},
	{"harm_at_WAN/server_to_VM", true, true},
}

// TestBulk sends streams and batches of datagrams through links that lose and
// reorder packets: what arrives is what was sent. Either superpackets cross the
// links, or segments do, which the hypervisor makes into superpackets (GRO) with
// holes where some were lost.
func TestBulk(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name+"/superpackets", func(t *testing.T) { bulk(t, s, true) })
		t.Run(s.name+"/segments", func(t *testing.T) { bulk(t, s, false) })
	}
}

func bulk(t *testing.T, s setup, super bool) {
	size := int64(segmentSize)
	if super {
		size = superSize
	}
	harm := [2]*lab.Impairer{lab.NewImpairer(1), lab.NewImpairer(2)}
	w := newWorld(t, lab.TopologyConfig{ChecksumOffload: super, GRO: true, ImpairVM: harm[0], ImpairWAN: harm[1]})
	w.configure(s, "")
	w.start()
	for _, y := range ways {
		i := harm[0]
		if y.wan {
			i = harm[1]
		}
		t.Run(y.name+"/TCP", func(t *testing.T) { w.stream(t, s, y, i, size) })
		if super {
			t.Run(y.name+"/UDP", func(t *testing.T) { w.datagrams(t, y, i) })
		}
	}
	if n := w.metric("isthmus_router_fast_path_packets_total"); (n > 0) != s.fastPath {
		t.Errorf("the fast path has translated %.0f packets", n)
	}
	if n := w.metric(`isthmus_router_fast_path_packets_total{direction="ipv6_to_ipv4",point="interface"}`) +
		w.metric(`isthmus_router_fast_path_packets_total{direction="ipv4_to_ipv6",point="interface"}`); (n > 0) != s.ingress {
		t.Errorf("at the interfaces, the fast path has translated %.0f packets", n)
	}
	for _, i := range harm {
		if c := i.Counts(); c.Failed != 0 {
			t.Errorf("packets that the link could not carry: %+v", c)
		}
		if c := i.Counts(); (c.Super > 0) != super {
			t.Errorf("superpackets on a link: %+v", c)
		}
	}
}

// harmed lets a link do harm to what f sends, and wants to see that it did.
func harmed(t *testing.T, i *lab.Impairer, what lab.Impairment, f func()) {
	t.Helper()
	before := i.Counts()
	i.Set(what)
	defer i.Set(lab.Impairment{})
	f()
	after := i.Counts()
	if after.Lost == before.Lost || after.Reordered == before.Reordered {
		t.Errorf("nothing was lost, or nothing reordered: %+v, then %+v", before, after)
	}
}

// stream sends size bytes over a TCP connection. The side that is to send
// opens it where it can: a VM with a shared address can't be called.
func (w *world) stream(t *testing.T, s setup, y way, i *lab.Impairer, size int64) {
	vm := w.VMs[0]
	var from, to *net.TCPConn
	if y.toward && !s.shared {
		l := w.listen(vm.Host, "tcp6", servicePort)
		defer l.Close()
		c, err := w.Server.Dial(t.Context(), "tcp4", netip.AddrPortFrom(vm.Addr4, servicePort).String())
		must(t, err)
		from = c.(*net.TCPConn)
		to, err = accept(l)
		must(t, err)
	} else {
		l := w.listen(w.Server, "tcp4", servicePort)
		defer l.Close()
		var err error
		from, to, err = w.dial(vm.Host, l)
		must(t, err)
		if y.toward {
			from, to = to, from
		}
	}
	defer from.Close()
	defer to.Close()
	harmed(t, i, lab.Impairment{Loss: 0.01, Reorder: 0.02}, func() {
		if err := transfer(from, to, size); err != nil {
			t.Error(err)
		}
	})
}

// transfer sends size pseudo-random bytes and compares what arrives by its
// SHA-256.
func transfer(from, to *net.TCPConn, size int64) error {
	limit := time.Now().Add(bulkPatience)
	if err := errors.Join(from.SetDeadline(limit), to.SetDeadline(limit)); err != nil {
		return err
	}
	var sum [sha256.Size]byte
	sent := make(chan error, 1)
	go func() {
		h := sha256.New()
		// Not *net.TCPConn's ReadFrom: writes of 256 KB make superpackets.
		_, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(h, from)},
			io.LimitReader(rand.NewChaCha8([32]byte{1}), size), make([]byte, 256<<10))
		h.Sum(sum[:0])
		sent <- errors.Join(err, from.CloseWrite())
	}()
	h := sha256.New()
	n, err := io.Copy(h, to)
	if err := errors.Join(err, <-sent); err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", n, size, err)
	}
	if n != size || !bytes.Equal(h.Sum(nil), sum[:]) {
		return fmt.Errorf("%d bytes arrived of %d, and they are not those that were sent", n, size)
	}
	return nil
}

const (
	datagramSize = 1200
	segments     = 40  // of a superpacket
	superpackets = 200 // of a test
)

var endOfData = []byte("end")

// datagrams has the kernel cut superpackets into datagrams (UDP_SEGMENT), each
// of which must arrive as it was sent or not at all.
func (w *world) datagrams(t *testing.T, y way, i *lab.Impairer) {
	server, err := w.Server.ListenPacket("udp4", fmt.Sprintf(":%d", servicePort))
	must(t, err)
	defer server.Close()
	c, err := w.VMs[0].Dial(t.Context(), "udp6", service(servicePort))
	must(t, err)
	defer c.Close()
	vm, far := c.(*net.UDPConn), server.(*net.UDPConn)
	// The server learns where the VM is, and neighbours are found.
	_, err = vm.Write([]byte("hello"))
	must(t, err)
	must(t, far.SetReadDeadline(time.Now().Add(patience)))
	_, peer, err := far.ReadFromUDP(make([]byte, 10))
	must(t, err)

	from, to := vm, far
	send := func(b []byte) error { _, err := vm.Write(b); return err }
	if y.toward {
		from, to = far, vm
		send = func(b []byte) error { _, err := far.WriteToUDP(b, peer); return err }
	}
	receiveBuffer(t, to)
	control(t, from, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, datagramSize) })
	arrived := make(chan error, 1)
	seen := map[uint32]bool{}
	go func() { arrived <- receive(to, seen) }()
	harmed(t, i, lab.Impairment{Loss: 0.04, Reorder: 0.04}, func() {
		super := make([]byte, segments*datagramSize)
		for n := range uint32(superpackets) {
			for k := range uint32(segments) {
				fill(super[k*datagramSize:][:datagramSize], n*segments+k)
			}
			must(t, send(super))
			// No faster than what a receiver without flow control bears.
			time.Sleep(200 * time.Microsecond)
		}
	})
	// What was held back comes before the end, which may be lost to a full
	// queue like all else.
	end := time.NewTicker(20 * time.Millisecond)
	defer end.Stop()
	for done := false; !done; {
		select {
		case err := <-arrived:
			must(t, err)
			done = true
		case <-end.C:
			must(t, send(endOfData))
		}
	}
	const all = superpackets * segments
	if len(seen) < all/2 || len(seen) == all {
		t.Errorf("%d of %d datagrams arrived", len(seen), all)
	}
}

// fill makes the content of a datagram, which follows from its number.
func fill(b []byte, n uint32) {
	binary.BigEndian.PutUint32(b, n)
	var seed [32]byte
	binary.BigEndian.PutUint32(seed[:], n)
	_, _ = rand.NewChaCha8(seed).Read(b[4:]) // never fails
}

// receive reads datagrams until the end of data.
func receive(c *net.UDPConn, seen map[uint32]bool) error {
	got, want := make([]byte, 2*datagramSize), make([]byte, datagramSize)
	for {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := c.Read(got)
		if err != nil {
			return err
		}
		if bytes.Equal(got[:n], endOfData) {
			return nil
		}
		if n != datagramSize {
			return fmt.Errorf("a datagram of %d bytes arrived", n)
		}
		k := binary.BigEndian.Uint32(got)
		if fill(want, k); k >= superpackets*segments || !bytes.Equal(got[:n], want) {
			return fmt.Errorf("datagram %d arrived with other bytes than it left with", k)
		}
		if seen[k] {
			return fmt.Errorf("datagram %d arrived twice", k)
		}
		seen[k] = true
	}
}
