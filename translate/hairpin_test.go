package translate

import (
	"net/netip"
	"testing"
)

// A and B have mappings and reach each other by IPv4 addresses (RFC 7757 4).
func TestHairpin(t *testing.T) {
	const a64, b64 = "64:ff9b::" + vmA4, "64:ff9b::" + vmB4
	simple := func(c *Config) { c.Hairpin = HairpinSimple }
	off := func(c *Config) { c.Hairpin = HairpinOff }
	quoted := v6(a64, vmB6, 6, tcp(40), ttl(9)) // A's packet as B got it
	asSent := v6(vmA6, b64, 6, tcp(40), ttl(9)) // as A sent it
	routerError := func(src string) []byte { return v6(src, a64, 58, icmpMessage(3, 0, 0, quoted)) }
	runAll(t, []expect{
		{name: "4.2.2_TCP", in: v6(vmA6, b64, 6, tcp(30)), verdict: Forward, out: v6(a64, vmB6, 6, tcp(30), ttl(63))},
		{name: "4.2.2_UDP", in: v6(vmA6, b64, 17, udp(30)), verdict: Forward, out: v6(a64, vmB6, 17, udp(30), ttl(63))},
		{name: "4.2.2_echo", in: v6(vmA6, b64, 58, icmpMessage(128, 0, 7, bytesOf(9))), verdict: Forward, out: v6(a64, vmB6, 58, icmpMessage(128, 0, 7, bytesOf(9)), ttl(63))},
		{name: "4.2.2_flow_label_and_extensions_go", in: broken(v6ext(vmA6, b64, 60, []byte{6, 0, 0, 0, 0, 0, 0, 0}, tcp(30)), 3, 9), verdict: Forward, out: v6(a64, vmB6, 6, tcp(30), ttl(63))},
		{name: "4.2.2_fragment", in: v6ext(vmA6, b64, 44, fragmentHeader(17, 64, true, 0xabcd0007), bytesOf(64)), verdict: Forward,
			out: v6ext(a64, vmB6, 44, fragmentHeader(17, 64, true, 7), bytesOf(64), ttl(63))},
		{name: "4.2.2_hop_limit", in: v6(vmA6, b64, 6, tcp(30), ttl(1)), verdict: HopLimit6},
		{name: "4.2.2_one_hop", in: v6(vmA6, b64, 6, tcp(30), ttl(2)), verdict: Forward, out: v6(a64, vmB6, 6, tcp(30), ttl(1))},
		{name: "4.2.2_too_big", in: v6(vmA6, b64, 6, tcp(1461)), verdict: TooBig6},
		{name: "4.2.2_error_of_the_node", in: routerError(vmB6), verdict: Forward, out: v6(b64, vmA6, 58, icmpMessage(3, 0, 0, asSent), ttl(63))},
		{name: "4.2.2_error_of_a_router", config: func(c *Config) { c.ICMPSource4 = prefixes("198.51.100.1/32") }, in: routerError("2001:db8:9::1"), verdict: Forward,
			out: v6("64:ff9b::198.51.100.1", vmA6, 58, icmpMessage(3, 0, 0, asSent), ttl(63))},
		{name: "4.2.2_error_about_a_fragment", in: v6(vmB6, a64, 58, icmpMessage(3, 1, 0, v6ext(a64, vmB6, 44, fragmentHeader(17, 64, true, 0xabcd0007), bytesOf(64)))), verdict: Forward,
			out: v6(b64, vmA6, 58, icmpMessage(3, 1, 0, v6ext(vmA6, b64, 44, fragmentHeader(17, 64, true, 7), bytesOf(64))), ttl(63))},
		{name: "4.2.2_packet_too_big", in: v6(vmB6, a64, 58, icmpMessage(2, 0, 1400, quoted)), verdict: Forward,
			out: v6(b64, vmA6, 58, icmpMessage(2, 0, 1400, asSent), ttl(63))},
		{name: "4.2.2_parameter_problem", in: v6(vmB6, a64, 58, icmpMessage(4, 0, 7, quoted)), verdict: Forward,
			out: v6(b64, vmA6, 58, icmpMessage(4, 0, 7, asSent), ttl(63))},
		{name: "4.2.2_next_header", in: v6(vmB6, a64, 58, icmpMessage(4, 1, 40, quoted)), verdict: Forward,
			out: v6(b64, vmA6, 58, icmpMessage(4, 1, 6, asSent), ttl(63))},
		{name: "4.2.2_not_mapped_is_no_hairpin", in: v6(vmA6, "64:ff9b::192.0.2.12", 6, tcp(30)), verdict: Forward, out: v4(vmA4, "192.0.2.12", 6, tcp(30), ttl(63))},
		{name: "4.2.2_denied", config: func(c *Config) { c.Deny4 = prefixes(vmB4 + "/32") }, in: v6(vmA6, b64, 6, tcp(30)), verdict: Denied4},
		{name: "4.2.2_local", config: func(c *Config) { c.Local6 = []netip.Addr{netip.MustParseAddr(vmB6)} }, in: v6(vmA6, b64, 6, tcp(30)), verdict: LocalDestination6},
		{name: "4.2.2_private", config: func(c *Config) { c.EAM = append(c.EAM, eam("2001:db8::c/128", "10.0.0.1/32")) }, in: v6("2001:db8::c", b64, 6, tcp(30)), verdict: PrivateSource4},

		{name: "4.2.1_goes_out", config: simple, in: v6(vmA6, b64, 6, tcp(30)), verdict: Forward, out: v4(vmA4, vmB4, 6, tcp(30), ttl(63))},
		{name: "4.2.1_comes_back", config: simple, in: v4(vmA4, vmB4, 6, tcp(30)), verdict: Forward, out: v6(a64, vmB6, 6, tcp(30), ttl(63))},
		{name: "4.2.1_error", config: simple, in: v4(vmB4, vmA4, 1, icmpMessage(11, 0, 0, v4(vmA4, vmB4, 6, tcp(40), ttl(9)))), verdict: Forward,
			out: v6(b64, vmA6, 58, icmpMessage(3, 0, 0, asSent), ttl(63))},
		{name: "4.2.1_other_source", config: simple, in: v4(server, vmB4, 6, tcp(30)), verdict: Forward, out: v6(server6, vmB6, 6, tcp(30), ttl(63))},
		{name: "off_goes_out", config: off, in: v6(vmA6, b64, 6, tcp(30)), verdict: Forward, out: v4(vmA4, vmB4, 6, tcp(30), ttl(63))},
		{name: "off_comes_back", config: off, in: v4(vmA4, vmB4, 6, tcp(30)), verdict: Forward, out: v6(vmA6, vmB6, 6, tcp(30), ttl(63))},
	})
}
