package translate

// ICMP types (RFC 792, RFC 4443) and what they become (RFC 7915 4.2, 5.2).
//
//	 0               1               2               3
//	+---------------+---------------+-------------------------------+
//	|     type      |     code      |           checksum            |
//	+---------------+---------------+-------------------------------+
//	| v4: pointer   | v4: length    | v4: next-hop MTU              |
//	| v6: length    |               |                               |  v6: or a 32-bit
//	+---------------+---------------+-------------------------------+      MTU or pointer
//	| the packet that the error is about ...                        |
const (
	icmp4EchoReply        = 0
	icmp4Unreachable      = 3
	icmp4SourceQuench     = 4
	icmp4Redirect         = 5
	icmp4Echo             = 8
	icmp4RouterAdvert     = 9
	icmp4RouterSolicit    = 10
	icmp4TimeExceeded     = 11
	icmp4ParameterProblem = 12
	icmp4Timestamp        = 13
	icmp4MaskReply        = 18

	icmp6Unreachable      = 1
	icmp6TooBig           = 2
	icmp6TimeExceeded     = 3
	icmp6ParameterProblem = 4
	icmp6FirstQuery       = 128 // types below are errors
	icmp6Echo             = 128
	icmp6EchoReply        = 129
	icmp6MLDQuery         = 130
	icmp6MLDDone          = 132
	icmp6RouterSolicit    = 133
	icmp6Redirect         = 137
	icmp6MLDv2            = 143

	icmpHeader = 8
)

// isError4 tells ICMPv4 errors from queries (RFC 1122 3.2.2).
func isError4(typ uint8) bool {
	switch typ {
	case icmp4Unreachable, icmp4SourceQuench, icmp4Redirect, icmp4TimeExceeded, icmp4ParameterProblem:
		return true
	}
	return false
}

// isError6 tells ICMPv6 errors from queries (RFC 4443 2.1). A redirect counts as
// one where it matters, which is whether an error may be sent about it (2.4 e).
func isError6(typ uint8) bool { return typ < icmp6FirstQuery || typ == icmp6Redirect }

// message is an ICMP message's type, code and second word, without the RFC 4884
// length. For a Packet Too Big of either family, rest is the MTU.
type message struct {
	typ, code uint8
	rest      uint32
}

// noPointer marks header fields that the other family does not have.
const noPointer = 0xff

// pointers4 and pointers6 say where a byte of one header is in the other
// (RFC 7915 figures 3 and 6).
var pointers4 = [20]uint8{
	0: 0, 1: 1, 2: 4, 3: 4, // version, type of service, total length
	4: noPointer, 5: noPointer, 6: noPointer, 7: noPointer, // identification, fragment
	8: 7, 9: 6, // time to live, protocol
	10: noPointer, 11: noPointer, // checksum
	12: 8, 13: 8, 14: 8, 15: 8, // source
	16: 24, 17: 24, 18: 24, 19: 24, // destination
}

var pointers6 = [40]uint8{
	0: 0, 1: 1, // version, traffic class
	2: noPointer, 3: noPointer, // flow label
	4: 2, 5: 2, 6: 9, 7: 8, // payload length, next header, hop limit
	8: 12, 9: 12, 10: 12, 11: 12, 12: 12, 13: 12, 14: 12, 15: 12, // source
	16: 12, 17: 12, 18: 12, 19: 12, 20: 12, 21: 12, 22: 12, 23: 12,
	24: 16, 25: 16, 26: 16, 27: 16, 28: 16, 29: 16, 30: 16, 31: 16, // destination
	32: 16, 33: 16, 34: 16, 35: 16, 36: 16, 37: 16, 38: 16, 39: 16,
}

