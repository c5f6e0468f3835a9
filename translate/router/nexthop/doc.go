// Package nexthop mirrors the kernel's routes, neighbours, links and addresses
// into immutable tables that a packet worker reads without a lock.
//
//	netlink events ──► Mirror: "something changed" ──► dump links, addresses,
//	                                                   routes, neighbours, rules
//	                                                          │ build
//	worker ◄── Table (one atomic pointer load per batch) ◄────┘
//
// The kernel stays the only place where routing is decided. An event is just a
// reason to look again: each Table is built from a whole dump, so nothing can
// drift, and a lost event (ENOBUFS) costs one dump. Whatever a Table can't
// express (policy rules, an egress that is no AF_XDP port, an address that is
// not resolved) is a Hop of kind Kernel or Miss: the packet goes to the kernel,
// which knows.
//
// Ownership: a Mirror belongs to the router; a Table is never written after it
// was published.
//
// Sources: rtnetlink(7); Linux net/ipv4/fib_semantics.c, net/core/neighbour.c.
package nexthop
