// Package fastpath translates plain packets inside the kernel, by a BPF program
// at the egress of the TUN device and, if asked, at the ingress of Ethernet
// interfaces. It is a cache of what package translate would
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
// # At an interface
//
//	vm0 ingress ──▶ program ──plain──▶ next hop, by wan0
//	                   └──▶ kernel routing, as above
//
// [Program.AttachInterface] saves a packet both ways through routing. It then
// passes no netfilter hook either, so that hosts that need NAT44 are left out
// ([EAM.Routed]). Nothing else changes: the program asks the routing table whether
// it would have led the packet to the TUN device, whether answers to its source
// would leave by the interface where it came in, and where it goes after
// translation, each as for a packet that is forwarded from there. A no sends it the
// normal way, where rp_filter and the firewall have their say.
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
// decided by half of the old and half of the new. Where only mappings have changed,
// the others work on meanwhile. After an error everything falls through.
//
// # Sources
//
// RFC 7915, RFC 6052, RFC 7757 for what is done; bpf-helpers(7) and Linux
// net/core/filter.c for how: bpf_skb_change_proto changes the GSO type along with
// the header, and since Linux 5.14 leaves the segment size alone;
// bpf_l4_csum_replace with the pseudo-header flag keeps partial and complete
// checksums right; bpf_redirect to ingress drops route and conntrack entry.
package fastpath
