package equivalence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/xsk/tun"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// bed is a host whose kernel routes between three devices, all of them ours:
//
//	in0 ──▶ routing ──▶ isthmus0 (program) ──▶ routing ──▶ out0
//	                        └── falls through: read here
//
// A virtio-net header goes in and comes out with each packet, so that
// superpackets and partial checksums are as a virtual machine makes them.
type bed struct {
	*pair
	in, dev, out *tun.Device
	buf          []byte
}

// outMTU is that of out0, which the program has to ask the routing table for.
const outMTU = 1500

func newBed(t *testing.T, filter bool) *bed {
	t.Helper()
	h := labtest.Host(t, labtest.New(t, "equivalence"), "host")
	b := &bed{buf: make([]byte, 70000)}
	err := errors.Join(h.Sysctl("net.ipv4.ip_forward", "1"), h.Sysctl("net.ipv6.conf.all.forwarding", "1"),
		h.Sysctl("net.ipv4.conf.all.rp_filter", "0"), h.Sysctl("net.ipv4.conf.default.rp_filter", "0"))
	for _, d := range []struct {
		dev  **tun.Device
		name string
		mtu  int
	}{{&b.in, "in0", 0}, {&b.dev, "isthmus0", 0}, {&b.out, "out0", outMTU}} {
		err = errors.Join(err, h.Do(func() (err error) {
			*d.dev, err = tun.Open(tun.Config{Name: d.name, Queues: 1, Offload: true, MTU: d.mtu})
			return err
		}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*d.dev).Close() })
	}
	err = errors.Join(h.Route("64:ff9b::/96", "", "isthmus0"), h.Route("default4", "", "out0"), h.Route("2001:db8:a::/48", "", "out0"))
	for _, e := range hosts {
		err = errors.Join(err, h.Route(e.IPv4.String(), "", "isthmus0"))
	}
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is safe: the routing table is asked about everything that is
	// larger than all links take.
	b.pair = newPair(t, translate.Config{Pool6: prefixes("64:ff9b::/96"), EAM: hosts}, 0, 0)
	attach(t, h, b.prog, b.dev.Ifindex())
	return b
}

func attach(t *testing.T, h *lab.Host, p *fastpath.Program, ifindex int) {
	t.Helper()
	if err := h.Do(func() error { return p.Attach(ifindex) }); err != nil {
		t.Fatal(err)
	}
}

// pass sends a packet in and gives what comes out, and whether user space has to
// do it.
func (b *bed) pass(p []byte, h *tun.Header) (out []byte, hdr tun.Header, fell bool, err error) {
	const start = 64
	copy(b.buf[start:], p)
	if err := b.in.Queue(0).Write(b.buf, start, len(p), h); err != nil {
		return nil, hdr, false, err
	}
	fds := []unix.PollFd{{Fd: int32(b.dev.Queue(0).FD()), Events: unix.POLLIN}, {Fd: int32(b.out.Queue(0).FD()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 5000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return nil, hdr, false, fmt.Errorf("nothing came out (%v)", err)
		}
		q := b.out.Queue(0)
		if fell = fds[0].Revents != 0; fell {
			q = b.dev.Queue(0)
		}
		n, got, err := q.Read(b.buf, start)
		if err != nil {
			return nil, hdr, fell, err
		}
		// The kernel has messages of its own about new interfaces.
		out := b.buf[start : start+n]
		if n > len(p)+20 || n+20 < len(p) || !bytes.Equal(out[n-4:], p[len(p)-4:]) {
			continue
		}
		return bytes.Clone(out), *got, fell, nil
	}
}

// hop is what the kernel's forwarding does to a packet.
func hop(p []byte) {
	if p[0]>>4 == 6 {
		p[7]--
		return
	}
	p[8]--
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^translate.Sum(p[:20]))
}

// expected is what translate makes of a packet with a virtio-net header, between
// two hops of the kernel's, if it routes the packet before and after.
func (b *pair) expected(p []byte, h tun.Header, routed bool) (translate.Verdict, []byte, tun.Header) {
	const start = translate.Headroom
	buf := append(make([]byte, start, start+len(p)), p...)
	if routed {
		hop(buf[start:])
	}
	var pl translate.Plan
	v := b.tr.Decide(&pl, buf[start:], translate.Meta{
		PartialChecksum: h.Flags&tun.FlagNeedsChecksum != 0, SegmentSize: h.SegmentSize,
	})
	if v.Action() == translate.Emit {
		v = b.tr.Fit(&pl, 0, outMTU)
	}
	if v.Action() != translate.Emit {
		return v, nil, h
	}
	at, n := b.tr.Rewrite(&pl, b.state, buf, start)
	if routed {
		hop(buf[at:])
	}
	grown := uint16(pl.OutLen - pl.Len)
	h.ChecksumStart += grown
	if ecn := h.SegmentType & tun.SegmentECN; h.SegmentType&^ecn == tun.SegmentTCPv6 {
		h.SegmentType = tun.SegmentTCPv4 | ecn
	} else if h.SegmentType&^ecn == tun.SegmentTCPv4 {
		h.SegmentType = tun.SegmentTCPv6 | ecn
	}
	return v, buf[at : at+n], h
}

// far4virtual are the addresses that virtual machines talk to.
var far4virtual = []string{"8.8.8.8", "1.0.0.1", "223.255.255.254"}

