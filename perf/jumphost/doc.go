// Package jumphost measures the jump server beside OpenSSH's sshd as a jump host:
// throughput, handshakes, memory of idle sessions, and latency.
//
//	client eth0 ---- client0 jump vm0 ---- eth0 vm
//	   |                     |                  |
//	ssh, ssh -J        isthmus or sshd     sink, source, echo on port 22,
//	and a generator       on CPU 1         and an sshd
//	  on CPU 0                               on CPU 0
//
// The jump host has a CPU to itself; all others share another one. The client of
// throughput is OpenSSH's own (ssh -W, ssh -J) with its default algorithms; sshd is
// measured with the cipher that this gives and with aes128-gcm alone. Handshakes,
// latency and idle sessions come from one generator, on golang.org/x/crypto/ssh,
// which asks every host for the same: key exchange by curve25519, no
// authentication, one channel.
//
// What favours sshd: no PAM, an empty password (so that "none" lets in, as in
// isthmus), and memory in the kernel is not counted, of which its two processes per
// session have more. What favours isthmus: the generator's network is exempt from
// the limits that count sources; sshd's MaxStartups is raised.
//
// A round measures all hosts once, each second round in the opposite order: where
// others use the machine, too, a ratio is only worth something between neighbours
// in time. Ratios are medians of the rounds' ratios.
package jumphost
