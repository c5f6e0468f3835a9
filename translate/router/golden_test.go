package router

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/internal/golden"
	"aarch64.com/isthmus/xsk/tun"
)

// goldenPaths are the ways of TestGolden: paths, and the TUN device with the fast
// path. lab is what the golden packets call them.
var goldenPaths = []struct {
	name, lab  string
	wire, fast bool
}{{"wire", "wire", true, false}, {"kernel", "kernel", false, false}, {"fast", "kernel", false, true}}

// TestGolden puts package translate's golden packets through a router: by its
// AF_XDP ports, and by its TUN device, without and with the fast path. Select with
// -run TestGolden/PATH/MTUS/RFC/SECTION/NAME.
//
//	left eth0 ---- vm0 hypervisor wan0 ---- eth0 right
//	(IPv6)              isthmus0               (IPv4)
//
// On the wire path a packet is a frame that left or right sends, on the kernel
// path one that the kernel sends to isthmus0. What comes out is caught at all
// three places and compared byte for byte, and one verdict's counter must have
// moved, by one. The hypervisor itself forwards nothing, so that all packets are
// as the translator left them.
func TestGolden(t *testing.T) {
	cases, err := golden.Load("../testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Need(t)
	if testing.Short() { // the translator's own tests run them all
		var few []golden.Case
		for i := 0; i < len(cases); i += 5 {
			few = append(few, cases[i])
		}
		cases = few
	}
	for _, path := range goldenPaths {
		t.Run(path.name, func(t *testing.T) {
			if path.fast {
				labtest.NeedFastPath(t)
			}
			ran, left := 0, 0
			var fast uint64
			for _, group := range byMTU(cases) {
				var here []golden.Case
				for _, c := range group {
					if c.Lab == "" || strings.HasPrefix(c.Lab, path.lab+",") {
						here = append(here, c)
					} else {
						left++
					}
				}
				if len(here) == 0 {
					continue
				}
				t.Run(fmt.Sprintf("%d_%d", here[0].MTU6, here[0].MTU4), func(t *testing.T) {
					var bed *goldenBed // made for the first case that is selected
					golden.Run(t, here, func(st *testing.T, c *golden.Case) {
						if bed == nil {
							bed = newGoldenBed(t, c, path.wire, path.fast)
						}
						bed.run(st, c)
						ran++
					})
					if bed != nil {
						s := bed.router.Stats()
						fast += s.FastPath.Packets()[0] + s.FastPath.Packets()[1]
					}
				})
			}
			t.Logf("%d cases ran, %d of them in BPF; %d can't be put on this path", ran, fast, left)
			if path.fast && ran > 100 && fast == 0 {
				t.Error("the fast path has translated nothing")
			}
		})
	}
}

// byMTU sorts cases into groups that one router can serve.
func byMTU(cases []golden.Case) [][]golden.Case {
	var groups [][]golden.Case
	index := map[[2]int]int{}
	for _, c := range cases {
		key := [2]int{c.MTU6, c.MTU4}
		i, ok := index[key]
		if !ok {
			i = len(groups)
			index[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], c)
	}
	return groups
}

// goldenBed is a lab with a running router.
type goldenBed struct {
	wire   bool
	router *Router
	config translate.Config // that the router has
	taps   []*tap           // left, right, isthmus0
	left   *tap
	right  *tap
	tun    *tap
}

const (
	goldenAddr6, goldenPeer6 = "2001:db8:ffff::1", "2001:db8:ffff::2" // the hypervisor, left
	goldenAddr4, goldenPeer4 = "203.0.113.1", "203.0.113.2"           // the hypervisor, right
)

func newGoldenBed(t *testing.T, c *golden.Case, wire, fast bool) *goldenBed {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	l := labtest.New(t, "golden")
	left, hypervisor, right := labtest.Host(t, l, "left"), labtest.Host(t, l, "hypervisor"), labtest.Host(t, l, "right")
	// Nobody but the test and the router shall say anything.
	for _, h := range []*lab.Host{left, right} {
		must(h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"))
	}
	must(hypervisor.Sysctl("net.ipv6.conf.default.addr_gen_mode", "1"))
	must(hypervisor.Sysctl("net.ipv6.conf.all.forwarding", "0"))
	must(l.Link(hypervisor, left, lab.LinkConfig{NameA: "vm0", MTU: c.MTU6}))
	must(l.Link(hypervisor, right, lab.LinkConfig{NameA: "wan0", MTU: c.MTU4}))
	bed := &goldenBed{wire: wire}
	for _, side := range []struct {
		peer                      *lab.Host
		port, addr, gateway, dest string
		tap                       **tap
	}{
		{left, "vm0", goldenAddr6 + "/64", goldenPeer6, "default6", &bed.left},
		{right, "wan0", goldenAddr4 + "/24", goldenPeer4, "default4", &bed.right},
	} {
		mac, err := side.peer.MAC("eth0")
		must(err)
		port, err := hypervisor.MAC(side.port)
		must(err)
		must(hypervisor.Addr(side.port, side.addr))
		must(hypervisor.Neighbour(side.port, side.gateway, mac.String()))
		must(hypervisor.Route(side.dest, side.gateway, side.port))
		*side.tap = openTap(t, side.peer, "eth0", mac, port)
	}
	config := Config{
		Translate: c.Config, ErrorRate: 1 << 20, ErrorBurst: 1 << 20,
		Kernel: KernelConfig{Queues: 1},
		Log:    func(warn bool, m string) { t.Logf("warn=%v %s", warn, m) },
	}
	if wire {
		config.Ports = []PortConfig{{Interface: "vm0"}, {Interface: "wan0"}}
	}
	config.FastPath = fast
	must(hypervisor.Do(func() (err error) { bed.router, err = Open(config); return err }))
	if fast {
		// The program asks whether what it makes would be forwarded. So that
		// nothing is, all ends where the tap has seen it. A forwarding host
		// joins multicast groups, and reports it, if it can.
		must(hypervisor.Do(func() error { return multicastOff(DefaultKernelInterface) }))
		must(hypervisor.Do(func() error { return dropAll(t, DefaultKernelInterface) }))
		must(hypervisor.Sysctl("net.ipv4.ip_forward", "1"))
		must(hypervisor.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	}
	bed.config = c.Config
	bed.tun = openTap(t, hypervisor, DefaultKernelInterface, nil, nil)
	bed.taps = []*tap{bed.left, bed.right, bed.tun}

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- bed.router.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the router ended with %v", err)
		}
	})
	return bed
}

