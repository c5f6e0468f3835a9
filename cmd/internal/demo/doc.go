// Package demo shows isthmus at work on a machine of its own making: a network
// of namespaces with VMs that have only IPv6 and an Internet that has only
// IPv4, and isthmus as a real child process between them.
//
//	                hypervisor
//	vm ----------- vm0   wan0 ----------- router ----------- server
//	2001:db8:64::2    isthmus           203.0.113.2  |       198.51.100.2
//	vm1 ---------- vm1                               | MTU 1400
//	vm2 ---------- vm2                              edge ---- far
//	resolver ----- dns0                                    198.51.100.194
//
// Each [Check] sends real packets with sockets opened inside the namespaces and
// says in words what came of it. First isthmus runs without a configuration file
// and the VMs share the hypervisor's address (share.go). Then there is one VM with
// a mapping, 192.0.2.2, and the same checks run once with AF_XDP ports and once
// with the kernel path alone (check.go).
//
// Ownership: a stage owns its lab, its servers and the isthmus process, and
// takes all of them down in close. What a crash leaves is swept by the next lab
// (see package lab).
//
// Sources: RFC 7915 for what has to come out of a translator, ip(7), ipv6(7)
// and raw(7) for the socket options used to see it.
package demo
