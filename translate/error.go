package translate

import (
	"encoding/binary"
	"net/netip"
)

// Sources are the addresses that our own ICMP errors come from where the Config
// names none: those of the port. Zero means none.
type Sources struct {
	V4 [4]byte
	V6 [16]byte
}

// Error replaces the untouched packet at buf[start:start+pl.Len] by the ICMP
// error that its verdict calls for, addressed to its sender, and gives where
// that is. It writes only to [start-Headroom, start+pl.Len). ok is false, and
// nothing is written, if the verdict calls for none, if there is no source
// address, or if the RFCs forbid one: about an ICMP error, a fragment that is
// not the first, or from or to an address that is not one node's (RFC 1122
// 3.2.2, RFC 1812 4.3.2.7, RFC 4443 2.4 e). Limiting the rate is the caller's.
func (t *Translator) Error(pl *Plan, buf []byte, start int, src Sources) (newStart, n int, ok bool) {
	if pl.Verdict.Action() != Answer {
		return 0, 0, false
	}
	if pl.From == V4 {
		return t.error4(pl, buf, start, src)
	}
	return t.error6(pl, buf, start, src)
}

const errorTTL = 64

func (t *Translator) error4(pl *Plan, buf []byte, start int, src Sources) (newStart, n int, ok bool) {
	p := buf[start : start+pl.Len]
	h, v := parse4(p, true)
	from := from4(binary.BigEndian.Uint32(src.V4[:]))
	if pool := t.config.ICMPSource4; len(pool) > 0 {
		from = from4(pick4(pool, 0))
	}
	switch {
	case v != Forward, from.hi == 0, h.offset != 0,
		t.class4(h.src.v4())&classMartian != 0, t.class4(h.dst.v4())&classMartian != 0:
		return 0, 0, false
	case h.proto == protoICMP4 && (h.l4 >= len(p) || isError4(p[h.l4])):
		return 0, 0, false
	}
	quote := min(pl.Len, maxError4-header4Len-icmpHeader)
	o := header{
		src: from, dst: h.src,
		payload: icmpHeader + quote,
		tos:     0xc0, // internetwork control, RFC 1812 4.3.2.5
		ttl:     errorTTL, proto: protoICMP4,
		flags: dontFrag,
	}
	e := &verdicts[pl.Verdict]
	msg := start - icmpHeader
	putMessage(buf[msg:start+quote], message{e.type4, e.code4, pl.errorParam()}, 0)
	return o.put(buf, msg, V4), header4Len + o.payload, true
}

func (t *Translator) error6(pl *Plan, buf []byte, start int, src Sources) (newStart, n int, ok bool) {
	p := buf[start : start+pl.Len]
	from := load6(&src.V6)
	if pool := t.config.ICMPSource6; len(pool) > 0 {
		from = pick6(pool, 0)
	}
	if len(p) < header6Len || from == (addr{}) {
		return 0, 0, false
	}
	to, dst := load6((*[16]byte)(p[8:])), load6((*[16]byte)(p[24:]))
	if martian6(to) || martian6(dst) {
		return 0, 0, false
	}
	proto, at, first := upper6(p)
	switch {
	case !first, proto == protoICMP6 && (at >= len(p) || isError6(p[at])):
		return 0, 0, false
	}
	quote := min(pl.Len, maxError6-header6Len-icmpHeader)
	o := header{src: from, dst: to, payload: icmpHeader + quote, ttl: errorTTL, proto: protoICMP6}
	e := &verdicts[pl.Verdict]
	msg := start - icmpHeader
	putMessage(buf[msg:start+quote], message{e.type6, e.code6, pl.errorParam()}, pseudo(&o, V6))
	return o.put(buf, msg, V6), header6Len + o.payload, true
}

// errorParam is the second word of our own error: MTU or pointer.
func (pl *Plan) errorParam() uint32 {
	switch pl.Verdict {
	case TooBig4, TooBig6, BadOption4, RoutingHeader6:
		return pl.param
	}
	return 0
}

// putMessage writes an ICMP head in front of the quote that b holds from byte 8.
func putMessage(b []byte, m message, pseudo uint64) {
	b[0], b[1], b[2], b[3] = m.typ, m.code, 0, 0
	binary.BigEndian.PutUint32(b[4:], m.rest)
	binary.BigEndian.PutUint16(b[2:], ^fold(pseudo+uint64(sum(b))))
}

// upper6 walks through all extension headers, those that translation refuses
// included. first is false for later fragments and broken chains.
func upper6(p []byte) (proto uint8, at int, first bool) {
	proto, at = p[6], header6Len
	for range maxExtensions {
		n := 0
		switch proto {
		case protoHopByHop, protoDestinations, protoRouting:
			n = 8
		case protoFragment, protoAH:
		default:
			return proto, at, true
		}
		if at+8 > len(p) {
			return 0, 0, false
		}
		switch proto {
		case protoFragment:
			if binary.BigEndian.Uint16(p[at+2:])>>3 != 0 {
				return 0, 0, false
			}
			n = 8
		case protoAH: // in 32-bit words, minus 2 (RFC 4302 2.2)
			n = (int(p[at+1]) + 2) * 4
		default:
			n += int(p[at+1]) * 8
		}
		proto = p[at]
		at += n
	}
	return 0, 0, false
}

// pick4 takes an address of a pool: for one hash always the same, so that a
// router keeps its face in a traceroute, and different ones for different
// routers where the pool allows it (RFC 6791 3).
func pick4(pool []netip.Prefix, hash uint64) uint32 {
	p := pool[hash>>32%uint64(len(pool))]
	v := toAddr(p.Addr()).v4()
	host := uint64(1) << (32 - p.Bits())
	if host > 2 { // neither the network's nor the broadcast address
		return v + 1 + uint32(hash%(host-2))
	}
	return v + uint32(hash%host)
}

func pick6(pool []netip.Prefix, hash uint64) addr {
	p := pool[hash>>32%uint64(len(pool))]
	a := toAddr(p.Addr())
	host := uint(min(32, 128-p.Bits()))
	if host == 0 {
		return a
	}
	h := hash & (1<<host - 1)
	if h == 0 {
		h = 1 // zero is the subnet-router anycast address (RFC 4291 2.6.1)
	}
	a.lo |= h
	return a
}