// icmp4to6 translates an ICMPv4 error's head; word is its second word.
func icmp4to6(typ, code uint8, word uint32) (message, Verdict) {
	switch typ {
	case icmp4Unreachable:
		switch code {
		case 0, 1, 5, 6, 7, 8, 11, 12:
			return message{typ: icmp6Unreachable, code: 0}, Forward
		case 2: // protocol unreachable: the Next Header field is to blame
			return message{typ: icmp6ParameterProblem, code: 1, rest: 6}, Forward
		case 3:
			return message{typ: icmp6Unreachable, code: 4}, Forward
		case 4:
			return message{typ: icmp6TooBig, rest: word & 0xffff}, Forward
		case 9, 10, 13, 15:
			return message{typ: icmp6Unreachable, code: 1}, Forward
		}
		return message{}, ICMP4Code
	case icmp4TimeExceeded:
		return message{typ: icmp6TimeExceeded, code: code}, Forward
	case icmp4ParameterProblem:
		if code != 0 && code != 2 {
			return message{}, ICMP4Code
		}
		p := word >> 24
		if p >= uint32(len(pointers4)) || pointers4[p] == noPointer {
			return message{}, ICMP4Pointer
		}
		return message{typ: icmp6ParameterProblem, rest: uint32(pointers4[p])}, Forward
	case icmp4Redirect, icmp4RouterAdvert, icmp4RouterSolicit:
		return message{}, ICMP4SingleHop
	case icmp4SourceQuench:
		return message{}, ICMP4Obsolete
	}
	if typ >= icmp4Timestamp && typ <= icmp4MaskReply {
		return message{}, ICMP4Obsolete
	}
	return message{}, ICMP4Unknown
}

// icmp6to4 translates an ICMPv6 error's head.
func icmp6to4(typ, code uint8, word uint32) (message, Verdict) {
	switch typ {
	case icmp6Unreachable:
		switch code {
		case 0, 2, 3:
			return message{typ: icmp4Unreachable, code: 1}, Forward
		case 1:
			return message{typ: icmp4Unreachable, code: 10}, Forward
		case 4:
			return message{typ: icmp4Unreachable, code: 3}, Forward
		}
		return message{}, ICMP6Code
	case icmp6TooBig:
		return message{typ: icmp4Unreachable, code: 4, rest: word}, Forward
	case icmp6TimeExceeded:
		return message{typ: icmp4TimeExceeded, code: code}, Forward
	case icmp6ParameterProblem:
		switch code {
		case 0:
			if word >= uint32(len(pointers6)) || pointers6[word] == noPointer {
				return message{}, ICMP6Pointer
			}
			return message{typ: icmp4ParameterProblem, rest: uint32(pointers6[word]) << 24}, Forward
		case 1:
			return message{typ: icmp4Unreachable, code: 2}, Forward
		}
		return message{}, ICMP6Code
	}
	switch {
	case typ >= icmp6MLDQuery && typ <= icmp6MLDDone || typ == icmp6MLDv2:
		return message{}, ICMP6Multicast
	case typ >= icmp6RouterSolicit && typ <= icmp6Redirect:
		return message{}, ICMP6Neighbour
	}
	return message{}, ICMP6Unknown
}

// icmp6to6 is both, for hairpinned errors (RFC 7757 4.2.2).
func icmp6to6(typ, code uint8, word uint32) (message, Verdict) {
	m, v := icmp6to4(typ, code, word)
	if v != Forward {
		return m, v
	}
	if typ == icmp6TooBig {
		return message{typ: icmp6TooBig, rest: word}, Forward // 32 bits would not pass through 16
	}
	return icmp4to6(m.typ, m.code, m.rest)
}

// extensible tells the messages that carry an RFC 4884 length. ICMPv6 has none in
// Packet Too Big and Parameter Problem.
func extensible(f Family, typ uint8) bool {
	if f == V4 {
		return typ == icmp4Unreachable || typ == icmp4TimeExceeded || typ == icmp4ParameterProblem
	}
	return typ == icmp6Unreachable || typ == icmp6TimeExceeded
}

// plateaus are likely path MTUs (RFC 1191 7), for routers that do not say theirs.
var plateaus = [...]uint32{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68}

// plateau guesses the MTU that a packet of total bytes did not fit.
func plateau(total uint32) uint32 {
	for _, p := range plateaus {
		if p < total {
			return p
		}
	}
	return plateaus[len(plateaus)-1]
}
