package twin

import (
	"encoding/binary"

	"aarch64.com/isthmus/translate"
)

// checksumField says where a transport header has a checksum that covers the
// addresses, and how long the header is at least.
//
// RFC 7915 4.5: "UDP [...] TCP and ICMP. [...] Other transport protocols (e.g.,
// the Datagram Congestion Control Protocol (DCCP)) are OPTIONAL to support. In
// order to ease debugging and troubleshooting, translators MUST forward all
// transport protocols as described in the 'Next Header' step of Section 4.1."
func checksumField(proto byte) (at, least int, known bool) {
	switch proto {
	case 6:
		return 16, 20, true // RFC 9293 3.1
	case 17, 136:
		return 6, 8, true // RFC 768, RFC 3828
	case 33:
		return 6, 12, true // RFC 4340 5.1
	}
	return 0, 0, false
}

// transport translates what stands behind the IP header: w.old and w.new are
// there, l4 is the old payload, w.body becomes the new one.
func (w *work) transport(l4 []byte) translate.Verdict {
	h, n := w.old, w.new
	w.body = append([]byte{}, l4...)

	// A header of the other family's ICMP would turn into the real thing, and
	// protocol numbers that are extension headers in IPv6 would become some.
	switch {
	case h.version == 4 && h.proto == 2:
		// RFC 7915 4.2: "all the 'normal' IGMP messages are single-hop messages and
		// SHOULD be silently dropped by the translator. Other IGMP messages [...]
		// SHOULD also be silently dropped."
		return translate.IGMP4
	case h.version == 4 && (h.proto == 0 || h.proto == 43 || h.proto == 44 || h.proto == 58 || h.proto == 60):
		return translate.Protocol4
	case h.version == 4 && h.proto == 2:
		// "all the "normal" IGMP messages are single-hop messages and SHOULD be
		// silently dropped by the translator."
		return translate.IGMP4
	case h.version == 6 && h.proto == 1:
		return translate.Protocol6
	case h.proto == 1 || h.proto == 58:
		return w.icmpMessage(l4)
	case h.offset > 0:
		return translate.Forward // its transport header is in the first fragment
	}

	at, least, known := checksumField(h.proto)
	if !known {
		return translate.Forward
	}
	if len(l4) < least {
		if h.more {
			return translate.TinyFragment // RFC 1858 3
		}
		return translate.ShortTransport
	}
	udp := h.proto == 17 || h.proto == 136
	if h.proto == 17 && l4[6] == 0 && l4[7] == 0 && !w.in.Meta.PartialChecksum {
		return w.udpWithoutChecksum(l4)
	}
	if h.proto == 6 {
		// The sums over the old bytes must tell damage, not this change.
		w.clampMSS()
	}
	w.checksum(h, l4, n, at, udp)
	return translate.Forward
}

// checksum puts the transport checksum into w.body.
func (w *work) checksum(h header, l4 []byte, n header, at int, udp bool) {
	to := n.version
	before, after := pseudo(h, h.version, len(l4)), pseudo(n, to, len(w.body))
	var c uint16
	if w.in.Meta.PartialChecksum {
		c = repartial(before, l4, after, at)
		w.partial, w.partialUDP = at, udp
	} else {
		c = recompute(before, l4, after, w.body, at)
		if udp && c == 0 {
			c = 0xffff // RFC 768: "If the computed checksum is zero, it is transmitted as all ones"
		}
	}
	binary.BigEndian.PutUint16(w.body[at:], c)
}

// udpWithoutChecksum: RFC 768 allows it over IPv4.
//
// RFC 7915 4.5: "If the [UDP] checksum [...] is zero [...] the translator SHOULD
// provide a configuration function to allow: 1. Dropping the packet and generating
// a system management event [...]. 2. Calculating an IPv6 checksum and forwarding
// the packet". "A translator MUST NOT [...]" with fragments: "When a stateless
// translator receives the first fragment of a fragmented UDP IPv4 packet and the
// checksum field is zero, the translator SHOULD drop the packet".
func (w *work) udpWithoutChecksum(l4 []byte) translate.Verdict {
	if w.old.version == 6 {
		return translate.Forward // IPv4 takes it as it is, and it came from IPv6 so
	}
	n := int(binary.BigEndian.Uint16(l4[4:6]))
	switch {
	case w.old.more:
		return translate.UDPZeroFragment
	case w.in.Config.UDPZeroChecksum == translate.UDPZeroDrop:
		return translate.UDPZeroChecksum
	case n < 8 || n > len(l4):
		return translate.UDPLength
	case superpacket(w.in.Meta, w.old):
		return translate.Superpacket // each segment would need its own
	}
	c := ^ones(pseudo(w.new, 6, n), l4[:n])
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(w.body[6:], c)
	return translate.Forward
}

// superpacket tells whether the packet will be cut into segments.
func superpacket(m translate.Meta, h header) bool {
	return m.SegmentSize > 0 && !h.fragment && (h.proto == 6 || h.proto == 17)
}
