package xsk

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/perf/lab/labtest"
)

// What XDP programs return, as in linux/bpf.h.
const (
	xdpPass     = 2
	xdpRedirect = 4
)

// Outcomes as in steer.c.
const (
	redirected = iota
	noSocket
	other
	group
	nd
	malformed
	otherHost
	oversize
)

// steerRoom is the largest frame that the programs under test take.
const steerRoom = Chunk2K - RxHeadroom

var outcomeNames = []string{"redirected", "no_socket", "other", "group", "nd", "malformed", "other_host", "oversize"}

// steerTwin is steer.c in Go, with linear search in place of tries.
func steerTwin(f []byte, pool6, mapped4 []netip.Prefix, socket bool) int {
	if len(f) < 14 {
		return malformed
	}
	if f[0]&1 != 0 {
		return group
	}
	if string(f[:6]) != string(unicast) {
		return otherHost
	}
	typ, p := binary.BigEndian.Uint16(f[12:]), f[14:]
	for range 2 {
		if typ != 0x8100 && typ != 0x88a8 {
			break
		}
		if len(p) < 4 {
			return malformed
		}
		typ, p = binary.BigEndian.Uint16(p[2:]), p[4:]
	}
	var dst netip.Addr
	prefixes := mapped4
	switch typ {
	case 0x86dd:
		if len(p) < 40 || p[0]>>4 != 6 {
			return malformed
		}
		dst, prefixes = netip.AddrFrom16([16]byte(p[24:40])), pool6
	case 0x0800:
		if len(p) < 20 || p[0]>>4 != 4 {
			return malformed
		}
		dst = netip.AddrFrom4([4]byte(p[16:20]))
	default:
		return other
	}
	if !slices.ContainsFunc(prefixes, func(x netip.Prefix) bool { return x.Contains(dst) }) {
		return other
	}
	if typ == 0x86dd && p[6] == 58 && p[7] == 255 && len(p) > 40 && p[40] >= 133 && p[40] <= 137 {
		return nd
	}
	switch {
	case len(f) > steerRoom:
		return oversize
	case !socket:
		return noSocket
	}
	return redirected
}

// steering is the program, loaded but not attached, with a socket in the map
// for queue 0 or without.
type steering struct {
	p             *Program
	t             *Tables
	pool6, mapped []netip.Prefix
}

func newSteering(t testing.TB, pool6, mapped []netip.Prefix, socket bool) *steering {
	t.Helper()
	labtest.Need(t)
	tables, err := NewTables()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tables.Close() })
	if err := tables.Update(pool6, mapped); err != nil {
		t.Fatal(err)
	}
	p := &Program{name: "none"}
	if err := p.load(tables, 1, [6]byte(unicast), steerRoom); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.unload() })
	if socket {
		fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := p.maps.Sockets.Put(uint32(0), uint32(fd)); err != nil {
			t.Fatal(err)
		}
	}
	return &steering{p, tables, pool6, mapped}
}

// run returns what the program returned for a frame and which counter it raised.
func (s *steering) run(t testing.TB, f []byte) (action uint32, outcome int) {
	t.Helper()
	before := s.counters(t)
	action, err := s.p.prog.Run(&ebpf.RunOptions{Data: f})
	if err != nil {
		t.Fatalf("run on % x: %v", f, err)
	}
	after := s.counters(t)
	outcome = -1
	for i := range after {
		switch after[i] - before[i] {
		case 0:
		case 1:
			if outcome >= 0 {
				t.Fatal("one frame raised two counters")
			}
			outcome = i
		default:
			t.Fatalf("one frame raised %s by %d", outcomeNames[i], after[i]-before[i])
		}
	}
	return action, outcome
}

func (s *steering) counters(t testing.TB) []uint64 {
	t.Helper()
	c, err := s.p.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return []uint64{c.Redirected, c.NoSocket, c.Other, c.Group, c.ND, c.Malformed, c.OtherHost, c.Oversize}
}

// check runs a frame through the program and its twin.
func (s *steering) check(t testing.TB, f []byte, socket bool) int {
	t.Helper()
	action, outcome := s.run(t, f)
	if want := steerTwin(f, s.pool6, s.mapped, socket); outcome != want {
		t.Fatalf("frame % x: outcome %d, the twin says %d", f, outcome, want)
	}
	want := uint32(xdpPass)
	if outcome == redirected {
		want = xdpRedirect
	}
	if action != want {
		t.Fatalf("frame % x: action %d with outcome %s", f, action, outcomeNames[outcome])
	}
	return outcome
}

var (
	unicast   = []byte{2, 0, 0, 0, 0, 1}
	broadcast = []byte{255, 255, 255, 255, 255, 255}
	mcast6    = []byte{0x33, 0x33, 0, 0, 0, 1}
)

