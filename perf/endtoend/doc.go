// Package endtoend has no code but tests: the isthmus that `make build` makes,
// as a process on the hypervisor of a lab, between VMs that have nothing but
// IPv6 and an Internet that has nothing but IPv4.
//
//	VM --- (loss, reordering) --- hypervisor --- (loss, reordering) --- router --- server
//	                               isthmus
//
// Each test is about a promise that no single package can keep alone: that
// streams arrive byte for byte whatever the network does to their packets, that
// VMs don't disturb each other, that a restart is not noticed, and that a bad
// environment leads to a clear sentence and nothing else.
package endtoend
