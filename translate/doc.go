// Package translate is a stateless IPv4/IPv6 translator (SIIT): it turns one
// IP packet in a buffer into its counterpart of the other family, in place,
// and says what became of it.
//
//	            Decide                Fit                 Rewrite
//	packet ---> reads, fills --> next hop known: --> writes the new header
//	(IP first)  the Plan         MTUs, PMTU, Split   right before the payload
//	              |                   |
//	              | Drop, Pass        | Answer
//	              v                   v
//	           counted             Error builds the ICMP error
//
// The payload never moves. An IPv6 packet gets its IPv4 header written into
// the last 20 bytes of its IPv6 header; an IPv4 packet grows 20 bytes (28 with
// a Fragment Header) to the front, into the headroom:
//
//	start-Headroom      start                          start+Len
//	   |   headroom       | IPv4 |  payload ...             |
//	   |           | IPv6        |  payload ...             |
//	             newStart
//
// # The rule: Decide reads, Rewrite writes
//
// Decide never changes a byte. A packet whose verdict is neither Forward nor
// Split is as it came: it can be quoted in an ICMP error or be handed to the
// kernel. Rewrite can't fail: whatever could go wrong was found by Decide or
// Fit. Rewrite and Error write only to [start-Headroom, start+Len).
//
// # Ownership
//
// A Translator is immutable and safe for concurrent use. A Plan and a State
// belong to one worker. Nothing here allocates per packet, keeps a clock, does
// I/O or imports anything but the standard library.
//
// # Fast and complete
//
// fast.go recognises plain packets (TCP, UDP, echo; no options, extension
// headers or fragments) and decides them in a few nanoseconds. Everything it
// does not recognise goes through decide6.go and decide4.go, which know all
// rules. The fast path is only a short cut: both give the same bytes for every
// packet, which a fuzz target checks.
//
// With very many mappings, Locate and Fetch bring those of a whole batch into the
// cache before Decide looks at the first packet.
//
// # Sources
//
//   - RFC 7915: IP/ICMP translation algorithm
//   - RFC 6052: IPv6 addressing of IPv4/IPv6 translators
//   - RFC 7757: explicit address mappings (EAM), hairpinning
//   - RFC 6791: source addresses of translated ICMP errors
//   - RFC 4884: ICMP extensions; RFC 792, 4443, 1812: ICMP and who may send it
//   - RFC 1191, 8201: path MTU; RFC 1624: incremental checksums
package translate