// ether puts an Ethernet header with VLAN tags (by their ethertypes) around.
func ether(dst []byte, typ uint16, payload []byte, tags ...uint16) []byte {
	f := append(slices.Clone(dst), 2, 0, 0, 0, 0, 2)
	for _, tag := range tags {
		f = binary.BigEndian.AppendUint16(f, tag)
		f = append(f, 0, 7)
	}
	return append(binary.BigEndian.AppendUint16(f, typ), payload...)
}

func ip6(dst string, next, hops byte, payload ...byte) []byte {
	p := make([]byte, 40, 40+len(payload))
	a := netip.MustParseAddr(dst).As16()
	p[0], p[5], p[6], p[7] = 0x60, byte(len(payload)), next, hops
	copy(p[24:], a[:])
	return append(p, payload...)
}

func ip4(dst string) []byte {
	p := make([]byte, 28)
	a := netip.MustParseAddr(dst).As4()
	p[0], p[3], p[8], p[9] = 0x45, 28, 64, unix.IPPROTO_UDP
	copy(p[16:], a[:])
	return p
}

type steerCase struct {
	name  string
	frame []byte
	want  int
}

func steerCases() []steerCase {
	udp := make([]byte, 8)
	in6, in4 := ip6("64:ff9b::c633:6402", 17, 64, udp...), ip4("192.0.2.9")
	version := func(p []byte, v byte) []byte { p = slices.Clone(p); p[0] = v<<4 | p[0]&15; return p }
	return []steerCase{
		{"ipv6_to_pool6", ether(unicast, 0x86dd, in6), redirected},
		{"ipv6_to_the_first_of_pool6", ether(unicast, 0x86dd, ip6("64:ff9b::", 17, 64)), redirected},
		{"ipv6_before_pool6", ether(unicast, 0x86dd, ip6("64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", 17, 64)), other},
		{"ipv6_after_pool6", ether(unicast, 0x86dd, ip6("64:ff9b:0:0:0:1::", 17, 64)), other},
		{"ipv6_elsewhere", ether(unicast, 0x86dd, ip6("2001:db8::1", 17, 64)), other},
		{"ipv6_second_pool6", ether(unicast, 0x86dd, ip6("2001:db8:100:dead::", 17, 64)), redirected},
		{"ipv4_mapped", ether(unicast, 0x0800, in4), redirected},
		{"ipv4_host_route", ether(unicast, 0x0800, ip4("198.51.100.7")), redirected},
		{"ipv4_beside_host_route", ether(unicast, 0x0800, ip4("198.51.100.6")), other},
		{"ipv4_elsewhere", ether(unicast, 0x0800, ip4("203.0.113.1")), other},

		{"8021Q_ipv6", ether(unicast, 0x86dd, in6, 0x8100), redirected},
		{"8021Q_ipv4", ether(unicast, 0x0800, in4, 0x8100), redirected},
		{"8021ad_ipv6", ether(unicast, 0x86dd, in6, 0x88a8), redirected},
		{"8021ad_over_8021Q_ipv6", ether(unicast, 0x86dd, in6, 0x88a8, 0x8100), redirected},
		{"8021ad_over_8021Q_ipv4", ether(unicast, 0x0800, in4, 0x88a8, 0x8100), redirected},
		{"8021ad_over_8021Q_elsewhere", ether(unicast, 0x0800, ip4("203.0.113.1"), 0x88a8, 0x8100), other},
		{"three_tags", ether(unicast, 0x86dd, in6, 0x88a8, 0x8100, 0x8100), other},
		{"tag_cut_short", ether(unicast, 0x8100, []byte{0, 7}), malformed},
		{"second_tag_cut_short", ether(unicast, 0x8100, []byte{0}, 0x88a8), malformed},

		{"arp", ether(broadcast, 0x0806, make([]byte, 28)), group},
		{"arp_unicast", ether(unicast, 0x0806, make([]byte, 28)), other},
		{"lldp", ether([]byte{1, 0x80, 0xc2, 0, 0, 14}, 0x88cc, make([]byte, 46)), group},
		{"mpls", ether(unicast, 0x8847, in6), other},
		{"length_not_type", ether(unicast, 46, make([]byte, 46)), other},
		{"pool6_by_broadcast", ether(broadcast, 0x86dd, in6), group},
		{"pool6_by_multicast", ether(mcast6, 0x86dd, in6), group},

		{"4861_4.1_router_solicitation_to_pool6", ether(unicast, 0x86dd, ip6("64:ff9b::1", 58, 255, 133, 0)), nd},
		{"4861_4.3_neighbour_solicitation_to_pool6", ether(unicast, 0x86dd, ip6("64:ff9b::1", 58, 255, 135, 0)), nd},
		{"4861_4.4_neighbour_advertisement_to_pool6", ether(unicast, 0x86dd, ip6("64:ff9b::1", 58, 255, 136, 0)), nd},
		{"4861_4.5_redirect_to_pool6", ether(unicast, 0x86dd, ip6("64:ff9b::1", 58, 255, 137, 0)), nd},
		{"4861_7.1.1_solicitation_with_hop_limit_254", ether(unicast, 0x86dd, ip6("64:ff9b::1", 58, 254, 135, 0)), redirected},
		{"4861_solicitation_elsewhere", ether(unicast, 0x86dd, ip6("fe80::1", 58, 255, 135, 0)), other},
		{"echo_to_pool6_hop_limit_255", ether(unicast, 0x86dd, ip6("64:ff9b::1", 58, 255, 128, 0)), redirected},
		{"icmpv6_type_132_to_pool6", ether(unicast, 0x86dd, ip6("64:ff9b::1", 58, 255, 132, 0)), redirected},
		{"icmpv6_type_138_to_pool6", ether(unicast, 0x86dd, ip6("64:ff9b::1", 58, 255, 138, 0)), redirected},
		{"icmpv6_without_a_byte_to_pool6", ether(unicast, 0x86dd, ip6("64:ff9b::1", 58, 255)), redirected},

		{"pool6_to_another_station", ether([]byte{2, 0, 0, 0, 0xff, 0xff}, 0x86dd, in6), otherHost},
		{"mapped_to_another_station", ether([]byte{2, 0, 0, 0, 0xff, 0xff}, 0x0800, in4), otherHost},

		{"pool6_as_large_as_a_chunk", ether(unicast, 0x86dd, ip6("64:ff9b::1", 17, 64, make([]byte, steerRoom-54)...)), redirected},
		{"pool6_larger_than_a_chunk", ether(unicast, 0x86dd, ip6("64:ff9b::1", 17, 64, make([]byte, steerRoom-53)...)), oversize},
		{"mapped_larger_than_a_chunk", ether(unicast, 0x0800, append(ip4("192.0.2.9"), make([]byte, steerRoom)...)), oversize},
		{"larger_than_a_chunk_elsewhere", ether(unicast, 0x0800, append(ip4("203.0.113.1"), make([]byte, steerRoom)...)), other},

		{"ethernet_only", ether(unicast, 0x86dd, nil), malformed},
		{"ipv6_header_cut_short", ether(unicast, 0x86dd, in6[:39]), malformed},
		{"ipv4_header_cut_short", ether(unicast, 0x0800, in4[:19]), malformed},
		{"ipv6_type_with_version_4", ether(unicast, 0x86dd, version(in6, 4)), malformed},
		{"ipv4_type_with_version_6", ether(unicast, 0x0800, version(in4, 6)), malformed},
	}
}

