package hostkey

import (
	"crypto/sha256"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshfpAlgorithms are the types of keys that a server may have, with their numbers
// in SSHFP records (RFC 6594 section 3, RFC 7479 section 2).
var sshfpAlgorithms = map[string]int{
	ssh.KeyAlgoECDSA256: 3,
	ssh.KeyAlgoED25519:  4,
}

// sshfpSHA256 is the number of the digest (RFC 6594 section 2). SHA-1, the other
// one, is no proof any more.
const sshfpSHA256 = 2

// SSHFP is the DNS record of a key as a line of a zone file (RFC 4255 section
// 3.1). Clients believe it where DNSSEC signs it.
func SSHFP(name string, k ssh.PublicKey) string {
	return fmt.Sprintf("%s. IN SSHFP %d %d %x", strings.TrimSuffix(name, "."), sshfpAlgorithms[k.Type()], sshfpSHA256, sha256.Sum256(k.Marshal()))
}

// KnownHosts is the line for ~/.ssh/known_hosts.
func KnownHosts(name, port string, k ssh.PublicKey) string {
	return knownhosts.Line([]string{net.JoinHostPort(name, port)}, k)
}
