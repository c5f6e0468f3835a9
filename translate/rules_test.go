package translate

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// expect is one packet's fate. With out set, it is forwarded and becomes that; a
// generated IPv4 identification is taken over from the result, and must be there.
type expect struct {
	name    string
	config  func(*Config)
	in      []byte
	meta    Meta
	mtuIn   int
	mtuOut  int
	verdict Verdict
	out     []byte
}

func (e expect) run(t *testing.T) {
	t.Helper()
	c := usual()
	if e.config != nil {
		e.config(&c)
	}
	if e.mtuIn == 0 {
		e.mtuIn = 1500
	}
	if e.mtuOut == 0 {
		e.mtuOut = 1500
	}
	for _, tr := range []*Translator{mustNew(t, c), slowly(t, c)} {
		r := run(t, tr, e.in, e.meta, e.mtuIn, e.mtuOut)
		if r.verdict != e.verdict {
			t.Fatalf("verdict %v, want %v", r.verdict, e.verdict)
		}
		if e.out == nil {
			continue
		}
		want := e.out
		if want[0]>>4 == 4 && !bytes.Equal(r.out, want) && len(r.out) >= 20 && binary.BigEndian.Uint16(want[4:]) == 0 && binary.BigEndian.Uint16(want[6:]) == 0 {
			want = withID(want, r.out)
		}
		if !bytes.Equal(r.out, want) {
			t.Fatalf("\n got %x\nwant %x", r.out, want)
		}
		verify(t, e.in, e.meta, r, 1<<20)
	}
}

func runAll(t *testing.T, list []expect) {
	for _, e := range list {
		t.Run(e.name, e.run)
	}
}

// broken changes bytes of a packet without putting its checksums right.
func broken(p []byte, changes ...int) []byte {
	p = bytes.Clone(p)
	for i := 0; i+1 < len(changes); i += 2 {
		p[changes[i]] = byte(changes[i+1])
	}
	return p
}

// df is an IPv4 packet with DF and without identification, as RFC 7915 5.1 makes
// them above 1260 bytes.
var df = frag(flagDF)

