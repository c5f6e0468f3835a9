// Package labdns gives a lab names: a name server of its own, Debian's unbound as
// the resolver that operators run, and Debian's nsd as the name server of zones.
//
//	VM --- AAAA ipv4only.example? ---> unbound, port 53 --- forward-zone "." ---> Server
//	VM --- AAAA ipv4only.example? ---> Server, which does DNS64 itself
//	host --- A www.shop.example? ---> unbound, port 53 --- from the root down ---> nsd, nsd, ...
//
// A [Server] is authoritative for the root and everything below it, so that no
// question of a lab ever leaves it. With a prefix it is a DNS64 as well, which
// is what the demo uses: it needs no package. [StartResolver] runs unbound in
// front of a Server; tests use that one, and hold both against each other.
//
// [StartAuthority] runs nsd: several of them make an Internet with delegations, for
// those who look for the name servers of a zone themselves.
//
// Ownership: a Server runs in the calling process, on sockets of its host. A
// Resolver's unbound and an Authority's nsd are children that go with the lab.
//
// Sources: RFC 1035, RFC 2308 (negative answers), RFC 6147 (DNS64), RFC 6604
// (result code behind an alias), RFC 6891 (EDNS), RFC 7050 (ipv4only.arpa),
// RFC 7766 (TCP), unbound.conf(5), nsd.conf(5).
package labdns
