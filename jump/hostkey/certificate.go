package hostkey

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
)

// Certified is a key with an authority's word for it.
type Certified struct {
	Signer  ssh.Signer
	Names   []string  // that it holds for; none: all
	Expires time.Time // zero: never
	CA      ssh.PublicKey
}

// Expired tells whether clients believe the certificate at a time.
func (c *Certified) Expired(at time.Time) bool {
	return !c.Expires.IsZero() && !at.Before(c.Expires)
}

// LoadCertificate reads a host certificate (OpenSSH's PROTOCOL.certkeys), as
// `ssh-keygen -s CA -h -I NAME -n HOST key.pub` makes it, for one of the keys. An
// expired one is no error: see Expired.
func LoadCertificate(path string, keys []ssh.Signer) (*Certified, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("host certificate: %w", err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, fmt.Errorf("host certificate %s is not understood: %w", path, err)
	}
	cert, ok := public.(*ssh.Certificate)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s is a key and no certificate; name the file that ends in -cert.pub", path)
	case cert.CertType != ssh.HostCert:
		return nil, fmt.Errorf("%s is a certificate for users; make one for hosts with `ssh-keygen -s CA -h`", path)
	}
	// The authority is the clients' choice, so any will do here; what is wrong
	// for all of them shows now rather than there.
	checker := ssh.CertChecker{Clock: func() time.Time { return time.Unix(int64(min(cert.ValidAfter, 1<<62)), 0) }}
	name := ""
	if len(cert.ValidPrincipals) > 0 {
		name = cert.ValidPrincipals[0]
	}
	if err := checker.CheckCert(name, cert); err != nil {
		return nil, fmt.Errorf("host certificate %s: %w", path, err)
	}
	c := &Certified{Names: cert.ValidPrincipals, CA: cert.SignatureKey}
	if cert.ValidBefore != ssh.CertTimeInfinity {
		c.Expires = time.Unix(int64(min(cert.ValidBefore, 1<<62)), 0)
	}
	for _, k := range keys {
		if bytes.Equal(k.PublicKey().Marshal(), cert.Key.Marshal()) {
			c.Signer, err = ssh.NewCertSigner(cert, k)
			return c, err
		}
	}
	return nil, fmt.Errorf("host certificate %s is for the key %s, which is none of host_keys", path, ssh.FingerprintSHA256(cert.Key))
}
