// Package clientnet says what counts as one client, for limits of visitors and of
// the API alike.
package clientnet

import "net/netip"

// Of is the network that counts as one client: an IPv4 address, or an IPv6 /64, for
// a host has that to itself. It is the zero prefix for an invalid address.
func Of(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails for an invalid address only
	return p
}
