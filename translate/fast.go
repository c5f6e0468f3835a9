package translate

import (
	"encoding/binary"
	"math/bits"
)

// The fast path either recognises a plain packet and fills the Plan, or leaves
// everything to the complete path. Plain
// means neither a superpacket nor a partial checksum; TCP, UDP with a checksum or echo; no options, extension headers or
// fragments; hop limit above 1; one side of the pair has a host mapping, the other
// is under the first pool6 prefix and of no special class. It must never decide
// otherwise than decide6 and decide4 do.
//
// It settles the new header's words and the new checksum at once, so that
// Rewrite only stores them.

// In between there is no call: even one that is never made would cost more in
// saved registers than it could do.

// Decide reads the packet p, which starts with its IP header and may carry
// Ethernet padding behind it, and fills pl with what becomes of it. It changes
// nothing in p.
func (t *Translator) Decide(pl *Plan, p []byte, m Meta) Verdict {
plain:
	switch {
	case m != Meta{}:
	case len(p) >= header6Len+8 && p[0]>>4 == 6: // IPv6 to IPv4
		h := (*[header6Len + 8]byte)(p)
		srcHi := binary.BigEndian.Uint64(h[8:16])
		srcLo := binary.BigEndian.Uint64(h[16:24])
		dstHi := binary.BigEndian.Uint64(h[24:32])
		dstLo := binary.BigEndian.Uint64(h[32:40])

		// The destination must be under the pool, and of no special class.
		dst := uint32(dstLo)
		if dstHi != t.pool.prefix.hi || dstLo>>32 != t.pool.prefix.lo>>32 || t.class[dst>>16] != 0 {
			break plain
		}

		// The source must have a host mapping.
		lines := t.host6.lines
		key := mix(srcHi, srcLo)
		at := t.host6.slot(hash6(key))
		var src uint32
		for {
			if at >= uint64(len(lines)) {
				break plain
			}
			l := &lines[at]
			if i := l.place6(key); l.mix[i] == key && l.hi[i] == srcHi {
				src = l.four[i]
				break
			}
			if l.four[2] == 0 {
				break plain
			}
			at++
		}

		w := binary.BigEndian.Uint64(h[0:8])
		payload := int(w >> 16 & 0xffff)
		if payload > len(p)-header6Len || uint8(w) <= 1 || src == 0 {
			break plain
		}
		x := 0x45<<56 | (w>>52&t.tosKeep|t.tosSet)<<48 | uint64(header4Len+payload)<<32
		// Next header and hop limit stand the other way around in IPv4.
		y := uint64(bits.ReverseBytes16(uint16(w)))<<48 - 1<<56 | uint64(src)
		// What the checksum's sum changes by: the embedded address is in both
		// pseudo-headers, so of the destination only the prefix counts.
		s := plus(^plus(srcHi, srcLo), uint64(src)+t.poolLess)

		pl.echo = false
		switch uint8(w >> 8) {
		case protoTCP:
			if payload < 20 || len(p) < header6Len+20 {
				break plain
			}
			z := binary.BigEndian.Uint64(p[header6Len+12:]) // flags to urgent pointer
			if z&t.syn != 0 {
				break plain
			}
			pl.ck = header6Len + 16
			pl.check = ^fold(plus(s, uint64(^uint16(z>>16))))
		case protoUDP:
			if payload < 8 || h[46]|h[47] == 0 {
				break plain
			}
			pl.ck = header6Len + 6
			pl.check = ^fold(plus(s, uint64(^binary.BigEndian.Uint16(h[46:]))))
			if pl.check == 0 {
				pl.check = 0xffff // RFC 768
			}
		case protoICMP6:
			if payload < icmpHeader || h[40] != icmp6Echo && h[40] != icmp6EchoReply {
				break plain
			}
			pl.echo, pl.icmp = true, icmp4EchoReply
			if h[40] == icmp6Echo {
				pl.icmp = icmp4Echo
			}
			y ^= (protoICMP6 ^ protoICMP4) << 48
			// ICMPv6 sums a pseudo-header, ICMPv4 does not (RFC 7915 5.2).
			s = plus(s, bias+uint64(pl.icmp)<<8-uint64(h[40])<<8-uint64(payload)-protoICMP6-uint64(src)-uint64(dst))
			pl.ck = header6Len + 2
			pl.check = ^fold(plus(s, uint64(^binary.BigEndian.Uint16(h[42:]))))
			if pl.check == 0 && pl.icmp == icmp4EchoReply {
				break plain // it may be all zeros, see fixZero
			}
		default:
			break plain
		}

		pl.genID = true
		if payload > clearDF-header4Len {
			if payload > maxPacket4-header4Len {
				break plain
			}
			pl.genID = false
			x |= flagDF
		}
		pl.Verdict, pl.quick, pl.From, pl.To = Forward, true, V6, V4
		pl.DstHi, pl.DstLo = uint64(dst)<<32, 0
		pl.Len = header6Len + payload
		pl.OutLen = header4Len + payload
		pl.limit = maxPacket4
		pl.head[0], pl.head[1] = x, y
		return Forward
	case len(p) >= header4Len+8 && p[0] == 0x45:
		if t.fast4(pl, p) {
			return Forward
		}
	}
	return t.decide(pl, p, m)
}

// Locate says where the mapping is that Decide will look for, for Fetch. It reads
// the packet only.
func (t *Translator) Locate(p []byte) uint32 {
	if len(p) < header6Len || p[0]>>4 != 6 {
		return t.locate4(p)
	}
	h := (*[header6Len]byte)(p)
	return uint32(t.host6.slot(hash6(mix(binary.BigEndian.Uint64(h[8:16]), binary.BigEndian.Uint64(h[16:24])))))
}

