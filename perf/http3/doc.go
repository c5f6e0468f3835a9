// Package http3 has no code but tests: the web proxy of the isthmus that `make
// build` makes, between visitors and servers that speak HTTP/3, both by quic-go.
//
//	visitor eth0 --- wan0 hypervisor vm0 --- eth0 vm      servers of project one
//	  IPv4 and IPv6        isthmus   vm1 --- eth0 other   a server of project two
package http3
