// Package twin is a second SIIT translator, for tests: slow, literal, and
// obvious. It follows the RFCs section by section, with the sentence that a
// piece of code carries out beside it, so that reading it against the text is
// enough to believe it.
//
//	bytes -> parse (parse.go) -> header, payload
//	      -> addresses (address.go: RFC 6052, 7757, 6791)
//	      -> section4.go or section5.go: the new header
//	      -> transport.go, icmp.go: the new payload
//	      -> size.go: MTUs, fragments -> bytes
//	      or error.go: the ICMP error that is due
//
// It differs from package translate in everything that makes that one fast: it
// builds new packets by appending bytes, looks addresses up by linear search
// over prefixes, moves bits one by one, and adds checksums up over all bytes. It
// takes only types from there (Config, Meta, Verdict), never code.
//
// Quotations are abridged, and not always to the letter: the RFC's own wording
// decides.
//
// # What is left to the implementation
//
// The standards leave three things open: the identification of packets that
// come without one, outside and in a quoted packet, and which address of a pool
// stands for a router. Translate takes them as Chosen, says which it used, and
// refuses an address that is not in the pool. Everything else is fixed to the
// bit.
//
// # Ownership
//
// Nothing is shared: results hold no part of the input.
//
// # Sources
//
// RFC 7915 (sections 4 and 5), 6052, 7757, 6791, 4884, 792, 4443, 1191, 8201,
// 1812 and 1122 (errors of our own). RFC 1624 is not used: no checksum here is
// updated.
package twin