func TestV6toV4(t *testing.T) {
	ok4 := v4(vmA4, server, 6, tcp(30), ttl(63))
	ext := func(next byte, n int) []byte {
		b := make([]byte, 8+8*n)
		b[0], b[1] = next, byte(n)
		return b
	}
	routing := func(next, left byte) []byte { return []byte{next, 0, 0, left, 0, 0, 0, 0} }
	runAll(t, []expect{
		{name: "5.1_hop_limit_2", in: v6(vmA6, server6, 6, tcp(30), ttl(2)), verdict: Forward, out: v4(vmA4, server, 6, tcp(30), ttl(1))},
		{name: "5.1_hop_limit_1", in: v6(vmA6, server6, 6, tcp(30), ttl(1)), verdict: HopLimit6},
		{name: "5.1_hop_limit_0", in: v6(vmA6, server6, 6, tcp(30), ttl(0)), verdict: HopLimit6},
		{name: "5.1_1260_bytes_no_DF", in: v6(vmA6, server6, 6, tcp(1240)), verdict: Forward, out: v4(vmA4, server, 6, tcp(1240), ttl(63))},
		{name: "5.1_1261_bytes_DF", in: v6(vmA6, server6, 6, tcp(1241)), verdict: Forward, out: v4(vmA4, server, 6, tcp(1241), ttl(63), df)},
		{name: "5.1_flow_label_is_dropped", in: broken(v6(vmA6, server6, 6, tcp(30)), 1, 0x0f, 2, 0xff, 3, 0xff), verdict: Forward, out: ok4},
		{name: "5.1_traffic_class_set", config: func(c *Config) { c.TOS = TOS{true, 0} }, in: v6(vmA6, server6, 6, tcp(30), tos(0xff)), verdict: Forward, out: ok4},
		{name: "5.1_hop_by_hop", in: v6ext(vmA6, server6, 0, ext(6, 0), tcp(30)), verdict: Forward, out: ok4},
		{name: "5.1_destination_options", in: v6ext(vmA6, server6, 60, ext(6, 3), tcp(30)), verdict: Forward, out: ok4},
		{name: "5.1_routing_done", in: v6ext(vmA6, server6, 43, routing(6, 0), tcp(30)), verdict: Forward, out: ok4},
		{name: "5.1_routing_segments_left", in: v6ext(vmA6, server6, 43, routing(6, 1), tcp(30)), verdict: RoutingHeader6},
		{name: "5.1_all_three", in: v6ext(vmA6, server6, 0, append(append(ext(43, 1), routing(60, 0)...), ext(6, 2)...), tcp(30)), verdict: Forward, out: ok4},
		{name: "5.1_extension_truncated", in: v6(vmA6, server6, 59, nil, func(ip []byte) { ip[6] = 60 }), verdict: ExtensionTruncated6},
		{name: "5.1_extension_longer_than_packet", in: broken(v6ext(vmA6, server6, 60, ext(59, 0), nil), 41, 9), verdict: ExtensionTruncated6},
		{name: "5.1_too_many_extensions", in: v6ext(vmA6, server6, 60, bytes.Repeat([]byte{60, 0, 0, 0, 0, 0, 0, 0}, 20), append(ext(6, 0), tcp(30)...)), verdict: ExtensionChain6},
		{name: "5.1_AH_passes", in: v6(vmA6, server6, 51, bytesOf(30)), verdict: Forward, out: v4(vmA4, server, 51, bytesOf(30), ttl(63))},
		{name: "5.1_no_next_header", in: v6(vmA6, server6, 59, bytesOf(3)), verdict: Forward, out: v4(vmA4, server, 59, bytesOf(3), ttl(63))},
		{name: "5.1_ICMPv4_in_IPv6", in: v6(vmA6, server6, 1, icmpMessage(8, 0, 0, nil)), verdict: Protocol6},

		{name: "5.1.1_first_fragment", in: v6ext(vmA6, server6, 44, fragmentHeader(6, 0, true, 0xabcd1234), tcp(32)), verdict: Forward,
			out: fixedL4(v4(vmA4, server, 6, tcp(32), ttl(63), frag(flagMF), id(0x1234)), 16, adjusted(v6ext(vmA6, server6, 44, fragmentHeader(6, 0, true, 0xabcd1234), tcp(32)), 48+16, vmA4, server))},
		{name: "5.1.1_later_fragment", in: v6ext(vmA6, server6, 44, fragmentHeader(6, 64, false, 0xabcd1234), bytesOf(33)), verdict: Forward,
			out: v4(vmA4, server, 6, bytesOf(33), ttl(63), frag(8), id(0x1234))},
		{name: "5.1.1_atomic_fragment", in: v6ext(vmA6, server6, 44, fragmentHeader(6, 0, false, 0xabcd1234), tcp(33)), verdict: Forward,
			out: v4(vmA4, server, 6, tcp(33), ttl(63), id(0x1234))},
		{name: "5.1.1_atomic_fragment_ICMP", in: v6ext(vmA6, server6, 44, fragmentHeader(58, 0, false, 9), icmpMessage(128, 0, 1, bytesOf(9))), verdict: Forward,
			out: v4(vmA4, server, 1, icmpMessage(8, 0, 1, bytesOf(9)), ttl(63), id(9))},
		{name: "5.1.1_large_fragment_no_DF", in: v6ext(vmA6, server6, 44, fragmentHeader(6, 64, false, 7), bytesOf(1400)), verdict: Forward,
			out: v4(vmA4, server, 6, bytesOf(1400), ttl(63), frag(8), id(7))},
		{name: "5.1.1_extension_after_fragment", in: v6ext(vmA6, server6, 44, append(fragmentHeader(60, 0, true, 7), ext(6, 0)...), tcp(24)), verdict: ExtensionAfterFragment6},
		{name: "5.1.1_extension_after_later_fragment", in: v6ext(vmA6, server6, 44, fragmentHeader(60, 64, false, 7), bytesOf(24)), verdict: ExtensionAfterFragment6},
		{name: "5.1.1_AH_after_fragment", in: v6ext(vmA6, server6, 44, fragmentHeader(51, 0, true, 7), bytesOf(24)), verdict: ExtensionAfterFragment6},
		{name: "5.1.1_fragment_after_fragment", in: v6ext(vmA6, server6, 44, append(fragmentHeader(44, 0, false, 7), fragmentHeader(6, 0, false, 7)...), tcp(24)), verdict: ExtensionAfterFragment6},
		{name: "5.1.1_ESP_after_fragment", in: v6ext(vmA6, server6, 44, fragmentHeader(50, 0, true, 7), bytesOf(24)), verdict: Forward,
			out: v4(vmA4, server, 50, bytesOf(24), ttl(63), frag(flagMF), id(7))},
		{name: "5.1.1_extension_before_fragment", in: v6ext(vmA6, server6, 0, append(ext(44, 0), fragmentHeader(6, 64, false, 7)...), bytesOf(24)), verdict: Forward,
			out: v4(vmA4, server, 6, bytesOf(24), ttl(63), frag(8), id(7))},

		{name: "1.2_fragmented_ICMPv6", in: v6ext(vmA6, server6, 44, fragmentHeader(58, 0, true, 7), icmpMessage(128, 0, 1, bytesOf(16))), verdict: FragmentedICMP},
		{name: "1.2_fragmented_ICMPv6_later", in: v6ext(vmA6, server6, 44, fragmentHeader(58, 64, false, 7), bytesOf(16)), verdict: FragmentedICMP},

		{name: "frame_version", in: broken(v6(vmA6, server6, 6, tcp(30)), 0, 0x50), verdict: BadVersion},
		{name: "frame_empty", in: nil, verdict: ShortHeader},
		{name: "frame_39_bytes", in: v6(vmA6, server6, 6, tcp(30))[:39], verdict: ShortHeader},
		{name: "frame_short", in: v6(vmA6, server6, 6, tcp(30))[:69], verdict: BadLength},
		{name: "frame_padded", in: append(v6(vmA6, server6, 6, tcp(30)), 1, 2, 3), verdict: Forward, out: ok4},
		{name: "RFC2675_jumbogram", in: broken(v6ext(vmA6, server6, 0, []byte{59, 0, 0xc2, 4, 0, 1, 0, 0}, nil), 4, 0, 5, 0), verdict: Jumbogram},
		{name: "RFC8200_4.5_fragment_length", in: v6ext(vmA6, server6, 44, fragmentHeader(6, 0, true, 7), tcp(33)), verdict: FragmentLength},
		{name: "RFC8200_4.5_fragment_overflow", in: v6ext(vmA6, server6, 44, fragmentHeader(6, 0xfff8, false, 7), bytesOf(8)), verdict: FragmentOverflow},
		{name: "RFC1858_tiny_fragment", in: v6ext(vmA6, server6, 44, fragmentHeader(6, 0, true, 7), tcp(8)), verdict: TinyFragment},
		{name: "short_TCP", in: v6(vmA6, server6, 6, tcp(19)), verdict: ShortTransport},
		{name: "short_UDP", in: v6(vmA6, server6, 17, udp(7)), verdict: ShortTransport},
		{name: "short_ICMP", in: v6(vmA6, server6, 58, []byte{128, 0, 0, 0}), verdict: ShortTransport},
		{name: "too_long_for_IPv4", in: v6(vmA6, server6, 99, make([]byte, 65516)), verdict: TooLong},

		{name: "checksum_wrong_stays_wrong", in: broken(v6(vmA6, server6, 6, tcp(30)), 60, 0xee), verdict: Forward, out: broken(ok4, 40, 0xee)},
		{name: "UDP_checksum_zero_stays", in: broken(v6(vmA6, server6, 17, udp(30)), 46, 0, 47, 0), verdict: Forward,
			out: broken(v4(vmA4, server, 17, udp(30), ttl(63)), 26, 0, 27, 0)},
	})
}

