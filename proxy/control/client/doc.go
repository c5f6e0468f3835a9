// Package client asks the REST API, over TLS, loopback or the daemon's Unix socket.
//
//	isthmus routes, isthmus token ─▶ Client ─▶ https://..., unix:/run/isthmus/control.sock
//
// What the server refuses is a [*wire.Problem], whose text is for people: each line
// names one thing that is wrong, and what to do.
package client
