// Package emulator runs isthmus and its tests on machines that are not here: arm64
// on an x86-64 desk, older and newer kernels, other page sizes, a network card with
// several queues. It takes kernels and programs from Debian, unpacks them without
// installing anything, and boots them in QEMU.
//
//	apt (its own folders) ─▶ unpacked packages ─┐
//	go test -c for the guest ───────────────────┼─▶ initramfs ─▶ QEMU ─▶ console
//	guest, which is /init ──────────────────────┘                        │
//	                                                   table ◀─ Event per line
//
// All the guest has is its memory. It runs a list of jobs, tells of each test on
// the console as a line that begins with [Mark], and powers off.
package emulator
