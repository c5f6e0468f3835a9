// Package kernelpath measures the kernel path: what isthmus makes of the bandwidth
// and the packet rate that plain IPv6 forwarding has in the same network, with and
// without the fast path and NAT44, and beside TAYGA.
//
//	vm eth0 --- vm0 hypervisor wan0 --- eth0 router eth1 --- eth0 server
//	 |                   |                                         |
//	iperf3 -c     nothing (plain IPv6),                     iperf3 -s,
//	UDP sender    isthmus or TAYGA                          UDP counted and dropped
//
// Every path carries traffic between the same two hosts over the same links; only
// the address of the server tells them apart. A round measures all paths once, and
// each second round in the opposite order. Other work on the machine only takes
// away, and takes more from paths that run inside the sender's system call than
// from programs, which the scheduler gives CPU time of their own; so ratios compare
// best rounds.
//
// TCP is one stream of iperf3. Small packets are UDP with 18 bytes of payload, in
// eight flows from all CPUs: first as fast as they can be sent, then the highest
// rate at which no more than one in a thousand is lost. They are counted where they
// come to the router's interface and dropped right behind it, so that the hosts
// beyond cost no CPU.
//
// Sender and path share the CPUs: what happens in the kernel between VM and router
// happens in the sender's system call, up to the first queue. So a path without a
// queue (plain forwarding, the fast path) slows the senders down and loses nothing;
// its rate includes what sending costs. One with a queue (a TUN device that user
// space reads) loses what its readers don't get the CPU time for.
package kernelpath
