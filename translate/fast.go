package translate

import "encoding/binary"

// The fast path: one function per direction, which either recognises a plain
// packet and fills the Plan, or gives up without a verdict. Plain means TCP, UDP
// with a checksum or echo; no options, extension headers or fragments; hop limit
// above 1; one side of the pair has a host mapping, the other is under the first
// pool6 prefix and of no special class. It must never decide otherwise than
// decide6 and decide4 do.

// fast6 is IPv6 to IPv4.
func (t *Translator) fast6(pl *Plan, p []byte, m Meta) bool {
	if len(p) < header6Len+8 || m.SegmentSize != 0 {
		return false
	}
	h := (*[header6Len + 8]byte)(p)
	w := binary.BigEndian.Uint64(h[0:8])
	srcHi := binary.BigEndian.Uint64(h[8:16])
	srcLo := binary.BigEndian.Uint64(h[16:24])
	dstHi := binary.BigEndian.Uint64(h[24:32])
	dstLo := binary.BigEndian.Uint64(h[32:40])

	payload := int(w >> 16 & 0xffff)
	ttl := uint8(w)
	if header6Len+payload > len(p) || payload > maxPacket4-header4Len || ttl <= 1 {
		return false
	}
	if dstHi&t.pool.mask.hi != t.pool.prefix.hi || dstLo&t.pool.mask.lo != t.pool.prefix.lo {
		return false
	}
	var dst uint32
	if t.pool.bits == 96 {
		dst = uint32(dstLo)
	} else {
		dst = t.pool.extract(addr{dstHi, dstLo})
	}
	if class := t.class[dst>>16]; class != 0 && (class != classEAM || t.intrinsic) {
		return false
	}
	src := t.table.host6.find4(addr{srcHi, srcLo})
	if src == 0 {
		return false
	}

	in := sum64(srcHi) + sum64(srcLo) + sum64(dstHi) + sum64(dstLo)
	out := uint64(src) + uint64(dst)
	invert := uint16(0xffff)
	if m.PartialChecksum {
		invert = 0
	}
	k, ck, typ, udp, proto := kindPlain, uint16(header6Len+16), uint8(0), false, uint8(w>>8)
	switch proto {
	case protoTCP:
		if payload < 20 {
			return false
		}
	case protoUDP:
		ck, udp = header6Len+6, true
		if payload < 8 || h[46]|h[47] == 0 {
			return false
		}
	case protoICMP6:
		if payload < icmpHeader || invert == 0 {
			return false
		}
		// ICMPv6 sums a pseudo-header, ICMPv4 does not (RFC 7915 5.2).
		in += uint64(payload) + protoICMP6 + uint64(h[40])<<8
		switch h[40] {
		case icmp6Echo:
			typ = icmp4Echo
		case icmp6EchoReply:
			typ = icmp4EchoReply
		default:
			return false
		}
		out = uint64(typ) << 8
		k, ck, proto = kindEcho, header6Len+2, protoICMP4
	default:
		return false
	}

	pl.Verdict, pl.quick, pl.From, pl.To = Forward, true, V6, V4
	pl.DstHi, pl.DstLo = uint64(dst)<<32, 0
	pl.Len = header6Len + payload
	pl.OutLen = header4Len + payload
	pl.wire, pl.limit = header4Len+payload, maxPacket4
	pl.kind, pl.icmp, pl.udp, pl.full = k, typ, udp, false
	pl.invert, pl.ck, pl.delta = invert, ck, difference(out, in)
	pl.l4 = header6Len
	o := &pl.out
	o.src.hi, o.dst.hi = uint64(src)<<32, uint64(dst)<<32
	o.payload = payload
	o.tos = uint8(w>>52)&t.tosKeep | t.tosSet
	o.ttl, o.proto = ttl-1, proto
	o.offset, o.id = 0, 0
	o.flags = generateID
	if pl.OutLen > clearDF {
		o.flags = dontFrag
	}
	return true
}

// fast4 is IPv4 to IPv6.
func (t *Translator) fast4(pl *Plan, p []byte, m Meta) bool {
	if len(p) < header4Len+8 || m.SegmentSize != 0 {
		return false
	}
	h := (*[header4Len + 8]byte)(p)
	x := binary.BigEndian.Uint64(h[0:8])
	y := binary.BigEndian.Uint64(h[8:16])
	dst := binary.BigEndian.Uint32(h[16:20])
	src := uint32(y)

	total := int(x >> 32 & 0xffff)
	ttl := uint8(y >> 56)
	if x>>56 != 0x45 || x&(flagMF|0x1fff) != 0 || total > len(p) || ttl <= 1 {
		return false
	}
	if fold(sum64(x)+sum64(y)+uint64(dst)) != 0xffff {
		return false
	}
	if t.class[src>>16] != 0 || t.class[dst>>16] != classEAM {
		return false
	}
	to, ok := t.table.host4.find6(dst)
	if !ok {
		return false
	}
	from := addr{t.pool.prefix.hi, t.pool.prefix.lo | uint64(src)}
	if t.pool.bits != 96 {
		from = t.pool.embed(src)
	}

	payload := total - header4Len
	in := uint64(src) + uint64(dst)
	out := from.sum() + to.sum()
	invert := uint16(0xffff)
	if m.PartialChecksum {
		invert = 0
	}
	k, ck, typ, udp, proto := kindPlain, uint16(header4Len+16), uint8(0), false, uint8(y>>48)
	switch proto {
	case protoTCP:
		if payload < 20 {
			return false
		}
	case protoUDP:
		ck, udp = header4Len+6, true
		if payload < 8 || h[26]|h[27] == 0 {
			return false
		}
	case protoICMP4:
		if payload < icmpHeader || invert == 0 {
			return false
		}
		in = uint64(h[20]) << 8
		switch h[20] {
		case icmp4Echo:
			typ = icmp6Echo
		case icmp4EchoReply:
			typ = icmp6EchoReply
		default:
			return false
		}
		out += uint64(payload) + protoICMP6 + uint64(typ)<<8
		k, ck, proto = kindEcho, header4Len+2, protoICMP6
	default:
		return false
	}

	pl.Verdict, pl.quick, pl.From, pl.To = Forward, true, V4, V6
	pl.DstHi, pl.DstLo = to.hi, to.lo
	pl.Len = total
	pl.OutLen = header6Len + payload
	pl.wire = header6Len + payload
	pl.kind, pl.icmp, pl.udp, pl.full = k, typ, udp, false
	pl.invert, pl.ck, pl.delta = invert, ck, difference(out, in)
	pl.l4 = header4Len
	o := &pl.out
	o.src, o.dst = from, to
	o.payload = payload
	o.tos = uint8(x>>48)&t.tosKeep | t.tosSet
	o.ttl, o.proto = ttl-1, proto
	o.offset, o.id = 0, uint32(x>>16&0xffff)
	o.flags, pl.limit = 0, t.lowest
	if x&flagDF != 0 {
		o.flags, pl.limit = dontFrag, maxPacket4+header6Len
	}
	return true
}
