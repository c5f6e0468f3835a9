package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// writeCertificate puts a certificate for a name and 127.0.0.1 into a folder.
func writeCertificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// lines are what an operator has been told.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) log(_ bool, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, message)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	// As certificate managers do it: a link that leads to the newest.
	for _, name := range []string{"old", "new"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		writeCertificate(t, filepath.Join(dir, name), name+".example")
	}
	link := filepath.Join(dir, "live")
	if err := os.Symlink("old", link); err != nil {
		t.Fatal(err)
	}
	var log lines
	c, err := loadCertificate(filepath.Join(link, "cert.pem"), filepath.Join(link, "key.pem"), log.log)
	if err != nil {
		t.Fatal(err)
	}
	shows := func() string {
		t.Helper()
		c.looked = time.Time{} // as if some time had passed
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.Subject.CommonName
	}
	if got := shows(); got != "old.example" {
		t.Errorf("at first %s", got)
	}
	before := c.loaded
	if shows(); c.loaded != before {
		t.Error("files that are the same are read again")
	}
	os.Remove(link)
	if err := os.Symlink("new", link); err != nil {
		t.Fatal(err)
	}
	if got := shows(); got != "new.example" {
		t.Errorf("after the change %s", got)
	}

	// What does not fit together changes nothing, and is told once.
	key := filepath.Join(dir, "new", "key.pem")
	old, err := os.ReadFile(filepath.Join(dir, "old", "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, append(old, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := shows(); got != "new.example" {
			t.Errorf("with another's key %s", got)
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := shows(); got != "new.example" {
			t.Errorf("without a key %s", got)
		}
	}
	if n := strings.Count(log.String(), "the certificate from before stays"); n != 2 {
		t.Errorf("told %d times:\n%v", n, &log)
	}
	writeCertificate(t, filepath.Join(dir, "new"), "third.example")
	if got := shows(); got != "third.example" {
		t.Errorf("mended %s", got)
	}
}

func TestBadCertificate(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writeCertificate(t, dir, "a.example")
	for _, c := range [][2]string{{certFile, certFile}, {keyFile, keyFile}, {dir + "/none", keyFile}} {
		if _, err := loadCertificate(c[0], c[1], func(bool, string) {}); err == nil || !strings.Contains(err.Error(), "give PEM files that belong together") {
			t.Errorf("%v: %v", c, err)
		}
	}
}
