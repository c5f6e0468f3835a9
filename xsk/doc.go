// Package xsk is AF_XDP: frames go between a network queue and this process's
// own memory without passing through the kernel's network stack.
//
//	           fill ring                    rx ring
//	free ──Service──▶ [ addresses ] ─kernel─▶ [ descriptors ] ──Recv──▶ held
//	 ▲                                                                   │
//	 │         completion ring              tx ring                      │
//	 └────Service──── [ addresses ] ◀─kernel─ [ descriptors ] ◀──Send────┤
//	 └───────────────────────────────Free───────────────────────────────┘
//
// A [UMEM] is one piece of memory cut into chunks. A chunk is at any time in
// exactly one place: on the free list, held by the caller, or lent to one
// [Socket] (in one of its four rings or with the driver). [UMEM.Audit] proves
// it. A [Socket] serves one queue of one interface; several may share a UMEM,
// and then a frame received on one can be sent on another as it is.
//
// # Ownership
//
// A UMEM and all the sockets on it belong to one worker: Alloc, Free, Recv,
// Send, Flush, Service, Open and Close are called by that worker alone, and
// nothing here takes a lock for them. The exceptions, which any goroutine may
// call, are [Socket.Stats], [Socket.State] and [Socket.Mode]; so may the methods of
// [Tables] and [Program].
//
// # Steering
//
// A [Program] on an interface decides which frames go to the sockets: those
// for a translated prefix ([Tables]). All other frames, and all frames of a
// queue that has no socket, go to the kernel as if nobody were here; so does
// everything as soon as this process ends, however it ends.
//
// # What is not used
//
// Multi-buffer frames: a frame that doesn't fit into a chunk is left to the
// kernel by the steering program and counted ([SteerCounters].Oversize).
// [CheckMTU] says beforehand whether that can happen.
//
// # Sources
//
// Linux Documentation/networking/af_xdp.rst, include/uapi/linux/if_xdp.h,
// net/xdp/xsk.c and xdp_umem.c; the ring protocol is that of xsk_queue.h.
package xsk
