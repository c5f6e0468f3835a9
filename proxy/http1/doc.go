// Package http1 looks at the requests of an HTTP/1 connection byte by byte before
// anything else reads them, and stops at the first that could be read in two ways.
//
//	bytes ─▶ Checker.Feed ─▶ in order: net/http reads them
//	                └──────▶ Fault: a status, and the end of the connection
//
// A proxy and the server behind it that disagree about where a request ends can be
// made to disagree about whose it is (request smuggling). So a [Checker] takes only
// what the grammar of RFC 9112 gives, without what it allows for the sake of old
// programs, and what it takes net/http reads the same way: a fuzz target sees to
// that. It does no I/O and keeps nothing of what it has seen.
//
// Sources: RFC 9112 (HTTP/1.1), RFC 9110 section 5.6.2 (tokens), 7.2 (Host), 7.8
// (Upgrade), RFC 9113 section 3.3 (HTTP/2 with prior knowledge).
package http1
