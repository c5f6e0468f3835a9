package jump

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// Algorithms are few: those that are safe, and fast on arm64 too. OpenSSH's
// first choice of ciphers, chacha20-poly1305, has no assembly for arm64 in Go;
// AES-GCM runs at the speed of the CPU's instructions (hello has the ciphers). The
// Diffie-Hellman groups of RFC 4253 and 8268 would let a client make the server
// compute a lot for a few bytes (CVE-2002-20001). docs/jump.md lists all.
var (
	// The last is the best that dropbear's dbclient knows, which is on many routers.
	macs         = []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256}
	keyExchanges = []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, ssh.KeyExchangeECDHP256}
)

// serverVersion names no release: who scans for one learns nothing.
const serverVersion = "SSH-2.0-isthmus"

// whoKey is where Permissions keep who logged in.
const whoKey = "who"

var (
	errUser      = errors.New("no such user")
	errAccess    = errors.New("not known here")
	errExchanges = errors.New("too many key exchanges")
)

// countedSigner proves who the server is, but not without end: a signature is
// the dearest thing that a client gets for nothing.
type countedSigner struct {
	ssh.AlgorithmSigner
	allow func() bool
}

func (s countedSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	if !s.allow() {
		return nil, errExchanges
	}
	return s.AlgorithmSigner.Sign(rand, data)
}

func (s countedSigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if !s.allow() {
		return nil, errExchanges
	}
	return s.AlgorithmSigner.SignWithAlgorithm(rand, data, algorithm)
}

// serverConfig is the SSH library's configuration for one connection.
func (s *Server) serverConfig(w *wire, ciphers []string) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config:        ssh.Config{Ciphers: ciphers, MACs: macs, KeyExchanges: keyExchanges},
		ServerVersion: serverVersion,
		// Said before logging in, and only to those who could not: on every
		// use it would be noise.
		BannerCallback: func(m ssh.ConnMetadata) string {
			if m.User() == s.config().User {
				return ""
			}
			return fmt.Sprintf("This is a jump server; its user is %q:\n  ssh -J %s@%s root@VM-ADDRESS\n", s.config().User, s.config().User, s.host(w))
		},
	}
	for _, k := range s.config().hostKeys {
		c.AddHostKey(countedSigner{k, w.exchange})
	}
	access := s.config().Access
	if access.everybody() {
		c.NoClientAuth = true
		c.NoClientAuthCallback = func(m ssh.ConnMetadata) (*ssh.Permissions, error) { return s.welcome(m, "") }
		// Some clients never try "none": whatever they try is right.
		c.PasswordCallback = func(m ssh.ConnMetadata, _ []byte) (*ssh.Permissions, error) { return s.welcome(m, "") }
		c.PublicKeyCallback = func(m ssh.ConnMetadata, _ ssh.PublicKey) (*ssh.Permissions, error) { return s.welcome(m, "") }
		c.KeyboardInteractiveCallback = func(m ssh.ConnMetadata, _ ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			return s.welcome(m, "")
		}
		return c
	}
	if access.Key != nil {
		c.PublicKeyCallback = func(m ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			who, ok := access.Key(k)
			if !ok {
				return nil, errAccess
			}
			return s.welcome(m, who)
		}
	}
	if access.Token != nil {
		c.PasswordCallback = func(m ssh.ConnMetadata, token []byte) (*ssh.Permissions, error) {
			who, ok := access.Token(token)
			if !ok {
				return nil, errAccess
			}
			return s.welcome(m, who)
		}
	}
	return c
}

// welcome lets in who has proved enough, if the user is right.
func (s *Server) welcome(m ssh.ConnMetadata, who string) (*ssh.Permissions, error) {
	if m.User() != s.config().User {
		return nil, errUser
	}
	return &ssh.Permissions{Extensions: map[string]string{whoKey: who}}, nil
}
