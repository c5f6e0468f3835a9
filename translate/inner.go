package translate

import "encoding/binary"

// An ICMP error quotes the packet that it is about. The quote is translated by
// the same rules, with the roles of the addresses swapped, and its hop limit as
// it is (RFC 7915 4.3, 5.3):
//
//	| IP | ICMP 8 | inner IP ... | inner payload | pad | extensions |
//	                 hdr           pay             pad   extLen
//
// pad and extensions are RFC 4884's: a quote in front of extensions has a length
// in 32-bit words (ICMPv4) or 64-bit words (ICMPv6), at least 128 bytes.
type inner struct {
	header
	msg    message // the new ICMP head
	length uint8   // the new RFC 4884 length
	hdr    int     // bytes of the quoted IP header, options and extension headers included
	pay    int     // bytes of what is quoted behind it, as many as are kept
	pad    int     // zeros behind them
	ext    int     // where the extensions start in the incoming packet
	extLen int     // their length, 0: none, or removed
	icmp   int     // the new type of a quoted echo, -1: none
	ck     int     // offset of the quoted transport checksum in pay, -1: none
	delta  uint16
	udp    bool
	mtu    bool // msg.rest is an MTU, which Fit finishes
}

const (
	maxError4  = 576  // RFC 1812 4.3.2.3
	maxError6  = 1280 // RFC 4443 2.4 c
	minQuote   = 128  // RFC 4884 4.1, with extensions
	lengthAt4  = 5    // where the RFC 4884 length is in an ICMPv4 message
	lengthAt6  = 4
	lengthUnit = 4 // bytes of an ICMPv4 length word
)

// icmpError plans an ICMP message that is no echo.
func (t *Translator) icmpError(pl *Plan, h *parsed, p []byte) Verdict {
	in := &pl.inner
	*in = inner{icmp: -1, ck: -1}
	pl.delta = fold(pseudo(&h.header, h.fam)) // rewriteError brings the rest
	l4 := p[h.l4:]
	typ, word := l4[0], binary.BigEndian.Uint32(l4[4:])
	var v Verdict
	switch {
	case h.fam == V4:
		in.msg, v = icmp4to6(typ, l4[1], word)
		in.mtu = in.msg.typ == icmp6TooBig
	case pl.To == V4:
		in.msg, v = icmp6to4(typ, l4[1], word)
		in.mtu = typ == icmp6TooBig
	default:
		in.msg, v = icmp6to6(typ, l4[1], word)
		in.mtu = typ == icmp6TooBig
	}
	if v != Forward {
		return v
	}

	quote := l4[icmpHeader:]
	if n := quoteLength(h.fam, typ, l4); n > 0 && n <= len(quote) {
		if n < len(quote) && n >= minQuote && extensible(pl.To, in.msg.typ) {
			in.ext, in.extLen = h.l4+icmpHeader+n, len(quote)-n
		}
		quote = quote[:n]
	}
	var q parsed
	if h.fam == V4 {
		q, v = parse4(quote, true)
	} else {
		q, v = parse6(quote, true)
	}
	if v != Forward {
		return innerVerdict(v)
	}
	if v := t.innerAddresses(pl, h, &q); v != Forward {
		return v
	}
	if v := innerTransport(pl, &q, quote); v != Forward {
		return v
	}
	in.tos = t.trafficClass(q.tos)
	in.id &= 0xffff
	if pl.To == V4 {
		in.flags &^= dontFrag
		if in.flags&isFragment == 0 {
			in.id = 0
			if header4Len+in.payload > clearDF {
				in.flags |= dontFrag
			} else {
				in.flags |= generateID
			}
		}
	}
	if in.payload > maxPacket4-header4Len {
		return InnerLength
	}
	if in.mtu && h.fam == V4 && in.msg.rest == 0 {
		in.msg.rest = plateau(uint32(q.total)) // RFC 7915 4.2
	}
	pl.layOut(h, len(quote))
	return Forward
}

// quoteLength gives the RFC 4884 length in bytes, 0 if there is none.
func quoteLength(f Family, typ uint8, l4 []byte) int {
	switch {
	case !extensible(f, typ):
		return 0
	case f == V4:
		return int(l4[lengthAt4]) * lengthUnit
	}
	return int(l4[lengthAt6]) * lengthUnit * 2
}

