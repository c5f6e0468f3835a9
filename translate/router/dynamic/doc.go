// Package dynamic gives IPv6 hosts that have no IPv4 address of their own one
// from a pool, on first use, and keeps it for them.
//
//	packet from an unmapped host ──► Assign ──► mapping ──► next Translator
//	                                    │
//	                                    └──► state file (atomic, on each change)
//
// An address is active or dormant. Active mappings are part of the Translator, so
// that packets cost nothing here. Every epoch all mappings go dormant, and the
// next packet of a host wakes its mapping up again: that is how idle hosts are
// told from others without a note per packet. A mapping that stays dormant for
// the idle time is forgotten.
//
// Which address a host gets follows from its own: the pool is searched from a
// place that a hash of the IPv6 address gives, so that even without a state file
// hosts mostly get the same address again.
//
// Ownership: a Map may be used by several goroutines; it has a lock, which only
// the first packet of a host in each epoch pays for.
package dynamic
