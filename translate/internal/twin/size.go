package twin

import (
	"encoding/binary"

	"aarch64.com/isthmus/translate"
)

// flags4 settles identification and DF of an IPv4 packet of size bytes that is
// made from IPv6 without a Fragment Header.
//
// RFC 7915 5.1: "Identification: Set according to a Fragment Identification
// generator at the translator." "Flags: [...] The Don't Fragment (DF) flag is set
// as follows: If the size of the translated IPv4 packet is less than or equal to
// 1260 bytes, it is set to zero; otherwise, it is set to one." With DF, the
// identification means nothing (RFC 6864 4.1) and is zero.
func (w *work) flags4(n *header, size int, used *bool, id uint16) {
	if size <= 1260 {
		n.dontFragment, n.id = false, uint32(id)
		*used = true
		return
	}
	n.dontFragment, n.id = true, 0
}

// fit brings the packet onto the outgoing link: w.new and w.body are there.
func (w *work) fit() translate.Verdict {
	to := int(w.res.To)
	whole := w.new.size(to) + len(w.body)
	w.wire = whole
	if m := w.in.Meta; superpacket(m, w.old) {
		head := 8
		if w.old.proto == 6 {
			head = int(w.body[12]>>4) * 4
		}
		w.wire = min(whole, w.new.size(to)+head+int(m.SegmentSize))
	}
	if to == 4 && !w.new.fragment {
		w.flags4(&w.new, w.wire, &w.res.UsedID, w.in.Chosen.ID)
	}

	// RFC 8200 5: every IPv6 link has an MTU of at least 1280 bytes. RFC 791 3.2:
	// every IPv4 link one of 68.
	mtu := w.in.MTUOut
	switch {
	case mtu <= 0:
		mtu = 1 << 30
	case to == 6:
		mtu = max(mtu, 1280)
	default:
		mtu = max(mtu, 68)
	}
	lowest := w.in.Config.LowestIPv6MTU
	if lowest == 0 {
		lowest = 1280
	}

	switch {
	case w.old.version == 4 && w.old.dontFragment && !w.icmp:
		// RFC 7915 4: "If the IPv4 DF bit is set and the MTU of the next-hop interface
		// is less than the total length value of the IPv4 packet plus 20, the translator
		// MUST send an ICMPv4 'Fragmentation Needed' error message".
		if w.wire > mtu {
			w.bad = uint32(mtu - 20)
			if w.new.fragment { // docs/decisions/006
				w.bad -= 8
			}
			return translate.TooBig4
		}
	case w.old.version == 4:
		// RFC 7915 4: "If the DF bit is not set [...] the packet SHOULD be fragmented so
		// the resulting IPv6 packet (with Fragment Header added to each fragment) will be
		// less than or equal to" the configured lowest MTU.
		if limit := min(lowest, mtu); w.wire > limit {
			return w.split(limit)
		}
	case w.wire > mtu && to == 4 && (w.res.Length-(whole-w.wire) <= 1280 || w.icmp):
		// RFC 7915 5.1.1: a packet that IPv6 may not make smaller is fragmented.
		return w.split(mtu)
	case w.wire > mtu && to == 4:
		// RFC 7915 5: "If the [...] next-hop MTU [...]: an ICMPv6 Packet Too Big". RFC 8200
		// 5: not under 1280.
		w.bad = uint32(max(1280, mtu+20))
		return translate.TooBig6
	case w.wire > mtu:
		w.bad = uint32(max(1280, mtu))
		return translate.TooBig6
	}
	w.res.Whole = append(w.new.bytes(to, len(w.body)), w.body...)
	w.res.Packets = [][]byte{append([]byte{}, w.res.Whole...)}
	return translate.Forward
}

// split cuts the packet into fragments of at most limit bytes (RFC 791 3.2,
// RFC 8200 4.5).
func (w *work) split(limit int) translate.Verdict {
	to := int(w.res.To)
	if w.wire != w.new.size(to)+len(w.body) {
		return translate.Superpacket // its segments are to be fragmented, not it
	}
	// "the field values are set [...] Next Header: Fragment Header (44)"
	if to == 6 {
		w.new.fragment = true
	}
	if w.partial >= 0 {
		// Nobody can complete a checksum over bytes in other packets.
		c := ^ones(w.body)
		if w.partialUDP && c == 0 {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(w.body[w.partial:], c)
	}
	w.res.Whole = append(w.new.bytes(to, len(w.body)), w.body...)
	room := limit - w.new.size(to)
	rest := w.body
	f := w.new
	for len(rest) > room {
		part := rest[:room/8*8]
		f.more = true
		w.res.Packets = append(w.res.Packets, append(f.bytes(to, len(part)), part...))
		f.offset += len(part)
		rest = rest[len(part):]
	}
	f.more = w.new.more
	w.res.Packets = append(w.res.Packets, append(f.bytes(to, len(rest)), rest...))
	return translate.Split
}
