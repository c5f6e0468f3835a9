package translate

import (
	"encoding/binary"
	"math/bits"
)

// Checksums are one's complement sums (RFC 1071): numbers modulo 0xffff, in
// which any multiple of 16 bits may be added up first and folded later.

// fold brings a sum of 16-bit or 32-bit words down to 16 bits.
func fold(s uint64) uint16 {
	// Adding the rotated sum leaves high+low, with the carry already brought
	// around, in the upper half.
	t := uint32((s + bits.RotateLeft64(s, 32)) >> 32)
	return uint16((t + bits.RotateLeft32(t, 16)) >> 16)
}

// sum64 adds the two 32-bit halves of v: the sum of its four 16-bit words,
// not folded.
func sum64(v uint64) uint64 { return v>>32 + v&0xffffffff }

// plus adds two 64-bit sums of 16-bit words: one's complement addition works on
// any multiple of 16 bits, if the carry comes around.
func plus(a, b uint64) uint64 {
	s, c := bits.Add64(a, b, 0)
	return s + c
}

// bias is a multiple of 0xffff that is larger than any sum of addresses, so
// that out + bias - in stays positive and means out - in.
const bias = 0xffff << 32

// difference folds out - in.
func difference(out, in uint64) uint16 { return fold(out + bias - in) }

// update applies a difference to a checksum field (RFC 1624, equation 3).
// invert is 0xffff for a checksum and 0 for a partial one, which is the sum of
// the pseudo-header itself: there the difference counts the other way around.
func update(field, delta, invert uint16) uint16 {
	return fold(uint64(field^invert)+uint64(delta)) ^ invert
}

// sum adds up b as big-endian 16-bit words, an odd last byte padded with zero,
// and folds to 16 bits. The order of bytes may be mended at the end (RFC 1071
// section 2 (B)), which spares a swap for each word.
func sum(b []byte) uint16 {
	var s, carry uint64
	for len(b) >= 64 {
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b[8:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b[16:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b[24:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b[32:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b[40:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b[48:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b[56:]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b), carry)
		b = b[8:]
	}
	var last [8]byte
	copy(last[:], b)
	s, carry = bits.Add64(s, binary.LittleEndian.Uint64(last[:]), carry)
	s, carry = bits.Add64(s, carry, 0)
	return bits.ReverseBytes16(fold(sum64(s) + carry))
}