// virtual makes a packet as a virtual machine gives it: TCP or UDP with a partial
// checksum, often a superpacket.
func (r *maker) virtual() ([]byte, tun.Header) {
	six, udp := r.chance(50), r.chance(40)
	head := tun.Header{Flags: tun.FlagNeedsChecksum, ChecksumStart: 20, ChecksumOffset: 16}
	proto, least := byte(6), 20+4*r.IntN(4)
	if udp {
		proto, least, head.ChecksumOffset = 17, 8, 6
	}
	payload := 4 + r.IntN(1400)
	if r.chance(60) { // a superpacket
		head.SegmentSize = pick[uint16](r, 100, 536, 1180, 1208, 1220, 1228, 1240, 1400, 1420, 1428, 1440, 1448, 1452, 1460, 1472, 1480) + uint16(r.IntN(3))
		segments := 2 + r.IntN(4)
		payload = min(int(head.SegmentSize)*segments+r.IntN(int(head.SegmentSize)), 65000)
		head.SegmentType = tun.SegmentTCPv4
		if six {
			head.SegmentType = tun.SegmentTCPv6
		}
		if udp {
			head.SegmentType = tun.SegmentUDPL4
		} else if r.chance(20) {
			head.SegmentType |= tun.SegmentECN
		}
	}
	body := make([]byte, least+payload)
	for i := range body {
		body[i] = byte(r.Uint32())
	}
	if udp {
		binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	} else {
		body[12], body[13] = byte(least/4)<<4, 0x10
		if head.SegmentType&tun.SegmentECN != 0 {
			body[13] |= 0x80
		}
	}
	vm, far := hosts[r.IntN(len(hosts))], netip.MustParseAddr(pick(r, far4virtual...))
	var p []byte
	if six {
		head.ChecksumStart = 40
		dst := netip.MustParseAddr("64:ff9b::").As16()
		copy(dst[12:], far.AsSlice())
		p = binary.BigEndian.AppendUint32(nil, 6<<28|r.Uint32()>>4)
		p = append(binary.BigEndian.AppendUint16(p, uint16(len(body))), proto, 64)
		p = append(append(p, vm.IPv6.Addr().AsSlice()...), dst[:]...)
	} else {
		p = append([]byte{0x45, byte(r.Uint32()) &^ 3}, 0, 0, byte(r.Uint32()), byte(r.Uint32()), pick[byte](r, 0, 0x40), 0, 64, proto, 0, 0)
		binary.BigEndian.PutUint16(p[2:], uint16(20+len(body)))
		p = append(append(p, far.AsSlice()...), vm.IPv4.Addr().AsSlice()...)
		binary.BigEndian.PutUint16(p[10:], ^translate.Sum(p))
	}
	if head.SegmentType != tun.SegmentNone {
		head.HeaderLen = head.ChecksumStart + uint16(least)
	}
	// The pseudo-header's sum, for hardware to go on with.
	pseudo := append(bytes.Clone(p[len(p)-8:]), 0, proto)
	if six {
		pseudo = append(bytes.Clone(p[8:]), 0, proto)
	}
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(body)))
	binary.BigEndian.PutUint16(body[head.ChecksumOffset:], translate.Sum(pseudo))
	return append(p, body...), head
}

// TestVirtualMachinesPackets: superpackets and partial checksums, through a real
// device, are what translate makes of them, or are left to user space.
func TestVirtualMachinesPackets(t *testing.T) {
	t.Run("device", func(t *testing.T) {
		b := newBed(t, false)
		if tcp, udp := b.dev.Offload(); !tcp || !udp {
			t.Skip("this kernel has no superpackets for TUN devices")
		}
		virtualMachines(t, b.pair, true, b.pass)
	})
	t.Run("interface", func(t *testing.T) {
		w := newWire(t)
		virtualMachines(t, w.pair, false, w.pass)
	})
}

// pass sends a packet in and gives what comes out, or that it fell through.
type pass func(p []byte, h *tun.Header) (out []byte, hdr tun.Header, fell bool, err error)

func virtualMachines(t *testing.T, pr *pair, routed bool, pass pass) {
	n := 4000
	if testing.Short() {
		n = 400
	}
	forwarded := map[uint8]int{}
	for seed := range n {
		p, h := (&maker{rand.New(rand.NewPCG(uint64(seed), 768)), pr}).virtual()
		got, hdr, fell, err := pass(p, &h)
		if err != nil {
			t.Fatalf("seed %d: %v\n%+v\n%x", seed, err, h, p[:min(60, len(p))])
		}
		v, want, wantHdr := pr.expected(p, h, routed)
		if fell {
			if want != nil {
				c, _ := pr.prog.Counters()
				t.Fatalf("seed %d: translate says %v, and it is plain, but it fell through: %+v\n%+v\n%x", seed, v, c, h, p[:min(60, len(p))])
			}
			continue
		}
		if want == nil {
			t.Fatalf("seed %d: translate says %v, the program forwards\n%+v\n%x", seed, v, h, p[:min(60, len(p))])
		}
		hdr.HeaderLen = wantHdr.HeaderLen // a hint, which the kernel gives otherwise
		a, err := masked(got)
		if err != nil {
			t.Fatalf("seed %d: %v\n%+v\n%x", seed, err, h, got[:min(60, len(got))])
		}
		if w, _ := masked(want); !bytes.Equal(a, w) || hdr != wantHdr {
			t.Fatalf("seed %d:\nin   %+v\n     %x\nwant %+v\n     %x\ngot  %+v\n     %x", seed, h, p[:min(60, len(p))], wantHdr, w[:min(60, len(w))], hdr, a[:min(60, len(a))])
		}
		forwarded[h.SegmentType&^tun.SegmentECN]++
	}
	t.Logf("forwarded by segment type: %v", forwarded)
	for _, typ := range []uint8{tun.SegmentNone, tun.SegmentTCPv4, tun.SegmentTCPv6, tun.SegmentUDPL4} {
		if forwarded[typ] == 0 {
			t.Errorf("none of type %d forwarded", typ)
		}
	}
}