// innerVerdict names what is wrong with a quoted header.
func innerVerdict(v Verdict) Verdict {
	switch v {
	case BadVersion:
		return InnerVersion
	case BadLength, BadHeaderLength4, Jumbogram:
		return InnerLength
	case ExtensionAfterFragment6, ExtensionChain6:
		return InnerExtension
	}
	return InnerShort
}

// innerAddresses translates the quoted addresses. The source is the node that
// the error goes to, so it is translated as a destination is; the destination
// is the one it sent to, so it is translated as a source is.
func (t *Translator) innerAddresses(pl *Plan, h, q *parsed) Verdict {
	in := &pl.inner
	in.header = q.header
	if pl.From == V4 {
		var v Verdict
		if in.src, v = t.inner6(q.src.v4(), t.network, false); v != Forward {
			return v
		}
		// With simple hairpinning the destination may be a mapped node, which
		// the sender knows under pool6 (RFC 7757 4.2.1).
		in.dst, v = t.inner6(q.dst.v4(), nil, t.simple && len(t.pools) > 0)
		return v
	}
	src, v := t.inner4(q.src)
	if v != Forward {
		return v
	}
	dst, v := t.inner4(q.dst)
	if v != Forward {
		return v
	}
	in.src, in.dst = from4(src), from4(dst)
	if pl.To == V6 {
		// RFC 7757 4.2.2: what the error came to is what the sender was shown as,
		// under the prefix that it had sent to.
		if in.src, v = t.inner6(src, t.network, false); v != Forward {
			return v
		}
		in.dst, v = t.inner6(dst, t.poolOf(h.dst), true)
	}
	return v
}

func (t *Translator) inner4(a addr) (uint32, Verdict) {
	if v, ok := t.table.to4(a); ok {
		return v, Forward
	}
	via := t.poolOf(a)
	if via == nil {
		return 0, InnerNoMapping
	}
	v := via.extract(a)
	if t.bannedUnder(via, v) {
		return 0, InnerPrivate
	}
	return v, Forward
}

// inner6 takes the mapping of v, unless poolOnly, or else puts it under the pool
// via, nil for the one that sources are shown under.
func (t *Translator) inner6(v uint32, via *pool, poolOnly bool) (addr, Verdict) {
	if !poolOnly && t.class[v>>16]&classEAM != 0 {
		if a, ok := t.table.to6(v); ok {
			return a, Forward
		}
	}
	if len(t.pools) == 0 {
		return addr{}, InnerNoMapping
	}
	if via == nil {
		via = &t.pools[0]
	}
	if t.bannedUnder(via, v) {
		return addr{}, InnerPrivate
	}
	return via.embed(v), Forward
}

// innerTransport plans the quoted transport header, of which any part may be
// missing.
func innerTransport(pl *Plan, q *parsed, quote []byte) Verdict {
	in := &pl.inner
	in.hdr = q.l4
	have := quote[q.l4:]
	in.delta = difference(in.src.sum()+in.dst.sum(), q.src.sum()+q.dst.sum())
	switch q.proto {
	case protoICMP4, protoICMP6:
		if (q.proto == protoICMP4) != (q.fam == V4) {
			return InnerProtocol
		}
		if q.offset != 0 || q.flags&more != 0 {
			return InnerICMP
		}
		in.proto = protoICMP4
		if pl.To == V6 {
			in.proto = protoICMP6
		}
		if len(have) == 0 {
			return Forward
		}
		typ, ok := echo(have[0], q.fam, pl.To)
		if !ok {
			if q.fam == V4 && isError4(have[0]) || q.fam == V6 && isError6(have[0]) {
				return InnerError
			}
			return InnerICMP
		}
		in.icmp = int(typ)
		if len(have) >= 4 {
			in.ck = 2
		}
		in.delta = difference(
			pseudo(&in.header, pl.To)+uint64(typ)<<8,
			pseudo(&q.header, q.fam)+uint64(have[0])<<8)
		return Forward
	case protoHopByHop, protoRouting, protoFragment, protoDestinations:
		return InnerProtocol // only IPv4 gets here: IPv6 skipped them
	}
	if at, _ := checksumAt(q.proto); at > 0 && q.offset == 0 && len(have) >= at+2 {
		in.ck = at
		if q.proto == protoUDP || q.proto == protoUDPLite {
			in.udp = true
			if q.proto == protoUDP && have[at]|have[at+1] == 0 {
				in.ck = -1
			}
		}
	}
	return Forward
}

