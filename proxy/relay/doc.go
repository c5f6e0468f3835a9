// Package relay carries TCP connections from clients to backends that are chosen
// by what a client says first.
//
//	accept ─▶ hello ─▶ connect ─▶ relay ⇄ ─▶ end
//	            │          │
//	          Judge      next backend, or a reply
//
// A loop is one goroutine with one epoll instance, one listener of its own
// (SO_REUSEPORT) and all connections that came by it: a connection never leaves
// its loop, so nothing here has a lock. What a connection needs while it is idle
// is its [Conn] and two sockets: there is no goroutine and no buffer of its own.
// Bytes go through one buffer of the loop, and those of bulk transfers through a
// pipe by splice(2), which the kernel moves without copying; pipes come from a
// small pool and go back when they are empty.
//
// A connection that breaks on one side breaks on the other one, too, unless there
// is something said before that still has to arrive.
//
// Bytes are not touched: TLS ends at the backend.
package relay
