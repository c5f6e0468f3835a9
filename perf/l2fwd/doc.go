// Package l2fwd measures what our AF_XDP sockets cost, beside those of an
// independent implementation (github.com/asavie/xdp), by the simplest work
// there is: swap the MAC addresses and send the frame back.
//
//	CPU 0, namespace gen                 CPU 1, namespace fwd
//	live frames ─redirect─▶ eth0 ═══════▶ eth0 ─XSKMAP─▶ rx ring ─▶ swap
//	                        eth0 ◀═══════ eth0 ◀─────── tx ring ◀───┘
//	              XDP_DROP, counted
//
// Frames are made in the kernel: BPF_PROG_TEST_RUN with live frames runs a
// program that redirects each into the veth, faster than any forwarder takes
// them. The sink is an XDP program with a per-CPU counter. Both forwarders get
// the same interface, the same programs (one that redirects all to the XSKMAP:
// what is compared are the sockets), the same ring sizes and the same CPU, and
// take turns, because a shared machine's speed drifts.
//
// The veth moves frames in copy mode. Most of the time goes into the kernel's
// copying, skbs and the veth itself, which is the same for both; the ratio says
// how a whole forwarder gains, not how much cheaper the user-space part is.
// BenchmarkFrame in package xsk times that part alone.
//
// Sources: Linux Documentation/bpf/bpf_prog_run.rst (live frames);
// samples/bpf/xdpsock_user.c, where the name l2fwd comes from.
package l2fwd