// adjusted is the checksum at p[at:], moved from p's pseudo-header to that of two
// IPv4 addresses; a fragment's can't be computed from the fragment alone.
func adjusted(p []byte, at int, src, dst string) uint16 {
	a, b := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	old := ^binary.BigEndian.Uint16(p[at:])
	s := uint32(old) + uint32(^slowSum(p[8:40])) + uint32(slowSum(a[:], b[:]))
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

func fixedL4(p []byte, at int, c uint16) []byte {
	binary.BigEndian.PutUint16(p[20+at:], c)
	return p
}

func TestV4toV6(t *testing.T) {
	ok6 := v6(server6, vmA6, 6, tcp(30), ttl(63))
	in := v4(server, vmA4, 6, tcp(30))
	opt := func(b ...byte) []byte { return v4options(server, vmA4, 6, b, tcp(30)) }
	list := []expect{
		{name: "4.1_TTL_2", in: v4(server, vmA4, 6, tcp(30), ttl(2)), verdict: Forward, out: v6(server6, vmA6, 6, tcp(30), ttl(1))},
		{name: "4.1_TTL_1", in: v4(server, vmA4, 6, tcp(30), ttl(1)), verdict: TTL4},
		{name: "4.1_TTL_0", in: v4(server, vmA4, 6, tcp(30), ttl(0)), verdict: TTL4},
		{name: "4.1_traffic_class_set", config: func(c *Config) { c.TOS = TOS{true, 0x12} }, in: in, verdict: Forward, out: v6(server6, vmA6, 6, tcp(30), ttl(63), tos(0x12))},
		{name: "4.1_options_ignored", in: opt(7, 7, 4, 0, 0, 0, 0, 0), verdict: Forward, out: ok6},
		{name: "4.1_options_router_alert", in: opt(148, 4, 0, 0), verdict: Forward, out: ok6},
		{name: "4.1_options_end", in: opt(0, 131, 3, 4), verdict: Forward, out: ok6},
		{name: "4.1_loose_source_route", in: opt(131, 7, 4, 1, 2, 3, 4, 0), verdict: SourceRoute4},
		{name: "4.1_strict_source_route", in: opt(1, 137, 7, 4, 1, 2, 3, 4), verdict: SourceRoute4},
		{name: "4.1_source_route_expired", in: opt(131, 7, 8, 1, 2, 3, 4, 0), verdict: Forward, out: ok6},
		{name: "4.1_option_length_0", in: opt(7, 0, 0, 0), verdict: BadOption4},
		{name: "4.1_option_length_1", in: opt(7, 1, 0, 0), verdict: BadOption4},
		{name: "4.1_option_too_long", in: opt(7, 5, 0, 0), verdict: BadOption4},
		{name: "4.1_option_without_length", in: opt(1, 1, 1, 7), verdict: BadOption4},
		{name: "4.1_source_route_without_pointer", in: opt(1, 1, 131, 2), verdict: BadOption4},

		{name: "4.1_DF_keeps_no_fragment_header", in: v4(server, vmA4, 6, tcp(30), df), verdict: Forward, out: ok6},
		{name: "4.1_first_fragment", in: v4(server, vmA4, 6, tcp(32), frag(flagMF), id(0x1234)), verdict: Forward,
			out: v6fragment(6, 0, true, 0x1234, v4(server, vmA4, 6, tcp(32), frag(flagMF), id(0x1234)), 16)},
		{name: "4.1_later_fragment", in: v4(server, vmA4, 6, bytesOf(33), frag(8), id(0x1234)), verdict: Forward,
			out: v6ext(server6, vmA6, 44, fragmentHeader(6, 64, false, 0x1234), bytesOf(33), ttl(63))},
		{name: "4.1_fragment_with_DF", in: v4(server, vmA4, 6, bytesOf(32), frag(flagDF|flagMF|8), id(0x1234)), verdict: Forward,
			out: v6ext(server6, vmA6, 44, fragmentHeader(6, 64, true, 0x1234), bytesOf(32), ttl(63))},
		{name: "1.2_fragmented_ICMPv4", in: v4(server, vmA4, 1, icmpMessage(8, 0, 0, bytesOf(24)), frag(flagMF)), verdict: FragmentedICMP},
		{name: "1.2_fragmented_ICMPv4_later", in: v4(server, vmA4, 1, bytesOf(24), frag(8)), verdict: FragmentedICMP},

		{name: "4.5_UDP_zero_computed", in: broken(v4(server, vmA4, 17, udp(31)), 26, 0, 27, 0), verdict: Forward, out: v6(server6, vmA6, 17, udp(31), ttl(63))},
		{name: "4.5_UDP_zero_dropped", config: func(c *Config) { c.UDPZeroChecksum = UDPZeroDrop }, in: broken(v4(server, vmA4, 17, udp(31)), 26, 0, 27, 0), verdict: UDPZeroChecksum},
		{name: "4.5_UDP_zero_fragment", in: broken(v4(server, vmA4, 17, udp(32), frag(flagMF)), 26, 0, 27, 0), verdict: UDPZeroFragment},
		{name: "4.5_UDP_zero_length_field", in: broken(v4(server, vmA4, 17, udp(31)), 24, 9, 26, 0, 27, 0), verdict: UDPLength},
		{name: "4.5_UDP_zero_length_short", in: broken(v4(server, vmA4, 17, udp(31)), 25, 7, 26, 0, 27, 0), verdict: UDPLength},

		{name: "frame_header_length_4", in: broken(in, 0, 0x44), verdict: BadHeaderLength4},
		{name: "frame_header_beyond_packet", in: v4hl(), verdict: BadHeaderLength4},
		{name: "frame_total_length_19", in: broken(in, 2, 0, 3, 19), verdict: BadLength},
		{name: "frame_short", in: in[:49], verdict: BadLength},
		{name: "frame_19_bytes", in: in[:19], verdict: ShortHeader},
		{name: "frame_padded", in: append(bytes.Clone(in), 1, 2, 3), verdict: Forward, out: ok6},
		{name: "RFC1812_5.2.2_header_checksum", in: broken(in, 10, int(in[10])^1), verdict: BadChecksum4},
		{name: "RFC791_fragment_length", in: v4(server, vmA4, 6, tcp(33), frag(flagMF)), verdict: FragmentLength},
		{name: "RFC791_fragment_overflow", in: v4(server, vmA4, 6, bytesOf(32), frag(0x1fff)), verdict: FragmentOverflow},
		{name: "RFC1858_tiny_fragment", in: v4(server, vmA4, 6, tcp(16), frag(flagMF)), verdict: TinyFragment},
		{name: "short_TCP", in: v4(server, vmA4, 6, tcp(19)), verdict: ShortTransport},
		{name: "short_ICMP", in: v4(server, vmA4, 1, []byte{8, 0, 0, 0}), verdict: ShortTransport},
		{name: "checksum_wrong_stays_wrong", in: broken(in, 40, 0xee), verdict: Forward, out: broken(ok6, 60, 0xee)},
		{name: "reserved_bit", in: v4(server, vmA4, 6, tcp(30), frag(0x8000)), verdict: Forward, out: ok6},
	}
	for _, p := range []byte{0, 43, 44, 58, 60} {
		list = append(list, expect{name: "4.1_protocol_" + netip.AddrFrom4([4]byte{3: p}).String(), in: v4(server, vmA4, p, bytesOf(30)), verdict: Protocol4})
	}
	runAll(t, list)
}

// v4hl has a header length beyond the packet's end.
func v4hl() []byte {
	p := v4(server, vmA4, 99, bytesOf(4))
	p[0] = 0x4f
	return p
}

// v6fragment is the fragment p, an IPv4 one with its transport checksum at at,
// as IPv6.
func v6fragment(proto byte, offset int, more bool, id uint32, p []byte, at int) []byte {
	b := v6ext(server6, vmA6, 44, fragmentHeader(proto, offset, more, id), p[20:], ttl(63))
	old := ^binary.BigEndian.Uint16(p[20+at:])
	s := uint32(old) + uint32(^slowSum(p[12:20])) + uint32(slowSum(b[8:40]))
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	binary.BigEndian.PutUint16(b[48+at:], ^uint16(s))
	return b
}

func TestAddresses(t *testing.T) {
	private := "64:ff9b::10.1.2.3"
	nsp := func(c *Config) { c.Pool6 = prefixes("2001:db8:64::/96") }
	runAll(t, []expect{
		{name: "6_not_ours6", in: v6(vmA6, "2001:db8:ffff::1", 6, tcp(30)), verdict: NotOurs6},
		{name: "6_not_ours6_whatever_hop_limit", in: v6(vmA6, "2001:db8:ffff::1", 6, tcp(30), ttl(1)), verdict: NotOurs6},
		{name: "6_not_ours4", in: v4(server, "192.0.2.99", 6, tcp(30)), verdict: NotOurs4},
		{name: "6_not_ours4_source_route", in: v4options(server, "192.0.2.99", 6, []byte{131, 7, 4, 1, 2, 3, 4, 0}, tcp(30)), verdict: NotOurs4},
		{name: "to_host6", config: func(c *Config) { c.Local6 = []netip.Addr{netip.MustParseAddr("64:ff9b::203.0.113.7")} }, in: v6(vmA6, server6, 6, tcp(30)), verdict: ToHost6},
		{name: "to_host4", config: func(c *Config) { c.Local4 = []netip.Addr{netip.MustParseAddr(vmA4)} }, in: v4(server, vmA4, 6, tcp(30)), verdict: ToHost4},
		{name: "local_destination4", config: func(c *Config) { c.Local4 = []netip.Addr{netip.MustParseAddr(server)} }, in: v6(vmA6, server6, 6, tcp(30)), verdict: LocalDestination4},
		{name: "local_neighbour_is_fine", config: func(c *Config) { c.Local4 = []netip.Addr{netip.MustParseAddr("203.0.113.8")} }, in: v6(vmA6, server6, 6, tcp(30)), verdict: Forward},
		{name: "local_destination6", config: func(c *Config) { c.Local6 = []netip.Addr{netip.MustParseAddr(vmA6)} }, in: v4(server, vmA4, 6, tcp(30)), verdict: LocalDestination6},
		{name: "denied4", config: func(c *Config) { c.Deny4 = prefixes("203.0.113.0/24") }, in: v6(vmA6, server6, 6, tcp(30)), verdict: Denied4},
		{name: "denied4_neighbour_is_fine", config: func(c *Config) { c.Deny4 = prefixes("203.0.113.8/29", "203.0.113.8/29") }, in: v6(vmA6, server6, 6, tcp(30)), verdict: Forward},
		{name: "denied4_by_mapping", config: func(c *Config) { c.Deny4 = prefixes(vmB4 + "/32") }, in: v6(vmA6, vmB6, 6, tcp(30)), verdict: Denied4},
		{name: "denied4_does_not_hold_backwards", config: func(c *Config) { c.Deny4 = prefixes("203.0.113.0/24") }, in: v4(server, vmA4, 6, tcp(30)), verdict: Forward},

		{name: "RFC6052_3.1_private_destination", in: v6(vmA6, private, 6, tcp(30)), verdict: PrivateDestination4},
		{name: "RFC6052_3.1_private_source", in: v4("10.1.2.3", vmA4, 6, tcp(30)), verdict: PrivateSource4},
		{name: "RFC6052_3.1_private_172.31", in: v6(vmA6, "64:ff9b::172.31.0.1", 6, tcp(30)), verdict: PrivateDestination4},
		{name: "RFC6052_3.1_public_172.32", in: v6(vmA6, "64:ff9b::172.32.0.1", 6, tcp(30)), verdict: Forward},
		{name: "RFC6052_3.1_private_100.64", in: v6(vmA6, "64:ff9b::100.127.0.1", 6, tcp(30)), verdict: PrivateDestination4},
		{name: "RFC6052_3.1_192.0.0.0/24", in: v6(vmA6, "64:ff9b::192.0.0.8", 6, tcp(30)), verdict: PrivateDestination4},
		{name: "RFC6052_3.1_192.0.1.0", in: v6(vmA6, "64:ff9b::192.0.1.8", 6, tcp(30)), verdict: Forward},
		{name: "RFC6052_3.1_allowed", config: func(c *Config) { c.AllowPrivate4 = true }, in: v6(vmA6, private, 6, tcp(30)), verdict: Forward, out: v4(vmA4, "10.1.2.3", 6, tcp(30), ttl(63))},
		{name: "RFC6052_3.1_network_prefix", config: nsp, in: v6(vmA6, "2001:db8:64::10.1.2.3", 6, tcp(30)), verdict: Forward, out: v4(vmA4, "10.1.2.3", 6, tcp(30), ttl(63))},
		{name: "RFC6052_3.1_ICMP_error_gets_through", in: v4("10.1.2.3", vmA4, 1, icmpMessage(11, 0, 0, v4(vmA4, server, 6, tcp(20)))), verdict: Forward,
			out: v6("64:ff9b::10.1.2.3", vmA6, 58, icmpMessage(3, 0, 0, v6(vmA6, server6, 6, tcp(20))), ttl(63))},
		{name: "4.1_ICMP_error_illegal_source", in: v4("127.0.0.1", vmA4, 1, icmpMessage(11, 0, 0, v4(vmA4, server, 6, tcp(20)))), verdict: Forward,
			out: v6("64:ff9b::127.0.0.1", vmA6, 58, icmpMessage(3, 0, 0, v6(vmA6, server6, 6, tcp(20))), ttl(63))},
		{name: "RFC6052_3.3_well_known_source", in: v6("64:ff9b::203.0.113.9", server6, 6, tcp(30)), verdict: WellKnownSource6},
		{name: "RFC6052_3.3_network_prefix_holds_nodes", config: nsp, in: v6("2001:db8:64::203.0.113.9", "2001:db8:64::203.0.113.7", 6, tcp(30)), verdict: Forward,
			out: v4("203.0.113.9", server, 6, tcp(30), ttl(63))},
		{name: "RFC6052_3.3_network_prefix_holds_nodes_4", config: nsp, in: v4(server, "203.0.113.9", 6, tcp(30)), verdict: Forward,
			out: v6("2001:db8:64::203.0.113.7", "2001:db8:64::203.0.113.9", 6, tcp(30), ttl(63))},
		{name: "RFC6052_3.3_martian_node", config: nsp, in: v6("2001:db8:64::127.0.0.1", "2001:db8:64::203.0.113.7", 6, tcp(30)), verdict: MartianSource4},
		{name: "local_source4", config: func(c *Config) { nsp(c); c.Local4 = []netip.Addr{netip.MustParseAddr("203.0.113.9")} },
			in: v6("2001:db8:64::203.0.113.9", "2001:db8:64::203.0.113.7", 6, tcp(30)), verdict: LocalSource4},
		{name: "RFC7757_no_mapping6", in: v6("2001:db8::99", server6, 6, tcp(30)), verdict: NoMapping6},
		{name: "RFC7757_no_mapping4", config: func(c *Config) { c.Pool6 = nil }, in: v4(server, vmA4, 6, tcp(30)), verdict: NoMapping4},
		{name: "RFC7757_EAM_beats_pool6", config: func(c *Config) { c.EAM = append(c.EAM, eam("64:ff9b::203.0.113.7/128", "198.51.100.7/32")) },
			in: v6(vmA6, server6, 6, tcp(30)), verdict: Forward, out: v4(vmA4, "198.51.100.7", 6, tcp(30), ttl(63))},

		{name: "RFC6791_no_pool", in: v6("2001:db8:9::1", server6, 58, icmpMessage(3, 0, 0, v6(server6, vmA6, 6, tcp(20)))), verdict: NoErrorSource4},
		{name: "RFC6791_pool4", config: func(c *Config) { c.ICMPSource4 = prefixes("198.51.100.33/32") },
			in: v6("2001:db8:9::1", server6, 58, icmpMessage(3, 0, 0, v6(server6, vmA6, 6, tcp(20)))), verdict: Forward,
			out: v4("198.51.100.33", server, 1, icmpMessage(11, 0, 0, innerID(v4(server, vmA4, 6, tcp(20)))), ttl(63))},
		{name: "RFC6791_pool4_not_for_queries", config: func(c *Config) { c.ICMPSource4 = prefixes("198.51.100.33/32") },
			in: v6("2001:db8:9::1", server6, 58, icmpMessage(128, 0, 0, nil)), verdict: NoMapping6},
		{name: "RFC2827_3_outside", config: func(c *Config) { c.VMPrefixes = prefixes("2001:db8:9::/48") }, in: v6(vmA6, server6, 6, tcp(30)), verdict: ForeignSource6},
		{name: "RFC2827_3_inside", config: func(c *Config) { c.VMPrefixes = prefixes("2001:db8:9::/48", vmA6+"/128") }, in: v6(vmA6, server6, 6, tcp(30)), verdict: Forward,
			out: v4(vmA4, server, 6, tcp(30), ttl(63))},
		{name: "RFC2827_3_hairpin", config: func(c *Config) { c.VMPrefixes = prefixes(vmB6 + "/128") }, in: v6(vmA6, "64:ff9b::"+vmB4, 6, tcp(30)), verdict: ForeignSource6},
		{name: "RFC2827_3_network_prefix", config: func(c *Config) { nsp(c); c.VMPrefixes = prefixes(vmA6 + "/128") },
			in: v6("2001:db8:64::203.0.113.9", "2001:db8:64::203.0.113.7", 6, tcp(30)), verdict: ForeignSource6},
		{name: "RFC2827_3_error_of_a_router", config: func(c *Config) {
			c.ICMPSource4, c.VMPrefixes = prefixes("198.51.100.33/32"), prefixes(vmA6+"/128")
		}, in: v6(vmB6, server6, 58, icmpMessage(3, 0, 0, v6(server6, vmA6, 6, tcp(20)))), verdict: Forward,
			out: v4("198.51.100.33", server, 1, icmpMessage(11, 0, 0, innerID(v4(server, vmA4, 6, tcp(20)))), ttl(63))},
		{name: "RFC6791_pool6", config: func(c *Config) { c.ICMPSource6 = prefixes("2001:db8:6::1/128") },
			in: v4("10.1.2.3", vmA4, 1, icmpMessage(11, 0, 0, v4(vmA4, server, 6, tcp(20)))), verdict: Forward,
			out: v6("2001:db8:6::1", vmA6, 58, icmpMessage(3, 0, 0, v6(vmA6, server6, 6, tcp(20))), ttl(63))},
	})
	for _, a := range []string{"::", "::1", "fe80::1", "febf::1", "ff02::1"} {
		runAll(t, []expect{
			{name: "5.1_martian_source_" + a, in: v6(a, server6, 6, tcp(30)), verdict: MartianSource6},
			{name: "5.1_martian_destination_" + a, in: v6(vmA6, a, 6, tcp(30)), verdict: MartianDestination6},
		})
	}
	for _, a := range []string{"0.1.2.3", "127.0.0.1", "169.254.169.254", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"} {
		runAll(t, []expect{
			{name: "4.1_martian_source_" + a, in: v4(a, vmA4, 6, tcp(30)), verdict: MartianSource4},
			{name: "4.1_martian_destination_" + a, in: v4(server, a, 6, tcp(30)), verdict: MartianDestination4},
			{name: "5.1_martian_destination_" + a, in: v6(vmA6, "64:ff9b::"+a, 6, tcp(30)), verdict: MartianDestination4},
		})
	}
}

// innerID gives a quoted IPv4 packet the identification that a State with seed 1
// makes first, because it is generated there too.
func innerID(ip []byte) []byte {
	binary.BigEndian.PutUint16(ip[4:], uint16(NewState(1).next()))
	return fix(ip)
}

// TestUDPChecksumZero finds payloads whose checksum becomes zero, which must be
// sent as 0xffff (RFC 768).
func TestUDPChecksumZero(t *testing.T) {
	// with puts a word into the datagram so that its checksum under ip becomes 0.
	with := func(make func([]byte) []byte) []byte {
		l4 := udp(20)
		l4[18], l4[19] = 0, 0
		p := make(l4)
		v, _ := look(p)
		at := v.checksumField()
		// The sum without the word is ^checksum; the word brings it to 0xffff.
		binary.BigEndian.PutUint16(l4[18:], binary.BigEndian.Uint16(p[at:]))
		return make(l4)
	}
	to4 := with(func(l4 []byte) []byte { return v4(vmA4, server, 17, l4, ttl(63)) })
	from6 := v6(vmA6, server6, 17, to4[20:])
	to6 := with(func(l4 []byte) []byte { return v6(server6, vmA6, 17, l4, ttl(63)) })
	from4 := v4(server, vmA4, 17, to6[40:])
	if to4[26] != 0xff || to4[27] != 0xff || to6[46] != 0xff || to6[47] != 0xff {
		t.Fatal("the packets are not what they should be")
	}
	quote := v6(vmA6, server6, 17, with(func(l4 []byte) []byte { return v6(vmA6, server6, 17, l4) })[40:])
	runAll(t, []expect{
		{name: "6_to_4", in: from6, verdict: Forward, out: to4},
		{name: "4_to_6", in: from4, verdict: Forward, out: to6},
		{name: "4_to_6_computed", in: broken(from4, 26, 0, 27, 0), verdict: Forward, out: to6},
		{name: "4_to_6_inner", in: v4(server, vmA4, 1, icmpMessage(11, 0, 0, v4(vmA4, server, 17, quote[40:]))), verdict: Forward,
			out: v6(server6, vmA6, 58, icmpMessage(3, 0, 0, quote), ttl(63))},
	})
	// And in a packet that is cut up after hardware left it unfinished.
	long := make([]byte, 3000)
	copy(long, udp(2998))
	binary.BigEndian.PutUint16(long[4:], 3000)
	p := v6(server6, vmA6, 17, long, ttl(63))
	copy(long[2998:], p[46:48])
	p = v6(server6, vmA6, 17, long, ttl(63))
	in := v4(server, vmA4, 17, long)
	v, _ := look(in)
	binary.BigEndian.PutUint16(in[26:], v.pseudoSum())
	r := run(t, mustNew(t, usual()), fixHeader(in), Meta{PartialChecksum: true}, 1500, 1500)
	if r.verdict != Split || !bytes.Equal(r.out[48:], p[40:]) || p[46] != 0xff {
		t.Errorf("%v: %x, want %x", r.verdict, r.out[48:60], p[40:52])
	}
}

func fixHeader(p []byte) []byte { return withID(p, p) }

func TestMeta(t *testing.T) {
	partial := func(p []byte) []byte {
		v, _ := look(p)
		p = bytes.Clone(p)
		at := v.checksumField()
		binary.BigEndian.PutUint16(p[at:], v.pseudoSum())
		return p
	}
	noDF := v4(server, vmA4, 6, tcp(3000))
	runAll(t, []expect{
		{name: "partial_6_to_4_TCP", in: partial(v6(vmA6, server6, 6, tcp(30))), meta: Meta{PartialChecksum: true}, verdict: Forward, out: partial(v4(vmA4, server, 6, tcp(30), ttl(63)))},
		{name: "partial_4_to_6_UDP", in: partial(v4(server, vmA4, 17, udp(30))), meta: Meta{PartialChecksum: true}, verdict: Forward, out: partial(v6(server6, vmA6, 17, udp(30), ttl(63)))},
		{name: "partial_6_to_4_echo", in: partial(v6(vmA6, server6, 58, icmpMessage(128, 0, 1, bytesOf(9)))), meta: Meta{PartialChecksum: true}, verdict: Forward,
			out: broken(v4(vmA4, server, 1, icmpMessage(8, 0, 1, bytesOf(9)), ttl(63)), 22, 0xff, 23, 0xff)}, // -0: ICMPv4 has no pseudo-header
		{name: "superpacket_6_to_4", in: v6(vmA6, server6, 6, tcp(30000)), meta: Meta{SegmentSize: 1420}, verdict: Forward, out: v4(vmA4, server, 6, tcp(30000), ttl(63), df)},
		{name: "superpacket_6_to_4_small_segments", in: v6(vmA6, server6, 6, tcp(30000)), meta: Meta{SegmentSize: 1000}, verdict: Forward, out: v4(vmA4, server, 6, tcp(30000), ttl(63))},
		{name: "superpacket_6_to_4_too_big", in: v6(vmA6, server6, 6, tcp(30000)), meta: Meta{SegmentSize: 1440}, mtuOut: 1400, verdict: TooBig6},
		{name: "superpacket_6_to_4_would_split", in: v6(vmA6, server6, 6, tcp(30000)), meta: Meta{SegmentSize: 1000}, mtuOut: 576, verdict: Superpacket},
		{name: "superpacket_4_to_6", in: v4(server, vmA4, 6, tcp(30000), df), meta: Meta{SegmentSize: 1440}, verdict: Forward, out: v6(server6, vmA6, 6, tcp(30000), ttl(63))},
		{name: "superpacket_4_to_6_too_big", in: v4(server, vmA4, 6, tcp(30000), df), meta: Meta{SegmentSize: 1460}, verdict: TooBig4},
		{name: "superpacket_4_to_6_would_split", in: noDF, meta: Meta{SegmentSize: 1440}, verdict: Superpacket},
		{name: "superpacket_UDP", in: v6(vmA6, server6, 17, udp(30000)), meta: Meta{SegmentSize: 1452}, verdict: Forward, out: v4(vmA4, server, 17, udp(30000), ttl(63), df)},
		{name: "superpacket_UDP_zero", in: broken(v4(server, vmA4, 17, udp(3000), df), 26, 0, 27, 0), meta: Meta{SegmentSize: 1000}, verdict: Superpacket},
	})
	// A partial checksum is finished before the packet is cut up.
	r := run(t, mustNew(t, usual()), partial(noDF), Meta{PartialChecksum: true}, 1500, 1500)
	if want := v6(server6, vmA6, 6, tcp(3000), ttl(63)); r.verdict != Split || !bytes.Equal(r.out[48:], want[40:]) {
		t.Errorf("partial checksum of a packet to split: %v, %x", r.verdict, r.out[:80])
	}
}
