// Package router is the data plane: workers that move packets between AF_XDP
// ports, the translator and the kernel.
//
//	NIC queue i ──► worker i ── receive ► Decide ► next hop ► Fit ► Rewrite ► send ──► NIC queue i
//	                   │  ▲                                                            of the egress port
//	        TUN queue i▼  │TUN queue i
//	                  kernel: no port, no neighbour yet, local, no NIC at all
//
// Worker i owns queue i of every port, queue i of the TUN device, its frames,
// its Plan and its counters; it is one goroutine on one thread, and nothing it
// owns is touched by anybody else. What workers share is immutable and replaced
// whole through an atomic pointer that is loaded once per batch: the Translator
// and the next-hop Table. A scrape of the counters asks the worker for a copy
// (see worker.stats), so counting costs a plain addition.
//
// A packet that can't leave by a port goes to the kernel, translated, through
// the TUN device. One that is not ours goes there as it came. So a worker never
// has to know more than the fast way.
//
// Sources: RFC 7915, RFC 1812 section 4.3.2.8 and RFC 4443 section 2.4(f)
// (rate limit of ICMP errors); Linux Documentation/networking/af_xdp.rst.
package router