func (t *Translator) locate4(p []byte) uint32 {
	if len(p) < header4Len || p[0]>>4 != 4 {
		return 0
	}
	h := (*[header4Len]byte)(p)
	return uint32(len(t.table.lines)/2) + uint32(t.host4.slot(hash4(binary.BigEndian.Uint32(h[16:20]))))
}

// Fetch brings the mappings of a batch of packets, as Locate gave them, into the
// cache. With more mappings than the processor caches, the packets then wait for
// memory together instead of one after the other; the loop is short, so that the
// processor has all of it under way at once. If Large, call Locate for every
// packet of a batch and Fetch for all before Decide for the first. The result
// says nothing.
//
//go:noinline
func (t *Translator) Fetch(at []uint32) (sum uint32) {
	lines := t.table.lines
	for _, i := range at {
		if int(i) < len(lines) {
			sum += lines[i].four[0]
		}
	}
	return sum
}

// Large tells whether there are so many mappings that Fetch is worth its while.
func (t *Translator) Large() bool { return len(t.table.lines) > largeTable }

// largeTable is in cache lines: 4 MB, more than a core's own cache.
const largeTable = 1 << 16

// fast4 is IPv4 to IPv6. p has at least 28 bytes.
func (t *Translator) fast4(pl *Plan, p []byte) bool {
	h := (*[header4Len + 8]byte)(p)
	x := binary.BigEndian.Uint64(h[0:8])
	y := binary.BigEndian.Uint64(h[8:16])
	dst := binary.BigEndian.Uint32(h[16:20])
	src := uint32(y)
	if t.class[src>>16] != 0 || t.class[dst>>16]&^classPrivate != classEAM {
		return false
	}

	lines := t.host4.lines
	at := t.host4.slot(hash4(dst))
	var hi, lo uint64
	for {
		if at >= uint64(len(lines)) {
			return false
		}
		l := &lines[at]
		if i := l.place4(dst); l.four[i] == dst {
			hi, lo = l.hi[i], mix(l.hi[i], l.mix[i])
			break
		}
		if l.four[2] == 0 {
			return false
		}
		at++
	}

	payload := int(x>>32&0xffff) - header4Len
	if x&(flagMF|0x1fff) != 0 || payload > len(p)-header4Len || y>>56 <= 1 ||
		fold(plus(plus(x, y), uint64(dst))) != 0xffff {
		return false
	}
	w := 6<<60 | (x>>48&t.tosKeep|t.tosSet)<<52 | uint64(payload)<<16 | uint64(bits.ReverseBytes16(uint16(y>>48))-1)
	s := plus(plus(hi, lo), t.poolSum+bias-uint64(dst))

	pl.echo = false
	switch uint8(y >> 48) {
	case protoTCP:
		if payload < 20 || len(p) < header4Len+20 {
			return false
		}
		z := binary.BigEndian.Uint64(p[header4Len+12:]) // flags to urgent pointer
		if z&t.syn != 0 {
			return false
		}
		pl.ck = header4Len + 16
		pl.check = ^fold(plus(s, uint64(^uint16(z>>16))))
	case protoUDP:
		if payload < 8 || h[26]|h[27] == 0 {
			return false
		}
		pl.ck = header4Len + 6
		pl.check = ^fold(plus(s, uint64(^binary.BigEndian.Uint16(h[26:]))))
		if pl.check == 0 {
			pl.check = 0xffff
		}
	case protoICMP4:
		if payload < icmpHeader || h[20] != icmp4Echo && h[20] != icmp4EchoReply {
			return false
		}
		pl.echo, pl.icmp = true, icmp6EchoReply
		if h[20] == icmp4Echo {
			pl.icmp = icmp6Echo
		}
		w ^= (protoICMP6 ^ protoICMP4) << 8
		s = plus(s, bias+uint64(pl.icmp)<<8-uint64(h[20])<<8+uint64(payload)+protoICMP6+uint64(src)+uint64(dst))
		pl.ck = header4Len + 2
		pl.check = ^fold(plus(s, uint64(^binary.BigEndian.Uint16(h[22:]))))
	default:
		return false
	}

	pl.Verdict, pl.quick, pl.From, pl.To = Forward, true, V4, V6
	pl.DstHi, pl.DstLo = hi, lo
	pl.Len = header4Len + payload
	pl.OutLen = header6Len + payload
	pl.limit = t.lowest
	if x&flagDF != 0 {
		pl.limit = maxPacket4 + header6Len
	}
	pl.out.id = uint32(x >> 16 & 0xffff)
	pl.head[0], pl.head[1], pl.head[2] = w, t.pool.prefix.hi, t.pool.prefix.lo|uint64(src)
	return true
}

// expand turns a fast Plan into a complete one, for Fit to go on with.
func (pl *Plan) expand() {
	w := pl.head[0]
	o := &pl.out
	*o = header{dst: addr{pl.DstHi, pl.DstLo}, id: o.id}
	if pl.To == V4 {
		y := pl.head[1]
		o.src, o.tos, o.ttl, o.proto = addr{hi: y << 32}, uint8(w>>48), uint8(y>>56), uint8(y>>48)
		o.id, o.flags = 0, dontFrag
		if pl.genID {
			o.flags = generateID
		}
		pl.l4, o.payload = header6Len, pl.OutLen-header4Len
	} else {
		o.src, o.tos, o.ttl, o.proto = addr{pl.head[1], pl.head[2]}, uint8(w>>52), uint8(w), uint8(w>>8)
		if pl.limit > maxPacket4 {
			o.flags = dontFrag
		}
		pl.l4, o.payload = header4Len, pl.OutLen-header6Len
	}
	pl.quick, pl.kind, pl.full, pl.invert, pl.wire, pl.mss.at = false, kindReady, false, 0xffff, pl.OutLen, 0
}
