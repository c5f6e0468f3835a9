// Package equivalence holds the kernel's fast path against package translate: the
// BPF program, run on a packet, either gives the bytes that translate gives, or
// leaves the packet to user space. There is no third outcome.
//
//	            ┌─▶ fastpath.Program.Try (BPF_PROG_TEST_RUN) ─▶ bytes ─┐
//	packet ─────┤                                  └─▶ falls through   ├─ equal?
//	            └─▶ translate: Decide, Fit, Rewrite ──────────▶ bytes ─┘
//
// Generated identifications are left out of the comparison, with the header
// checksum that follows from them; that one is verified instead.
//
// All of it is done twice, for the program at the TUN device and for the one at the
// ingress of an interface, which asks the routing table of a host made for that.
//
// There are only tests here. They stand apart from both packages, which don't
// know each other. A test run has neither superpackets nor partial checksums:
// those go through real devices.
package equivalence
