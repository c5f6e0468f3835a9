package labetcd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Files are paths of PEM files.
type Files struct {
	CA                    string // of all below
	ServerCert, ServerKey string // for all members
	Cert, Key             string // for clients
}

// config is a client's.
func (f Files) config() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New(f.CA + " has no certificate")
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, nil
}

// makeCertificates writes Files.
func (c *Cluster) makeCertificates() error {
	dir, err := c.lab.Dir()
	if err != nil {
		return err
	}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	var addresses []net.IP
	for _, m := range c.Members {
		addresses = append(addresses, m.Addr.AsSlice())
	}
	f := &c.Files
	for n, one := range []struct {
		name      string
		cert, key *string
		ips       []net.IP
		usage     []x509.ExtKeyUsage
	}{
		{"ca", &f.CA, nil, nil, nil},
		{"server", &f.ServerCert, &f.ServerKey, addresses, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}},
		{"client", &f.Cert, &f.Key, nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	} {
		what, key := authority, authorityKey
		if one.key != nil {
			what = &x509.Certificate{
				SerialNumber: big.NewInt(int64(n) + 1), NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
				KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: one.usage, IPAddresses: one.ips,
			}
			if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
				return err
			}
			der, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				return err
			}
			*one.key = filepath.Join(dir, one.name+".key")
			if err := writePEM(*one.key, "PRIVATE KEY", der); err != nil {
				return err
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, what, authority, &key.PublicKey, authorityKey)
		if err != nil {
			return err
		}
		*one.cert = filepath.Join(dir, one.name+".pem")
		if err := writePEM(*one.cert, "CERTIFICATE", der); err != nil {
			return err
		}
	}
	return nil
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
