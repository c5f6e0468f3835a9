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
// each second round in the opposite order: on a machine that others use, too, a
// ratio is only worth something between neighbours in time. Ratios are medians of
// the rounds' ratios.
//
// TCP is one stream of iperf3. Small packets are UDP with 18 bytes of payload, in
// eight flows from one CPU: first as fast as they can be sent, then the highest rate
// at which no more than one in a thousand is lost. They are counted where they
// arrive at the server's interface; a socket filter drops them behind it, since a
// program that reads them would take a CPU from the path.
//
// With two CPUs, sender and path share one: what happens in the kernel between VM
// and server happens in the sender's system call, up to the first queue. So a path
// without a queue (plain forwarding, the fast path) slows the sender down and loses
// nothing, and one with a queue (a TUN device that user space reads) loses what the
// second CPU can't take.
package kernelpath
