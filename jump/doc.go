// Package jump is an SSH server that relays to port 22 of the cloud's own VMs
// and does nothing else:
//
//	ssh -J jump@dfw0.infra.example.com root@2001:db8::aa64
//
//	client ── TCP ── wire ── ssh transport ── channel "direct-tcpip" ── relay ── TCP ── [VM]:22
//	           │                                   │
//	        admission                            policy
//
// Whoever connects is let in, unless the configuration asks for keys or tokens;
// what they may reach is settled by the policy, on the literal address that is
// then dialled. The session to the VM is encrypted from the client to the VM
// inside the channel: this server sees neither what is typed nor who logs in.
//
// Ownership: [Server] owns listeners and connections, a connection owns its
// channels, and a channel the TCP connection to its VM. Each closes what it
// owns when it ends, whichever side began it. What a client can make the server
// keep is bounded: by [Limits] in number, by [Timeouts] in time, and by the
// backlog of a connection in bytes: 43 MiB of memory, besides some 5 MiB that the
// SSH library may queue between its goroutines.
//
// Sources: RFC 4251 to 4254 (SSH), OpenSSH's PROTOCOL (keepalive@openssh.com,
// hostkeys-00@openssh.com).
package jump
