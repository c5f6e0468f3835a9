package translate

import "encoding/binary"

// CompleteChecksum finishes the transport checksum of the IP packet p where its
// source left that to hardware that was not there: virtual devices hand frames
// over with only the sum of the pseudo-header in the field, not complemented
// (CHECKSUM_PARTIAL, Linux include/linux/skbuff.h). It tells whether it wrote.
//
// Nothing in a frame says that its checksum is partial. So the field must hold
// just that sum, in an unfragmented TCP or UDP packet that does not verify. That
// reads the whole payload, which is why it is only for ports whose sources are
// known to do so.
func CompleteChecksum(p []byte) bool {
	var h parsed
	var v Verdict
	switch {
	case len(p) < header4Len:
		return false
	case p[0]>>4 == 4:
		h, v = parse4(p, false)
	default:
		h, v = parse6(p, false)
	}
	if v != Forward || h.flags&isFragment != 0 || h.offset != 0 || h.proto != protoTCP && h.proto != protoUDP {
		return false
	}
	at, least := checksumAt(h.proto)
	l4 := p[h.l4:h.total]
	if len(l4) < least {
		return false
	}
	field := l4[at : at+2]
	pseudo := h.src.sum() + h.dst.sum() + uint64(h.proto) + uint64(len(l4))
	partial := fold(pseudo)
	if binary.BigEndian.Uint16(field) != partial || fold(pseudo+uint64(sum(l4))) == 0xffff {
		return false
	}
	// The field holds the pseudo-header's sum, so that the whole segment's sum
	// is that of the checksum (RFC 1071).
	full := ^sum(l4)
	if full == 0 && h.proto == protoUDP {
		full = 0xffff
	}
	binary.BigEndian.PutUint16(field, full)
	return true
}

// Sum adds up b as big-endian 16-bit words in one's complement arithmetic, an odd
// last byte padded with zero (RFC 1071).
func Sum(b []byte) uint16 { return sum(b) }
