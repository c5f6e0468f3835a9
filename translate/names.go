package translate

import "fmt"

// ProtocolName gives a protocol number's name, for people.
func ProtocolName(p uint8) string {
	switch p {
	case protoHopByHop:
		return "Hop-by-Hop Options"
	case protoICMP4:
		return "ICMPv4"
	case protoIGMP:
		return "IGMP"
	case protoTCP:
		return "TCP"
	case protoUDP:
		return "UDP"
	case protoDCCP:
		return "DCCP"
	case protoRouting:
		return "Routing Header"
	case protoFragment:
		return "Fragment Header"
	case protoESP:
		return "ESP"
	case protoAH:
		return "AH"
	case protoICMP6:
		return "ICMPv6"
	case 59:
		return "No Next Header"
	case protoDestinations:
		return "Destination Options"
	case 132:
		return "SCTP"
	case protoUDPLite:
		return "UDP-Lite"
	}
	return fmt.Sprintf("protocol %d", p)
}

var icmp4Names = map[uint8]string{
	icmp4EchoReply: "Echo Reply", icmp4Unreachable: "Destination Unreachable", icmp4SourceQuench: "Source Quench",
	icmp4Redirect: "Redirect", icmp4Echo: "Echo", icmp4RouterAdvert: "Router Advertisement", icmp4RouterSolicit: "Router Solicitation",
	icmp4TimeExceeded: "Time Exceeded", icmp4ParameterProblem: "Parameter Problem", icmp4Timestamp: "Timestamp", 14: "Timestamp Reply",
	15: "Information Request", 16: "Information Reply", 17: "Address Mask Request", icmp4MaskReply: "Address Mask Reply",
}

var icmp6Names = map[uint8]string{
	icmp6Unreachable: "Destination Unreachable", icmp6TooBig: "Packet Too Big", icmp6TimeExceeded: "Time Exceeded",
	icmp6ParameterProblem: "Parameter Problem", icmp6Echo: "Echo Request", icmp6EchoReply: "Echo Reply",
	icmp6MLDQuery: "Multicast Listener Query", 131: "Multicast Listener Report", icmp6MLDDone: "Multicast Listener Done",
	icmp6RouterSolicit: "Router Solicitation", 134: "Router Advertisement", 135: "Neighbor Solicitation",
	136: "Neighbor Advertisement", icmp6Redirect: "Redirect", icmp6MLDv2: "Version 2 Multicast Listener Report",
}

// ICMPName gives an ICMP message's name with its numbers, for people.
func ICMPName(f Family, typ, code uint8) string {
	names := icmp4Names
	if f == V6 {
		names = icmp6Names
	}
	name := names[typ]
	switch {
	case name == "":
		name = "message"
	case f == V4 && typ == icmp4Unreachable && code == 4:
		name = "Fragmentation Needed"
	}
	return fmt.Sprintf("ICMPv%d %s (%d/%d)", f, name, typ, code)
}