func multicastOff(ifname string) error {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return err
	}
	return netlink.LinkSetMulticastOff(link)
}

// dropAll drops what comes in by an interface, after packet sockets have had it.
func dropAll(t *testing.T, ifname string) error {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return err
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, int32(netlink.TC_ACT_SHOT)), asm.Return()},
	})
	if err != nil {
		return err
	}
	t.Cleanup(func() { prog.Close() })
	index := link.Attrs().Index
	err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if err != nil && !errors.Is(err, unix.EEXIST) { // where the fast path has no TCX
		return err
	}
	return netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_ALL, Handle: 1, Priority: 1,
		},
		Fd: prog.FD(), Name: "drop", DirectAction: true,
	})
}

// run puts one case's packet in and compares what comes out.
func (b *goldenBed) run(t *testing.T, c *golden.Case) {
	if !reflect.DeepEqual(c.Config, b.config) {
		if err := b.router.Update(c.Config); err != nil {
			t.Fatal(err)
		}
		b.config = c.Config
	}
	for _, tap := range b.taps {
		if p := tap.recv(t); p != nil {
			t.Errorf("left over from the case before: %x", p)
		}
	}
	stats := b.router.Stats()
	before := stats.Verdicts()
	_, reasons := totals(stats)
	from := b.tun
	if b.wire {
		from = map[bool]*tap{true: b.left, false: b.right}[c.In[0]>>4 == 6]
	}
	from.send(t, c)

	// A worker answers between two rounds, so once the verdict is counted, all
	// that comes of it is on its way.
	var moved []string
	for deadline := time.Now().Add(2 * time.Second); len(moved) == 0 && time.Now().Before(deadline); {
		stats := b.router.Stats()
		after := stats.Verdicts()
		for d := range after {
			for v := range after[d] {
				for range after[d][v] - before[d][v] {
					moved = append(moved, translate.Verdict(v).String())
				}
			}
		}
	}
	if len(moved) != 1 || moved[0] != c.Verdict {
		t.Errorf("%s: counters that moved: %v, want %s", c.Where(), moved, c.Verdict)
		_, now := totals(b.router.Stats())
		for r := range now {
			if now[r] != reasons[r] {
				t.Logf("%v: %d", Reason(r), now[r]-reasons[r])
			}
		}
	}
	var out [][]byte
	for len(out) < len(c.Out) {
		p := b.recv(t, time.Second)
		if p == nil {
			break
		}
		out = append(out, p)
	}
	for {
		p := b.recv(t, 0)
		if p == nil {
			break
		}
		out = append(out, p)
	}
	if err := c.Check(out); err != nil {
		t.Errorf("%s: %s: %v", c.Where(), c.Says, err)
	}
}