// layOut settles what of a quote of n bytes, and of the extensions behind it,
// goes into the translated error.
func (pl *Plan) layOut(h *parsed, n int) {
	in := &pl.inner
	limit, unit := maxError6, lengthUnit*2
	if pl.To == V4 {
		limit, unit = maxError4, lengthUnit
	}
	head := in.len(pl.To)
	have := n - in.hdr
	room := limit - pl.out.len(pl.To) - icmpHeader

	size := head + have
	if in.extLen > 0 {
		most := (room - in.extLen) / unit * unit
		if most < minQuote {
			in.extLen = 0
		} else {
			// Rounding down costs a few bytes of quote and never needs padding.
			size = min(max(size/unit*unit, minQuote), most)
			in.length = uint8(size / unit)
		}
	}
	if in.extLen == 0 {
		size = min(size, room)
	}
	in.pay = min(have, size-head) // never so short as to lose a header that is there
	in.pad = size - head - in.pay
	pl.out.payload = icmpHeader + size + in.extLen
	pl.OutLen = pl.out.len(pl.To) + pl.out.payload
}

// rewriteError writes the ICMP error that icmpError planned, and gives where the
// ICMP message starts and the packet ends. Everything new is in place before the
// sums, so that the outer checksum changes by exactly what the bytes changed.
func (pl *Plan) rewriteError(s *State, buf []byte, start int) (msg, end int) {
	in := &pl.inner
	oldMsg := start + pl.l4
	stop := start + pl.Len
	field := binary.BigEndian.Uint16(buf[oldMsg+2:])
	before := pl.messageSum(buf[oldMsg:stop])

	pay := oldMsg + icmpHeader + in.hdr
	end = pay + in.pay + in.pad + in.extLen
	if shift := end - stop; shift > 0 { // padding a quote that shrank
		copy(buf[pay-shift:], buf[pay:pay+in.pay])
		pay, end = pay-shift, stop
	}
	tail := pay + in.pay
	if in.extLen > 0 {
		copy(buf[end-in.extLen:end], buf[start+in.ext:start+in.ext+in.extLen])
	}
	clear(buf[tail : tail+in.pad])

	if in.icmp >= 0 {
		buf[pay] = uint8(in.icmp)
	}
	if in.ck >= 0 {
		patch(buf[pay+in.ck:], in.delta, 0xffff, in.udp)
	}
	if in.icmp == icmp4EchoReply && in.ck >= 0 {
		fixZero(buf[pay : pay+in.pay])
	}
	if in.flags&generateID != 0 {
		in.id = s.next()
	}
	msg = in.put(buf, pay, pl.To) - icmpHeader
	buf[msg], buf[msg+1] = in.msg.typ, in.msg.code
	binary.BigEndian.PutUint16(buf[msg+2:], field)
	word := in.msg.rest
	if in.length > 0 {
		word |= uint32(in.length) << 16 // byte 5
		if pl.To == V6 {
			word = uint32(in.length) << 24 // byte 4
		}
	}
	binary.BigEndian.PutUint32(buf[msg+4:], word)

	after := pl.messageSum(buf[msg:end])
	delta := difference(uint64(after), uint64(before))
	if pl.invert == 0 {
		delta = 0 // a partial checksum holds the pseudo-header only
	}
	pseudoDelta := difference(pseudo(&pl.out, pl.To), uint64(pl.delta))
	binary.BigEndian.PutUint16(buf[msg+2:], update(update(field, delta, pl.invert), pseudoDelta, pl.invert))
	return msg, end
}

// messageSum sums an ICMP message without its checksum.
func (pl *Plan) messageSum(b []byte) uint16 {
	return fold(uint64(sum(b[:2])) + uint64(sum(b[4:])))
}

// patch updates the checksum at the front of b.
func patch(b []byte, delta, invert uint16, udp bool) {
	c := update(binary.BigEndian.Uint16(b), delta, invert)
	if udp && c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b, c)
}

// fixZero gives an ICMPv4 message its checksum if updating made it 0 and
// everything else in it is 0 too: an echo reply without a pseudo-header is the
// one message that can be. The sum of nothing but zeros is 0, not 0xffff, which
// only adding up tells apart (RFC 1071 2, RFC 1624 3).
func fixZero(msg []byte) {
	if binary.BigEndian.Uint16(msg[2:]) != 0 || msg[0] != icmp4EchoReply {
		return
	}
	for _, b := range msg {
		if b != 0 {
			return
		}
	}
	msg[2], msg[3] = 0xff, 0xff
}
