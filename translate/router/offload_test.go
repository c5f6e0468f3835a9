package router

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labtest"
	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/xsk/tun"
)

// super makes a superpacket as the kernel hands it over: n bytes of payload in
// segments of size, the checksum partial.
func super(v6, udp bool, n, size int) ([]byte, tun.Header) {
	l4 := make([]byte, 20+n)
	proto, field := byte(unix.IPPROTO_TCP), tcpChecksum
	h := tun.Header{Flags: tun.FlagNeedsChecksum, SegmentSize: uint16(size)}
	switch {
	case udp:
		l4, proto, field = l4[12:], unix.IPPROTO_UDP, udpChecksum
		binary.BigEndian.PutUint16(l4[udpLength:], uint16(len(l4)))
		h.SegmentType = tun.SegmentUDPL4
	case v6:
		h.SegmentType = tun.SegmentTCPv6 | tun.SegmentECN
	default:
		h.SegmentType = tun.SegmentTCPv4 | tun.SegmentECN
	}
	copy(l4, []byte{0x30, 0x39, 0, 80})
	if !udp {
		binary.BigEndian.PutUint32(l4[tcpSequence:], 0xfffffff0) // wraps
		l4[tcpOffset], l4[tcpFlags] = 5<<4, 0x10|tcpFIN|tcpPSH|tcpCWR
	}
	payload := l4[len(l4)-n:]
	for i := range payload {
		payload[i] = byte(i * 31)
	}
	var ip []byte
	if v6 {
		ip = make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)))
		copy(ip[8:], netip.MustParseAddr("2001:db8::2").AsSlice())
		copy(ip[24:], netip.MustParseAddr("64:ff9b::c633:6402").AsSlice())
	} else {
		ip = make([]byte, 20)
		ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(l4)))
		binary.BigEndian.PutUint16(ip[4:], 0xfffe)
		copy(ip[12:], []byte{192, 0, 2, 2, 198, 51, 100, 2})
		binary.BigEndian.PutUint16(ip[10:], ^translate.Sum(ip))
	}
	h.ChecksumStart, h.ChecksumOffset = uint16(len(ip)), uint16(field)
	binary.BigEndian.PutUint16(l4[field:], translate.Sum(pseudo(ip, len(l4))))
	return append(ip, l4...), h
}

func pseudo(ip []byte, n int) []byte {
	if ip[0]>>4 == 6 {
		return append(bytes.Clone(ip[8:40]), 0, 0, byte(n>>8), byte(n), 0, 0, 0, ip[6])
	}
	return append(bytes.Clone(ip[12:20]), 0, ip[9], byte(n>>8), byte(n))
}

func TestSegments(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			for _, c := range []struct{ n, size int }{{1, 1000}, {1000, 1000}, {1001, 1000}, {3999, 1000}, {60001, 1440}} {
				t.Run(fmt.Sprintf("v6=%v/udp=%v/%d_in_%d", v6, udp, c.n, c.size), func(t *testing.T) {
					whole, h := super(v6, udp, c.n, c.size)
					s, ok := newSegments(whole, &h)
					if !ok {
						t.Fatal("refused")
					}
					ipLen, head := int(h.ChecksumStart), s.head
					var payload []byte
					count := (c.n + c.size - 1) / c.size
					for i := range count {
						dst := bytes.Repeat([]byte{0xaa}, 2000)
						n, more := s.next(dst)
						if more != (i < count-1) || n > s.bytes() && i < count-1 {
							t.Fatalf("segment %d of %d: %d bytes, more %v", i, count, n, more)
						}
						p := dst[:n]
						l4 := p[ipLen:]
						if sum := translate.Sum(append(pseudo(p, len(l4)), l4...)); len(l4)%2 == 0 && sum != 0xffff {
							t.Errorf("segment %d: transport sum %#x", i, sum)
						}
						if !v6 && (translate.Sum(p[:20]) != 0xffff || int(binary.BigEndian.Uint16(p[2:])) != n ||
							binary.BigEndian.Uint16(p[4:]) != uint16(0xfffe+i)) {
							t.Errorf("segment %d: header % x", i, p[:20])
						}
						if v6 && int(binary.BigEndian.Uint16(p[4:])) != n-40 {
							t.Errorf("segment %d: header % x", i, p[:40])
						}
						if udp && int(binary.BigEndian.Uint16(l4[udpLength:])) != len(l4) {
							t.Errorf("segment %d: UDP length %d", i, binary.BigEndian.Uint16(l4[udpLength:]))
						}
						if !udp {
							if seq := binary.BigEndian.Uint32(l4[tcpSequence:]); seq != 0xfffffff0+uint32(i*c.size) {
								t.Errorf("segment %d: sequence %#x", i, seq)
							}
							want := byte(0x10)
							if i == 0 {
								want |= tcpCWR
							}
							if !more {
								want |= tcpFIN | tcpPSH
							}
							if l4[tcpFlags] != want {
								t.Errorf("segment %d: flags %#x, want %#x", i, l4[tcpFlags], want)
							}
						}
						payload = append(payload, p[head:]...)
					}
					if !bytes.Equal(payload, whole[head:]) {
						t.Error("the payload has changed")
					}
				})
			}
		}
	}
}

