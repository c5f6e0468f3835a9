// Package tun is a multi-queue TUN device with virtio-net headers: the port
// through which isthmus and the kernel's own routing hand packets to each
// other.
//
//	kernel routing ──(route 64:ff9b::/96 dev isthmus0)──► Queue.Read  ──► worker
//	kernel routing ◄──────────────(enters at isthmus0)─── Queue.Write ◄── worker
//
//	buffer:   ... headroom | virtio_net_hdr (10 bytes) | IP packet ...
//	                       ^ start-HeaderLen           ^ start
//
// The device carries bare IP packets. The virtio-net header lies right before
// the packet in the caller's buffer, so that one read or write moves both and
// the packet itself is never copied in user space.
//
// Ownership: a Device belongs to whoever opened it; a Queue belongs to one
// worker at a time and has no locks. The device is not persistent: the kernel
// removes it, and with it its addresses and routes, when the last queue is
// closed, however the process ends.
//
// Sources: Linux Documentation/networking/tuntap.rst, drivers/net/tun.c,
// include/uapi/linux/if_tun.h; virtio 1.2, section 5.1.6 (packet header).
package tun
