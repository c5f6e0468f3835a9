// Package hostkey keeps the keys by which clients know a jump server, in files of
// OpenSSH's formats:
//
//	ssh_host_ed25519_key             the key in use
//	ssh_host_ed25519_key.pub         its public half
//	ssh_host_ed25519_key.next        the one after it, announced already
//	ssh_host_ed25519_key.old         the one before it, kept in case
//	ssh_host_ed25519_key-cert.pub    an authority's word for the key in use
//
// Keys are Ed25519: every SSH client since 2014 knows it, and its signatures are
// the cheapest. For clients that may not use it, as those that go by FIPS 140,
// there may be a key of ECDSA with P-256 besides. Files are written whole or not at all, and never over a key.
//
// Sources: RFC 8709 (Ed25519 in SSH), RFC 4255, 6594 and 7479 (SSHFP), OpenSSH's
// PROTOCOL.certkeys (host certificates).
package hostkey
