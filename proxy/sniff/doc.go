// Package sniff reads which host a client wants from the first bytes it sends:
// the ClientHello of TLS over TCP, the same inside QUIC's Initial packets, and
// host names wherever they stand.
//
//	TCP      records ──────────────────────────────┐
//	                                               ├─▶ ClientHello ─▶ Host, ALPN
//	QUIC     Initial packets ─▶ CRYPTO frames ─────┘
//
// It reads bytes and nothing else: no I/O, no clock, no goroutine. Nothing is
// changed, for the bytes go on to the backend as they came. What it gives back
// of the client's bytes is said to alias them, or is a copy.
//
// A hello that can't be read has a [Reason], and each reason the alert that
// tells the client. There is no default for it: what was not understood is not
// routed.
//
// Extensions other than server_name and ALPN are the backend's to judge. So
// are versions, cipher suites and key shares; that lets GREASE (RFC 8701), ECH
// (RFC 9849: the outer name is what is routed) and what comes later pass.
//
// Sources: RFC 8446 (TLS 1.3), RFC 6066 section 3 (server_name), RFC 7301
// (ALPN), RFC 9000 and RFC 9001 (QUIC), RFC 9369 (QUIC v2), RFC 1123 section
// 2.1 (host names).
package sniff
