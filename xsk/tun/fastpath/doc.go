// Package fastpath translates plain packets inside the kernel, by a BPF program
// at the egress of the TUN device. It is a cache of what package translate would
// do: a packet either becomes, to the byte, what translate makes of it, or goes
// on to user space as it came. Superpackets and partial checksums stay whole.
//
//	kernel routing ──▶ isthmus0 egress ──▶ program ──▶ queue ──▶ user space
//	                                          │ plain             │
//	kernel routing ◀── isthmus0 ingress ◀─────┴───────────────────┘
//
// What the program sends back enters at the device's ingress, as what user space
// writes does: routing, NAT44 and firewall can't tell the two apart.
//
// # What is plain
//
// TCP, UDP with a checksum, ICMP echo; no options, extension headers or
// fragments; hop limit above 1; one side of the pair has a host mapping (/128 and
// /32), the other is under the first pool6 prefix, which has 96 bits, and is of no
// special class; the packet, or a superpacket's segments, fit the egress link and
// need no fragments. All the rest falls through, counted by [Reason].
//
// # Ownership
//
// A [Program] belongs to one network namespace, that of the thread that calls
// Attach. Its methods may be called from any goroutine. It holds no thread and no
// memory per packet. The kernel detaches the program when this process ends,
// however it ends, or when the device goes.
//
// # Updates
//
// The program looks at its tables through one pointer. [Program.Update] takes
// that away, waits until no packet is under way by it, changes the tables in
// place and puts it back: meanwhile everything falls through, but nothing is ever
// decided by half of the old and half of the new. Single mappings come and go
// without that ([Program.Add], [Program.Remove]).
//
// # Sources
//
// RFC 7915, RFC 6052, RFC 7757 for what is done; bpf-helpers(7) and Linux
// net/core/filter.c for how: bpf_skb_change_proto changes the GSO type along with
// the header, and since Linux 5.14 leaves the segment size alone;
// bpf_l4_csum_replace with the pseudo-header flag keeps partial and complete
// checksums right; bpf_redirect to ingress drops route and conntrack entry.
package fastpath
