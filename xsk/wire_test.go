package xsk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
)

// The tests run on veth pairs between namespaces:
//
//	peer ── eth0 ═══ eth0 ── host      the sockets under test are on host
var (
	testPool6  = netip.MustParsePrefix("64:ff9b::/96")
	testMapped = netip.MustParsePrefix("192.0.2.0/24")
)

// wire is a veth pair with a packet socket at the peer's end.
type wire struct {
	t              testing.TB
	l              *lab.Lab
	peer, host     *lab.Host
	ifname         string
	ifindex        int // on host
	raw            int // packet socket on peer
	peerMAC, myMAC []byte
}

func newLab(t testing.TB) (*lab.Lab, *lab.Host) {
	t.Helper()
	l := labtest.New(t, "xsk-"+strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())))
	host, err := l.Host("host")
	if err != nil {
		t.Fatal(err)
	}
	return l, host
}

func newWire(t testing.TB, l *lab.Lab, host *lab.Host, ifname string, c lab.LinkConfig) *wire {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	peer, err := l.Host("peer" + ifname)
	must(err)
	c.NameA, c.NameB = "eth0", ifname
	must(l.Link(peer, host, c))
	w := &wire{t: t, l: l, peer: peer, host: host, ifname: ifname, raw: -1}
	w.ifindex, err = host.Ifindex(ifname)
	must(err)
	mac, err := host.MAC(ifname)
	must(err)
	w.myMAC = mac
	mac, err = peer.MAC("eth0")
	must(err)
	w.peerMAC = mac
	pi, err := peer.Ifindex("eth0")
	must(err)
	must(peer.Do(func() error {
		var err error
		if w.raw, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		unix.SetsockoptInt(w.raw, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		unix.SetsockoptTimeval(w.raw, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
		// Only frames that come in, and none of the kernel's own chatter.
		unix.SetsockoptInt(w.raw, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		return unix.Bind(w.raw, &unix.SockaddrLinklayer{Ifindex: pi, Protocol: 0x0300})
	}))
	t.Cleanup(func() { unix.Close(w.raw) })
	return w
}

// frame6 is a UDP datagram to an address in the pool, with a sequence number at
// its end; flow varies the ports, and so the queue.
func (w *wire) frame6(size int, flow uint16, seq uint64) []byte {
	f := make([]byte, max(size, 14+40+8+8))
	copy(f, w.myMAC)
	copy(f[6:], w.peerMAC)
	binary.BigEndian.PutUint16(f[12:], 0x86dd)
	ip := f[14:]
	ip[0], ip[6], ip[7] = 0x60, unix.IPPROTO_UDP, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
	src := netip.MustParseAddr("2001:db8::2").As16()
	dst := netip.MustParseAddr("64:ff9b::c633:6402").As16()
	copy(ip[8:], src[:])
	copy(ip[24:], dst[:])
	binary.BigEndian.PutUint16(ip[40:], 1024+flow)
	binary.BigEndian.PutUint16(ip[42:], 9)
	binary.BigEndian.PutUint16(ip[44:], uint16(len(ip)-40))
	binary.BigEndian.PutUint64(f[len(f)-8:], seq)
	return f
}

func (w *wire) send(f []byte) {
	w.t.Helper()
	for {
		err := unix.Sendto(w.raw, f, 0, nil)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			w.t.Fatalf("peer of %s: send: %v", w.ifname, err)
		}
	}
}

// receive returns the next frame from the other end, or nil after the socket's
// receive timeout.
func (w *wire) receive(buf []byte) []byte {
	w.t.Helper()
	for {
		n, _, err := unix.Recvfrom(w.raw, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			w.t.Fatalf("peer of %s: receive: %v", w.ifname, err)
		}
		return buf[:n]
	}
}

// receiveUDP skips what isn't one of our datagrams.
func (w *wire) receiveUDP(buf []byte) []byte {
	w.t.Helper()
	for {
		f := w.receive(buf)
		if f == nil || len(f) >= 70 && f[12] == 0x86 && f[20] == unix.IPPROTO_UDP {
			return f
		}
	}
}

func seqOf(f []byte) uint64 { return binary.BigEndian.Uint64(f[len(f)-8:]) }

func (w *wire) tables() *Tables {
	w.t.Helper()
	t, err := NewTables()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { t.Close() })
	if err := t.Update([]netip.Prefix{testPool6}, []netip.Prefix{testMapped}); err != nil {
		w.t.Fatal(err)
	}
	return t
}

func (w *wire) program(t *Tables, a Attach) *Program {
	w.t.Helper()
	var p *Program
	if err := w.host.Do(func() (err error) {
		p, err = AttachProgram(t, ProgramConfig{Ifindex: w.ifindex, Attach: a})
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close() })
	return p
}

func newUMEM(t testing.TB, chunks int) *UMEM {
	t.Helper()
	u, err := NewUMEM(UMEMConfig{Chunks: chunks, ChunkSize: Chunk2K})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if u.mem != nil {
			if err := u.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return u
}

func (w *wire) tryOpen(u *UMEM, c SocketConfig) (s *Socket, err error) {
	c.Ifindex = w.ifindex
	for _, r := range []*uint32{&c.Rx, &c.Tx} {
		if *r == 0 {
			*r = 512
		}
	}
	for _, r := range []*uint32{&c.Fill, &c.Completion} {
		if *r == 0 {
			*r = 1024
		}
	}
	err = w.host.Do(func() error {
		s, err = Open(u, c)
		return err
	})
	return s, err
}

func (w *wire) open(u *UMEM, c SocketConfig) *Socket {
	w.t.Helper()
	s, err := w.tryOpen(u, c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if s.fd >= 0 {
			s.Close()
		}
	})
	return s
}

// audited fails unless every chunk is accounted for, with none held or on the way.
func audited(t testing.TB, u *UMEM) Audit {
	t.Helper()
	a, err := u.Audit()
	if err != nil {
		t.Fatalf("audit: %v\n%+v", err, a)
	}
	if sum := a.Free + a.Fill + a.Rx + a.Tx + a.Completion; sum != a.Chunks || a.Held != 0 || a.Kernel != 0 || a.Misuse != 0 {
		t.Fatalf("audit: %d of %d chunks accounted for: %+v", sum, a.Chunks, a)
	}
	return a
}

// wait polls until the socket has something or a millisecond has passed.
func wait(s *Socket) {
	unix.Poll([]unix.PollFd{{Fd: int32(s.FD()), Events: unix.POLLIN}}, 1)
}

func swapMACs(f []byte) {
	var m [6]byte
	copy(m[:], f)
	copy(f[:6], f[6:12])
	copy(f[6:], m[:])
}

// forward moves frames from one socket to another (or itself) until stop is
// closed, then lets the tx ring run empty.
func forward(u *UMEM, from, to *Socket, stop <-chan struct{}) error {
	var d [64]Desc
	for idle := 0; ; {
		from.Service()
		if to != from {
			to.Service()
		}
		n := from.Recv(d[:])
		for _, f := range d[:n] {
			swapMACs(u.Frame(f))
		}
		for sent := 0; sent < n; {
			sent += to.Send(d[sent:n])
			if err := to.Flush(); err != nil {
				return err
			}
			to.Service()
		}
		if n > 0 {
			idle = 0
			continue
		}
		if err := to.Flush(); err != nil {
			return err
		}
		select {
		case <-stop:
			if idle++; idle > 20 && to.Pending() == 0 {
				from.Service()
				to.Service()
				return nil
			}
		default:
		}
		wait(from)
	}
}

// pump sends n numbered frames from w and expects all of them at to, in order,
// with at most window on the way.
func pump(w, to *wire, n, window, size int, flow func(i int) uint16) error {
	buf := make([]byte, 4096)
	next := 0
	for i := 0; i < n || next < n; {
		if i < n && i-next < window {
			w.send(w.frame6(size, flow(i), uint64(i)))
			i++
			continue
		}
		f := to.receiveUDP(buf)
		if f == nil {
			return fmt.Errorf("frame %d of %d didn't come back (%d sent)", next, n, i)
		}
		if got := seqOf(f); got != uint64(next) {
			return fmt.Errorf("got frame %d, want %d", got, next)
		}
		next++
	}
	return nil
}

func oneFlow(int) uint16 { return 0 }

func TestMain(m *testing.M) {
	if child := os.Getenv("XSK_TEST_CHILD"); child != "" {
		fmt.Println(runChild(child))
		time.Sleep(time.Minute) // to be killed
		os.Exit(1)
	}
	os.Exit(m.Run())
}