var (
	steerPool6  = prefixes("64:ff9b::/96 2001:db8:100::/40")
	steerMapped = prefixes("192.0.2.0/24 198.51.100.7/32")
)

// TestSteerPlain is for the program that kernels before 5.18 get.
func TestSteerPlain(t *testing.T) {
	s := newSteering(t, steerPool6, steerMapped, false)
	spec, err := loadSteer()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(spec.Variables["mac"].Set([6]byte(unicast)), spec.Variables["room"].Set(uint32(steerRoom))); err != nil {
		t.Fatal(err)
	}
	spec.Maps[steerMapPool6].MaxEntries, spec.Maps[steerMapMapped4].MaxEntries = s.t.size, s.t.size
	frags := s.p.prog
	t.Cleanup(func() { frags.Close() })
	if err := s.p.loadOne(spec, steerPlain, &ebpf.CollectionOptions{
		MapReplacements: map[string]*ebpf.Map{steerMapPool6: s.t.pool6, steerMapMapped4: s.t.mapped},
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range steerCases() {
		t.Run(c.name, func(t *testing.T) { s.check(t, c.frame, false) })
	}
}

func TestSteer(t *testing.T) {
	for _, socket := range []bool{true, false} {
		s := newSteering(t, steerPool6, steerMapped, socket)
		for _, c := range steerCases() {
			name, want := c.name, c.want
			if !socket {
				name = "without_socket/" + name
				if want == redirected {
					want = noSocket
				}
			}
			t.Run(name, func(t *testing.T) {
				if got := s.check(t, c.frame, socket); got != want {
					t.Errorf("%s, want %s", outcomeNames[got], outcomeNames[want])
				}
			})
		}
	}
}

// TestTablesUpdate: what is in both sets is taken all the time; what isn't
// comes and goes.
func TestTablesUpdate(t *testing.T) {
	s := newSteering(t, steerPool6, steerMapped, true)
	to := func(dst string) []byte { return ether(unicast, 0x0800, ip4(dst)) }
	for _, step := range []struct {
		name, mapped string
		in, out      []string
	}{
		{"split", "192.0.2.0/26 192.0.2.128/25", []string{"192.0.2.1", "192.0.2.200"}, []string{"192.0.2.64", "198.51.100.7"}},
		{"merge", "192.0.2.0/25 192.0.2.128/25", []string{"192.0.2.1", "192.0.2.64"}, []string{"192.0.3.0"}},
		{"nested", "192.0.0.0/16 192.0.2.0/24", []string{"192.0.2.1", "192.0.3.0"}, []string{"192.1.0.0"}},
		{"nothing", "", nil, []string{"192.0.2.1"}},
		{"everything", "0.0.0.0/0", []string{"203.0.113.1"}, nil},
	} {
		t.Run(step.name, func(t *testing.T) {
			s.mapped = prefixes(step.mapped)
			if err := s.t.Update(s.pool6, s.mapped); err != nil {
				t.Fatal(err)
			}
			for _, a := range step.in {
				if got := s.check(t, to(a), true); got != redirected {
					t.Errorf("%s: %s", a, outcomeNames[got])
				}
			}
			for _, a := range step.out {
				if got := s.check(t, to(a), true); got != other {
					t.Errorf("%s: %s", a, outcomeNames[got])
				}
			}
		})
	}
	if err := s.t.Update(prefixes("192.0.2.0/24"), nil); err == nil {
		t.Error("an IPv4 prefix passed as pool6")
	}
	if err := s.t.Update(nil, prefixes("64:ff9b::/96")); err == nil {
		t.Error("an IPv6 prefix passed as mapped")
	}
}

// TestTablesFull: an update that finds no room says so, and the next one that
// fits makes everything right.
func TestTablesFull(t *testing.T) {
	labtest.Need(t)
	tables, err := newTables(4)
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	for _, step := range []struct {
		mapped string
		full   bool
	}{
		{"192.0.2.1/32 192.0.2.3/32 192.0.2.5/32", false},
		{"192.0.2.1/32 192.0.2.3/32 192.0.2.5/32 192.0.2.7/32 192.0.2.9/32 192.0.2.11/32", true},
		{"192.0.2.9/32", false},
		{"192.0.2.7/32 192.0.2.11/32 192.0.2.13/32", false},
	} {
		want := prefixes(step.mapped)
		err := tables.Update(nil, want)
		if step.full {
			if err == nil || !strings.Contains(err.Error(), "room for 4") {
				t.Fatalf("%s: %v", step.mapped, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", step.mapped, err)
		}
		var key steerLpm4
		var value uint8
		n := 0
		for it := tables.mapped.Iterate(); it.Next(&key, &value); n++ {
			if p := netip.PrefixFrom(netip.AddrFrom4(key.Addr), int(key.Bits)); !slices.Contains(want, p) {
				t.Errorf("%s: the table holds %v", step.mapped, p)
			}
		}
		if n != len(want) {
			t.Errorf("%s: the table holds %d prefixes", step.mapped, n)
		}
	}
}

// TestTablesUpdateNoGap asks for one address in a loop while the prefix that
// holds it is split, merged and widened around it.
func TestTablesUpdateNoGap(t *testing.T) {
	s := newSteering(t, steerPool6, steerMapped, true)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		sets := [][]netip.Prefix{prefixes("192.0.2.0/24"), prefixes("192.0.2.0/25"), prefixes("192.0.2.9/32"), prefixes("192.0.0.0/16"), prefixes("192.0.2.8/31 10.0.0.0/8")}
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := s.t.Update(steerPool6, sets[i%len(sets)]); err != nil {
				done <- err
				return
			}
		}
	}()
	f := ether(unicast, 0x0800, ip4("192.0.2.9"))
	for i := range 20_000 {
		action, err := s.p.prog.Run(&ebpf.RunOptions{Data: f})
		if err != nil || action != xdpRedirect {
			t.Errorf("run %d: action %d, %v", i, action, err)
			break
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// FuzzSteer: no frame makes the program abort or do anything but pass or
// redirect, and it always agrees with its twin.
func FuzzSteer(f *testing.F) {
	for _, c := range steerCases() {
		f.Add(c.frame)
	}
	with := newSteering(f, steerPool6, steerMapped, true)
	without := newSteering(f, steerPool6, steerMapped, false)
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < 14 || len(frame) > 3000 { // the kernel runs nothing shorter, nor longer in one piece
			t.Skip()
		}
		with.check(t, frame, true)
		without.check(t, frame, false)
	})
}
