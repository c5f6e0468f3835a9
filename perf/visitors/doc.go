// Package visitors has no code but tests: the web proxy of the isthmus that
// `make build` makes, between the programs that its users have. Nothing here is
// a stand-in: visitors are Chromium, curl and OpenSSL, VMs run nginx and Apache,
// certificates come from an ACME server.
//
//	visitor eth0 --- wan0 hypervisor vm0 --- eth0 vm      nginx, Apache, servers in Go
//	  IPv4 only            isthmus   vm1 --- eth0 other   the same pages, another VM
//	                                 ca0 --- eth0 ca      Pebble and a name server, IPv4 and IPv6
//
// The names of all sites lead to the hypervisor's IPv4 address, and the routes
// from there to VMs that have nothing but IPv6.
//
// With ISTHMUS_SCREENSHOTS set to a directory, what Chromium shows is kept there.
package visitors
