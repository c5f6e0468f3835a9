package translate

import "encoding/binary"

// Fit takes into account what is known only with the next hop: the MTUs, in
// bytes of IP packet, of the link that the packet came from and of the one it
// leaves by; 0 means unknown. It may turn Forward into Split, TooBig4, TooBig6 or
// Superpacket, and finishes the MTU in a translated Packet Too Big. Call it once,
// between Decide and Rewrite.
func (t *Translator) Fit(pl *Plan, mtuIn, mtuOut int) Verdict {
	if pl.OutLen > pl.limit || pl.OutLen > mtuOut {
		return t.fit(pl, mtuIn, mtuOut)
	}
	return pl.Verdict
}

func (t *Translator) fit(pl *Plan, mtuIn, mtuOut int) Verdict {
	if pl.Verdict != Forward {
		return pl.Verdict
	}
	if pl.quick {
		pl.expand()
	}
	const unknown = maxPacket4 + header6Len
	if mtuIn <= 0 {
		mtuIn = unknown
	}
	if mtuOut <= 0 {
		mtuOut = unknown
	}
	if pl.mss.at != 0 {
		t.clampMSS(pl, mtuIn, mtuOut)
	}
	if pl.To == V6 {
		mtuOut = max(mtuOut, minMTU6)
	} else {
		mtuOut = max(mtuOut, minMTU4)
	}
	if pl.kind == kindError && pl.inner.mtu {
		pl.inner.msg.rest = pl.pathMTU(uint32(mtuIn), uint32(mtuOut))
	}
	if pl.From == V4 {
		return t.fit4(pl, mtuOut)
	}
	if pl.wire <= mtuOut {
		return Forward
	}
	// An IPv6 node never sends less than 1280 bytes for us (RFC 7915 5.1.1).
	// ICMP errors are cut, not answered.
	shrink := pl.OutLen - pl.wire // a superpacket's segments are that much smaller
	if pl.To == V4 && (pl.Len-shrink <= minMTU6 || pl.kind == kindError) {
		return pl.split(mtuOut)
	}
	pl.param = uint32(max(minMTU6, mtuOut))
	if pl.To == V4 {
		pl.param = uint32(max(minMTU6, mtuOut+header6Len-header4Len))
	}
	return pl.end(TooBig6)
}

// fit4 is for packets that come as IPv4 (RFC 7915 4).
func (t *Translator) fit4(pl *Plan, mtuOut int) Verdict {
	if pl.out.flags&dontFrag != 0 && pl.kind != kindError {
		if pl.wire <= mtuOut {
			return Forward
		}
		// RFC 7915 4 says 20 bytes less. A fragment grows by its Fragment
		// Header too: told only 20, its sender would come back with packets
		// that are still too big.
		pl.param = uint32(mtuOut - pl.out.len(V6) + header4Len)
		return pl.end(TooBig4)
	}
	if limit := min(mtuOut, t.lowest); pl.wire > limit {
		return pl.split(limit)
	}
	return Forward
}

// pathMTU is the arithmetic of RFC 7915 4.2 and 5.2, without overflow.
func (pl *Plan) pathMTU(mtuIn, mtuOut uint32) uint32 {
	const grow = header6Len - header4Len
	said := pl.inner.msg.rest
	switch {
	case pl.To == V4:
		said = max(said, grow) - grow
		return max(min(said, mtuOut, mtuIn-min(mtuIn, grow), maxPacket4), minMTU4)
	case pl.From == V4:
		return max(min(said+grow, mtuOut, mtuIn+grow), minMTU6)
	}
	return max(min(said, mtuOut, mtuIn), minMTU6)
}

func (pl *Plan) split(limit int) Verdict {
	if pl.wire != pl.OutLen {
		return pl.end(Superpacket)
	}
	if pl.To == V6 && pl.out.flags&isFragment == 0 {
		pl.out.flags |= isFragment
		pl.OutLen += fragmentLen
		pl.wire = pl.OutLen
	}
	pl.cut, pl.at = limit, 0
	return pl.end(Split)
}

// Split copies the next fragment of whole, which is the packet that Rewrite made
// of a Plan with verdict Split, into dst, which must have room for the outgoing
// link's MTU. It gives the fragment's length and whether more follow.
func (pl *Plan) Split(whole, dst []byte) (n int, more bool) {
	head := pl.out.len(pl.To)
	rest := whole[head+pl.at:]
	size := pl.cut - head
	if more = len(rest) > size; more {
		size &^= 7
	} else {
		size = len(rest)
	}
	n = copy(dst, whole[:head])
	n += copy(dst[n:], rest[:size])
	offset := uint16(pl.at / 8)
	pl.at += size

	if pl.To == V6 {
		binary.BigEndian.PutUint16(dst[4:], uint16(fragmentLen+size))
		f := binary.BigEndian.Uint16(dst[header6Len+2:]) + offset<<3
		if more {
			f |= 1
		}
		binary.BigEndian.PutUint16(dst[header6Len+2:], f)
		return n, more
	}
	binary.BigEndian.PutUint16(dst[2:], uint16(n))
	f := binary.BigEndian.Uint16(dst[6:]) + offset
	if more {
		f |= flagMF
	}
	binary.BigEndian.PutUint16(dst[6:], f)
	binary.BigEndian.PutUint16(dst[10:], 0)
	binary.BigEndian.PutUint16(dst[10:], ^sum(dst[:header4Len]))
	return n, more
}
