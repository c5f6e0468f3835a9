// Package ordering checks how a program that shares rings with the kernel was
// compiled for arm64, whose processors reorder plain loads and stores: see
// docs/arm64.md. An emulator on x86-64 can't show what is wrong there, and no
// short test on arm64 will; the instructions can.
//
//	source ──▶ lines that load an index, store one, access a slot ─┐
//	go test -c, go tool objdump ──▶ instructions, their lines ──────┴─▶ Check
package ordering