// recv takes the next packet from wherever it comes out.
func (b *goldenBed) recv(t *testing.T, wait time.Duration) []byte {
	fds := make([]unix.PollFd, len(b.taps))
	for i, tap := range b.taps {
		fds[i] = unix.PollFd{Fd: int32(tap.fd), Events: unix.POLLIN}
	}
	// Frames of no interest wake us too.
	for deadline := time.Now().Add(wait); ; {
		for _, tap := range b.taps {
			if p := tap.recv(t); p != nil {
				if tap == b.right && !b.wire {
					unstamp(p)
				}
				return p
			}
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		_, _ = unix.Poll(fds, int(left.Milliseconds())+1)
	}
}

// unstamp takes back the one thing that the kernel adds to our own ICMPv4 errors,
// which leave by a raw socket there: an identification in place of 0 (raw(7)).
func unstamp(p []byte) {
	if len(p) < 20 || p[0] != 0x45 {
		return
	}
	sum := uint32(^binary.BigEndian.Uint16(p[10:])) + uint32(^binary.BigEndian.Uint16(p[4:]))
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum))
	p[4], p[5] = 0, 0
}

// tap is a packet socket on one interface.
type tap struct {
	fd       int
	ifindex  int
	own, far net.HardwareAddr // nil: an interface without link layer, with virtio-net headers
	buf      []byte
}

func htons(x uint16) uint16 { return x<<8 | x>>8 }

func openTap(t *testing.T, h *lab.Host, ifname string, own, far net.HardwareAddr) *tap {
	t.Helper()
	s := &tap{own: own, far: far, buf: make([]byte, 1<<17)}
	err := h.Do(func() (err error) {
		ifc, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		s.ifindex = ifc.Index
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		if own == nil {
			if err := unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
				return err
			}
		}
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: s.ifindex})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// send puts the case's packet on the interface.
func (s *tap) send(t *testing.T, c *golden.Case) {
	t.Helper()
	typ := uint16(etherIPv4)
	if c.In[0]>>4 == 6 {
		typ = etherIPv6
	}
	var frame []byte
	if s.own == nil {
		frame = append(virtio(c), c.In...)
	} else {
		frame = append(append(append(frame, s.far...), s.own...), byte(typ>>8), byte(typ))
		frame = append(frame, c.In...)
	}
	if err := unix.Sendto(s.fd, frame, 0, &unix.SockaddrLinklayer{Protocol: htons(typ), Ifindex: s.ifindex}); err != nil {
		t.Fatalf("send %d bytes: %v", len(frame), err)
	}
}

// virtio is the virtio-net header that says what the case's Meta does; such
// packets have no extension headers.
func virtio(c *golden.Case) []byte {
	b := make([]byte, tun.HeaderLen)
	if !c.Meta.PartialChecksum {
		return b
	}
	start, proto, kind := 20, c.In[9], byte(tun.SegmentTCPv4)
	if c.In[0]>>4 == 6 {
		start, proto, kind = 40, c.In[6], tun.SegmentTCPv6
	}
	head, offset := 20, 16
	if proto == unix.IPPROTO_UDP {
		head, offset, kind = 8, 6, tun.SegmentUDPL4
	}
	b[0] = tun.FlagNeedsChecksum
	if c.Meta.SegmentSize > 0 {
		b[1] = kind
		binary.LittleEndian.PutUint16(b[2:], uint16(start+head))
		binary.LittleEndian.PutUint16(b[4:], c.Meta.SegmentSize)
	}
	binary.LittleEndian.PutUint16(b[6:], uint16(start))
	binary.LittleEndian.PutUint16(b[8:], uint16(offset))
	return b
}

// recv gives the next IP packet that came in, nil if there is none.
func (s *tap) recv(t *testing.T) []byte {
	t.Helper()
	for {
		n, from, err := unix.Recvfrom(s.fd, s.buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Pkttype != unix.PACKET_HOST {
			continue // our own, or multicast
		}
		head := etherHeaderLen
		if s.own == nil {
			head = tun.HeaderLen
		}
		if n > head {
			return append([]byte{}, s.buf[head:n]...)
		}
	}
}
