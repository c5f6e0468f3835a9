package hostkey

import (
	"crypto/sha256"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Numbers of SSHFP records: Ed25519 (RFC 7479 section 2) and SHA-256 (RFC 6594
// section 2). SHA-1, the other digest, is no proof any more.
const (
	sshfpEd25519 = 4
	sshfpSHA256  = 2
)

// SSHFP is the DNS record of an Ed25519 key as a line of a zone file (RFC 4255
// section 3.1). Clients believe it where DNSSEC signs it.
func SSHFP(name string, k ssh.PublicKey) string {
	return fmt.Sprintf("%s. IN SSHFP %d %d %x", strings.TrimSuffix(name, "."), sshfpEd25519, sshfpSHA256, sha256.Sum256(k.Marshal()))
}

// KnownHosts is the line for ~/.ssh/known_hosts.
func KnownHosts(name, port string, k ssh.PublicKey) string {
	return knownhosts.Line([]string{net.JoinHostPort(name, port)}, k)
}
