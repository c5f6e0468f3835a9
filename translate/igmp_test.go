package translate

import "testing"

// IGMP is for one link (RFC 7915 4.2). In IPv6 its number means nothing special.
func TestIGMP(t *testing.T) {
	runAll(t, []expect{
		{name: "4.2_IGMP", in: v4(server, vmA4, 2, bytesOf(8)), verdict: IGMP4},
		{name: "4.2_IGMP_later_fragment", in: v4(server, vmA4, 2, bytesOf(8), frag(8)), verdict: IGMP4},
		{name: "5.1_protocol_2_passes", in: v6(vmA6, server6, 2, bytesOf(8)), verdict: Forward, out: v4(vmA4, server, 2, bytesOf(8), ttl(63))},
	})
}
