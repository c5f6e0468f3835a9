package twin

import "encoding/binary"

// ones adds 16-bit words, the carry brought around (RFC 1071 1). The parts are
// one sequence of bytes; only the last may be odd.
func ones(parts ...[]byte) uint16 {
	var sum uint32
	for _, part := range parts {
		for i := 0; i < len(part); i += 2 {
			word := uint32(part[i]) << 8
			if i+1 < len(part) {
				word |= uint32(part[i+1])
			}
			sum += word
			if sum > 0xffff {
				sum -= 0xffff
			}
		}
	}
	return uint16(sum)
}

// pseudo is the pseudo-header that a transport checksum covers, for n bytes.
// ICMPv4 has none.
func pseudo(h header, version int, n int) []byte {
	var b []byte
	if version == 4 {
		if h.proto == 1 {
			return nil
		}
		b = append(b, h.src.AsSlice()...) // RFC 9293 3.1
		b = append(b, h.dst.AsSlice()...)
		b = append(b, 0, h.proto)
		return binary.BigEndian.AppendUint16(b, uint16(n))
	}
	b = append(b, h.src.AsSlice()...) // RFC 8200 8.1
	b = append(b, h.dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return append(b, 0, 0, 0, h.proto)
}

// recompute gives the checksum at next[at:] for a message that was prev, with its
// pseudo-header, before translation. It is summed up anew over all bytes. If the
// old one did not verify, the new one is wrong by as much: translation must not
// hide damage (RFC 7915 4.5: checksums are "updated", not repaired). That also
// makes it right for a message of which only a part is here.
func recompute(prevPseudo, prev, nextPseudo, next []byte, at int) uint16 {
	const modulus = 0xffff // one's complement: 0xffff is zero
	damage := int(ones(prevPseudo, prev)) % modulus
	next = append([]byte{}, next...)
	next[at], next[at+1] = 0, 0
	sum := ones(nextPseudo, next)
	if damage == 0 {
		return ^sum
	}
	return uint16((damage + modulus - int(sum)%modulus) % modulus)
}

// repartial is recompute for a checksum that hardware completes: the field holds
// the sum of the pseudo-header, not complemented, and nothing of the message.
// Zero is written as 0xffff.
func repartial(prevPseudo, prev, nextPseudo []byte, at int) uint16 {
	const modulus = 0xffff
	damage := int(binary.BigEndian.Uint16(prev[at:])) + modulus - int(ones(prevPseudo))
	sum := (int(ones(nextPseudo)) + damage) % modulus
	if sum == 0 {
		return 0xffff
	}
	return uint16(sum)
}
