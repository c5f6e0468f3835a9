// Package proxy lets IPv4-only visitors reach web sites on IPv6-only VMs.
//
//	:80  TCP ─▶ web   each request by its Host header ─▶ [VM]:80
//	:443 TCP ─▶ tls   each connection by its SNI      ─▶ [VM]:443
//	:443 UDP ─▶ quic  each connection by its SNI      ─▶ [VM]:443
//
// TLS and QUIC end on the VM: their bytes pass untouched, and this host has no keys.
// Names are looked up in a [routes.Table] and nowhere else; no name that a client
// sends is ever resolved. Where a route leads is checked again when it is dialled.
//
// Sources: RFC 9110, 9112, 9113 (HTTP), RFC 8446 and 6066 (TLS and SNI), RFC 9000,
// 9001 and 9369 (QUIC), RFC 7239 (Forwarded), the PROXY protocol 2.
package proxy