func FuzzSegments(f *testing.F) {
	p, h := super(true, false, 100, 10)
	f.Add(p, h.Flags, h.SegmentType, h.SegmentSize, h.ChecksumStart)
	p, h = super(false, true, 100, 10)
	f.Add(p, h.Flags, h.SegmentType, h.SegmentSize, h.ChecksumStart)
	f.Fuzz(func(t *testing.T, p []byte, flags, typ uint8, size, start uint16) {
		h := tun.Header{Flags: flags, SegmentType: typ, SegmentSize: size, ChecksumStart: start}
		s, ok := newSegments(p, &h)
		if !ok || len(p) > 2000 {
			return
		}
		total := 0
		for more := true; more; {
			var n int
			n, more = s.next(make([]byte, len(p)))
			total += n - s.head
		}
		if total != len(p)-s.head {
			t.Errorf("%d of %d bytes of payload", total, len(p)-s.head)
		}
	})
}

// TestSuperpacketsByPort has a VM behind the kernel and the Internet behind an
// AF_XDP port: what the kernel hands over whole leaves in segments.
func TestSuperpacketsByPort(t *testing.T) {
	topology, err := labtest.New(t, "router").Build(lab.TopologyConfig{VMs: 2, ChecksumOffload: true, GRO: true})
	if err != nil {
		t.Fatal(err)
	}
	n := &testbed{Topology: topology}
	n.config = Config{Translate: translation(topology), Log: func(warn bool, m string) { t.Logf("warn=%v %s", warn, m) },
		Ports: []PortConfig{{Interface: lab.WANPort, CompleteChecksums: true}}}
	// A veth delivers to XDP what its peer left unfinished; a network card would not.
	if err := topology.Router.Offload("eth0", false, false); err != nil {
		t.Fatal(err)
	}
	if err := topology.Hypervisor.Do(func() (err error) { n.router, err = Open(n.config); return err }); err != nil {
		t.Fatal(err)
	}
	n.run(t)
	echo(t, n.Server, "4", ":7")
	if err := transfer(n.VMs[0].Host, to4(lab.ServerAddr4), 8<<20); err != nil {
		t.Error(err)
	}
	verdicts, reasons := totals(n.router.Stats())
	if reasons[SegmentSent] < 1000 {
		t.Errorf("only %d segments were cut for 8 MB", reasons[SegmentSent])
	}
	t.Logf("%d packets forwarded to IPv4, %d segments sent", verdicts[0][translate.Forward], reasons[SegmentSent])
}

// TestUnfinishedChecksums sends what no other test does over the kernel path:
// datagrams with DF clear, which are split (RFC 7915 section 4), and UDP
// superpackets, both with their checksums left to the hardware.
func TestUnfinishedChecksums(t *testing.T) {
	n := build(t, false, lab.TopologyConfig{ChecksumOffload: true, GRO: true})
	n.run(t)
	vm := n.VMs[0]
	echo(t, vm.Host, "6", ":7")
	echo(t, n.Server, "4", ":7")
	if err := datagram(n.Server, vm.Addr4.String()+":7", 100); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		from  *lab.Host
		to    string
		size  int
		level int
		opt   int
		value int
		reads []int // sizes of the datagrams that come back
	}{
		{"split", n.Server, vm.Addr4.String() + ":7", 1400, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT, []int{1400}},
		{"superpacket to IPv4", vm.Host, to4(lab.ServerAddr4), 3500, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1200, []int{1200, 1200, 1100}},
		{"superpacket to IPv6", n.Server, vm.Addr4.String() + ":7", 3500, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000, []int{1000, 1000, 1000, 500}},
		{"superpacket to IPv6, segments split", n.Server, vm.Addr4.String() + ":7", 2600, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1300, []int{1300, 1300}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := c.from.Dial(t.Context(), "udp", c.to)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			raw, err := conn.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			set := func(level, opt, value int) {
				t.Helper()
				var err error
				if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, opt, value) }); e != nil || err != nil {
					t.Fatal(e, err)
				}
			}
			set(c.level, c.opt, c.value)
			if c.opt == unix.UDP_SEGMENT && c.from == n.Server {
				set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
			}
			out := make([]byte, c.size)
			for i := range out {
				out[i] = byte(i * 7)
			}
			if _, err := conn.Write(out); err != nil {
				t.Fatal(err)
			}
			var back []byte
			for _, size := range c.reads {
				b := make([]byte, 4000)
				conn.SetReadDeadline(time.Now().Add(3 * time.Second))
				got, err := conn.Read(b)
				if err != nil || got != size {
					t.Fatalf("%d bytes came back, want %d: %v", got, size, err)
				}
				back = append(back, b[:got]...)
			}
			if !bytes.Equal(back, out) {
				t.Error("the payload has changed")
			}
		})
	}
	for name, c := range map[string]struct {
		from *lab.Host
		to   string
	}{"VM to server": {vm.Host, to4(lab.ServerAddr4)}, "server to VM": {n.Server, vm.Addr4.String() + ":7"}} {
		if err := transfer(c.from, c.to, 16<<20); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
