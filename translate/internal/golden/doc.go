// Package golden reads the golden packets: one packet, what the translator must
// make of it, and the rule that says so. The same cases run against package
// translate and, in a lab, through package router.
//
// testdata/golden/<RFC>/<section>_<name>.txt holds the cases of one section:
//
//	# RFC 7915 4.1: IPv4 headers into IPv6 headers
//	mtu6 = 1500                       what holds for all cases of the file
//
//	## traffic_class_zero
//	"An implementation SHOULD be able to ignore the IPv4 TOS and always set
//	the IPv6 traffic class to zero."  the rule, in prose
//	tos = "zero"                      what differs from the file's settings
//	> ip4 198.51.100.2 > 192.0.2.2 tos 0xb8
//	> udp 53 > 1234                   the packet, as package packettext reads it
//	> data 8
//	= forward                         the verdict, whose counter moves
//	< ip6 64:ff9b::c633:6402 > 2001:db8:64::2 hop 63
//	< udp 53 > 1234                   what comes out: the translated packet, or
//	< data 8                          our own ICMP error. A line "<" alone comes
//	                                  between two packets
//
// The keys are those of [router] in the config file, with their defaults, but
// for pool6 and eam (see [Defaults]), and these:
//
//	mtu6, mtu4        MTU in bytes of the IPv6 and the IPv4 link; 1500
//	local4, local6    the host's own addresses; 203.0.113.1, none
//	source4, source6  those that our own errors come from; 203.0.113.1,
//	                  2001:db8:ffff::1; "" for none
//	partial_checksum  the port says that the checksum is partial
//	segment_size      the port says that the packet is a superpacket
//	lab               "wire", "kernel" or "no", and why, where the case can't be
//	                  put on every path of the router's test
//
// In an expected packet, "id any" stands for a generated IPv4 identification.
// Expectations are written from the RFCs, never from what the translator does.
package golden
