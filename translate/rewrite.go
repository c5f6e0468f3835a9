package translate

import "encoding/binary"

// Rewrite carries out a Plan whose verdict is Forward or Split on the packet at
// buf[start:start+pl.Len], and gives where the result is: buf[newStart:newStart+n].
// It writes only to [start-Headroom, start+pl.Len) and can't fail; start must be
// at least Headroom.
func (t *Translator) Rewrite(pl *Plan, s *State, buf []byte, start int) (newStart, n int) {
	if !pl.quick {
		return pl.rewrite(s, buf, start)
	}
	at := start + pl.ck
	field := (*[2]byte)(buf[at : at+2 : at+2])
	binary.BigEndian.PutUint16(field[:], pl.check)
	if pl.To == V4 {
		if pl.echo {
			buf[start+header6Len] = pl.icmp
		}
		x, y := pl.head[0], pl.head[1]
		if pl.genID {
			x |= uint64(s.next()) << 16
		}
		y |= uint64(^fold(plus(plus(x, y), pl.DstHi))) << 32
		newStart = start + header6Len - header4Len
		b := (*[header4Len]byte)(buf[newStart : newStart+header4Len : newStart+header4Len])
		binary.BigEndian.PutUint64(b[:], x)
		binary.BigEndian.PutUint64(b[8:], y)
		binary.BigEndian.PutUint32(b[16:], uint32(pl.DstHi>>32))
		return newStart, pl.OutLen
	}
	if pl.echo {
		buf[start+header4Len] = pl.icmp
	}
	newStart = start + header4Len - header6Len
	b := (*[header6Len]byte)(buf[newStart : newStart+header6Len : newStart+header6Len])
	binary.BigEndian.PutUint64(b[:], pl.head[0])
	binary.BigEndian.PutUint64(b[8:], pl.head[1])
	binary.BigEndian.PutUint64(b[16:], pl.head[2])
	binary.BigEndian.PutUint64(b[24:], pl.DstHi)
	binary.BigEndian.PutUint64(b[32:], pl.DstLo)
	return newStart, pl.OutLen
}

// rewrite is Rewrite for everything that the fast path did not decide.
func (pl *Plan) rewrite(s *State, buf []byte, start int) (newStart, n int) {
	l4 := start + pl.l4
	end := start + pl.Len
	switch {
	case pl.kind == kindError:
		l4, end = pl.rewriteError(s, buf, start)
	case pl.kind == kindReady:
		if pl.echo {
			buf[l4] = pl.icmp
		}
		binary.BigEndian.PutUint16(buf[start+pl.ck:], pl.check)
	case pl.full:
		pl.sumUDP(buf[l4 : l4+pl.sumLen])
	default:
		if pl.kind == kindEcho {
			buf[l4] = pl.icmp
		}
		delta := pl.delta
		if pl.mss.at != 0 {
			// A partial checksum does not hold the header yet.
			delta = fold(uint64(delta) + uint64(pl.mss.put(buf[l4:])&pl.invert))
		}
		if pl.ck != 0 {
			patch(buf[start+pl.ck:], delta, pl.invert, pl.udp)
		}
		if pl.kind == kindEcho && pl.invert != 0 {
			fixZero(buf[l4:end])
		}
	}
	if pl.Verdict == Split && pl.invert == 0 && pl.ck != 0 {
		// Hardware can't complete a checksum whose payload is in other packets.
		at := l4 + pl.ck - pl.l4
		c := ^sum(buf[l4:end])
		if pl.udp && c == 0 {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(buf[at:], c)
	}
	o := &pl.out
	if o.flags&generateID != 0 {
		o.id = s.next()
	}
	newStart = o.put(buf, l4, pl.To)
	return newStart, end - newStart
}

// sumUDP gives a datagram the checksum that IPv4 let it do without.
func (pl *Plan) sumUDP(b []byte) {
	o := &pl.out
	c := ^fold(o.src.sum() + o.dst.sum() + protoUDP + uint64(len(b)) + uint64(sum(b)))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[6:], c)
}
