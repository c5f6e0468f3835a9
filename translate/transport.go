package translate

import "encoding/binary"

// finish is what both directions share once addresses and hop limit are settled:
// transport, fragments, sizes.
func (t *Translator) finish(pl *Plan, h *parsed, p []byte, m Meta) Verdict {
	p = p[:h.total]
	o := &pl.out
	pl.l4, pl.limit, pl.mss.at = h.l4, 0, 0
	pl.kind, pl.ck, pl.icmp, pl.udp, pl.full = kindPlain, 0, 0, false, false
	pl.invert = 0xffff
	if m.PartialChecksum {
		pl.invert = 0
	}
	v := t.transport(pl, h, p, m)
	if v != Forward {
		return pl.end(v)
	}

	if pl.To == V4 {
		o.flags &^= dontFrag | generateID
		if o.flags&isFragment == 0 {
			o.id = 0
		}
	}
	if pl.kind != kindError {
		pl.OutLen = o.len(pl.To) + o.payload
	}
	// Even between two IPv6 nodes, a packet goes by way of IPv4.
	if pl.From == V6 && header4Len+o.payload > maxPacket4 {
		return pl.end(TooLong)
	}
	pl.wire = pl.OutLen
	if n := segment(h, p[h.l4:], m); n > 0 {
		pl.wire = min(pl.wire, o.len(pl.To)+n)
		if pl.full {
			return pl.end(Superpacket)
		}
	}
	if pl.To == V4 && o.flags&isFragment == 0 {
		// RFC 7915 5.1: up to 1260 bytes, routers behind us may fragment.
		if pl.wire <= clearDF {
			o.flags |= generateID
		} else {
			o.flags |= dontFrag
		}
	}
	pl.DstHi, pl.DstLo = o.dst.hi, o.dst.lo
	return pl.end(Forward)
}

// segment gives the transport header and payload of one wire segment of a
// superpacket, 0 if it is none.
func segment(h *parsed, l4 []byte, m Meta) int {
	if m.SegmentSize == 0 || h.flags&isFragment != 0 {
		return 0
	}
	switch h.proto {
	case protoTCP:
		return int(l4[12]>>4)*4 + int(m.SegmentSize)
	case protoUDP:
		return 8 + int(m.SegmentSize)
	}
	return 0
}

// transport plans the transport header's change: checksum, ICMP type.
func (t *Translator) transport(pl *Plan, h *parsed, p []byte, m Meta) Verdict {
	o := &pl.out
	pl.delta = difference(o.src.sum()+o.dst.sum(), h.src.sum()+h.dst.sum())
	l4 := p[h.l4:]

	if h.proto == protoICMP4 || h.proto == protoICMP6 {
		if h.fam == V4 && h.proto == protoICMP6 {
			return Protocol4
		}
		if h.fam == V6 && h.proto == protoICMP4 {
			return Protocol6
		}
		return t.icmp(pl, h, p, m)
	}
	if h.fam == V4 {
		switch h.proto {
		case protoHopByHop, protoRouting, protoFragment, protoDestinations:
			return Protocol4
		case protoIGMP:
			return IGMP4
		}
	}
	if h.offset != 0 {
		return Forward // no transport header here
	}

	at, least := checksumAt(h.proto)
	if at == 0 {
		return Forward
	}
	if len(l4) < least {
		if h.flags&more != 0 {
			return TinyFragment
		}
		return ShortTransport
	}
	pl.ck = h.l4 + at
	if h.proto == protoTCP && t.syn != 0 && m.SegmentSize == 0 {
		pl.mss = findMSS(l4)
	}
	if h.proto != protoUDP {
		pl.udp = h.proto == protoUDPLite
		return Forward
	}
	pl.udp = true
	if pl.invert == 0 || binary.BigEndian.Uint16(l4[at:]) != 0 {
		return Forward
	}
	// UDP without a checksum. IPv4 takes it as it is; IPv6 must not.
	if h.fam == V6 {
		pl.ck = 0
		return Forward
	}
	n := int(binary.BigEndian.Uint16(l4[4:]))
	switch {
	case h.flags&more != 0:
		return UDPZeroFragment
	case t.udpZeroDrop:
		return UDPZeroChecksum
	case n < 8 || n > len(l4):
		return UDPLength
	}
	pl.full, pl.sumLen = true, n
	return Forward
}

// icmp plans an ICMP message.
func (t *Translator) icmp(pl *Plan, h *parsed, p []byte, m Meta) Verdict {
	o := &pl.out
	if h.offset != 0 || h.flags&more != 0 {
		return FragmentedICMP
	}
	l4 := p[h.l4:]
	if len(l4) < icmpHeader {
		return ShortTransport
	}
	o.proto = protoICMP4
	if pl.To == V6 {
		o.proto = protoICMP6
	}
	pl.ck = h.l4 + 2

	out, ok := echo(l4[0], pl.From, pl.To)
	if !ok {
		pl.kind = kindError
		return t.icmpError(pl, h, p)
	}
	pl.kind, pl.icmp = kindEcho, out
	d := pseudo(o, pl.To)
	i := pseudo(&h.header, h.fam)
	if pl.invert != 0 { // a partial checksum does not hold the message yet
		d += uint64(out) << 8
		i += uint64(l4[0]) << 8
	}
	pl.delta = difference(d, i)
	return Forward
}

// pseudo is an ICMP message's pseudo-header sum: IPv4 has none.
func pseudo(h *header, f Family) uint64 {
	if f == V4 {
		return 0
	}
	return h.src.sum() + h.dst.sum() + uint64(h.payload) + protoICMP6
}

// echo translates echo request and reply (RFC 7915 4.2, 5.2).
func echo(typ uint8, from, to Family) (out uint8, ok bool) {
	switch {
	case from == V4 && typ == icmp4Echo:
		return icmp6Echo, true
	case from == V4 && typ == icmp4EchoReply:
		return icmp6EchoReply, true
	case from == V6 && typ == icmp6Echo && to == V4:
		return icmp4Echo, true
	case from == V6 && typ == icmp6EchoReply && to == V4:
		return icmp4EchoReply, true
	case from == V6 && (typ == icmp6Echo || typ == icmp6EchoReply):
		return typ, true
	}
	return 0, false
}
