// Package nat44 lets many VMs share few IPv4 addresses: a stateful NAT44
// (RFC 3022, RFC 4787) by the kernel, in an nftables table of our own.
//
//	           forward                              postrouting
//	100.64.0.5 ───► limits ─────────────────────────► source NAT ───► 203.0.113.1
//	:40001          no slice? too many, too fast?      map @slices     :1280-1535
//	                refused with ICMP, counted
//
// The translator gives each VM an address of a mapped pool, and what leaves
// with such an address gets a shared address and a port out of the VM's slice:
// a range of ports (ICMP: of identifiers) that nobody else uses. A VM can't take
// the ports of another one, and whoever sees an address and a port at some time
// can tell the VM without a log of connections (RFC 7422).
//
// Slices are arithmetic ([Plan]): the n-th address of the pool has the n-th
// block of ports. Ports below 1024 and those of net.ipv4.ip_local_port_range and
// ip_local_reserved_ports are the host's own: blocks with one of them are no slices. So slices are the same after a restart,
// and an address beyond the last slice has none: it is refused and counted.
//
//	port  0      1024                32768         60999          65535
//	      | host | slice 0, 1, 2 ... | host's own  | ... 139, 140 |
//
// The rules are the same whatever the number of VMs: one element of one map is
// all that a VM is. Per packet of a known connection they cost two comparisons;
// the rest runs once per connection. The state of connections is the kernel's
// (conntrack), not the table's, so that the table can be replaced under traffic.
//
// What a slice can't do: two connections of a VM to the same place (protocol,
// address and port) need two ports, so that of these there can be as many as a
// slice has ports. The kernel drops what finds none, without a word.
//
// nft(8) up to 1.0.6 lists the table but for the rule in postrouting: it wants a
// note about the map's values that google/nftables can't write.
//
// Ownership: the table belongs to the process that opened it; it is marked, and
// one of the same name without the mark is never touched. A Table has a lock and
// may be used from several goroutines. It works in the network namespace of the
// thread that called Open, and keeps a descriptor of it.
//
// Sources: nft(8); Linux net/netfilter/nft_nat.c, nf_nat_core.c, nft_lookup.c,
// nft_dynset.c, nf_conncount.c, nf_conntrack_netlink.c; RFC 4787, RFC 6888
// (limits per subscriber), RFC 7422 (deterministic mapping), RFC 1812 section
// 5.2.7.1 (ICMP code 13).
package nat44
