package control

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// lookAgain is how often files of a certificate are looked at, at most.
const lookAgain = time.Second

// certificate is what a listener shows, and the files it comes from. They are
// looked at when somebody connects: what a renewal puts there is shown within
// lookAgain, also through a link that leads elsewhere now, and there is nothing
// that watches and could stop doing so. Files that don't fit together leave what
// there was.
type certificate struct {
	certFile, keyFile string
	log               func(warn bool, message string)

	mu     sync.Mutex
	looked time.Time
	seen   [2]os.FileInfo // of what was read last, good or not
	loaded *tls.Certificate
}

// loadCertificate reads the files for the first time.
func loadCertificate(certFile, keyFile string, log func(warn bool, message string)) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) read() error {
	c.looked = time.Now()
	// Before they are read: what changes meanwhile is read again.
	c.seen = c.stat()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w; give PEM files that belong together", c.certFile, c.keyFile, err)
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		c.log(true, fmt.Sprintf("certificate %s ended on %s; renew it", c.certFile, end.Format(time.DateOnly)))
	}
	c.loaded = &pair
	return nil
}

func (c *certificate) stat() (seen [2]os.FileInfo) {
	for i, name := range [...]string{c.certFile, c.keyFile} {
		seen[i], _ = os.Stat(name)
	}
	return seen
}

// get is for tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) >= lookAgain {
		c.look()
	}
	return c.loaded, nil
}

// look reads the files again if they are others.
func (c *certificate) look() {
	c.looked = time.Now()
	now := c.stat()
	if same(now[0], c.seen[0]) && same(now[1], c.seen[1]) {
		return
	}
	if err := c.read(); err != nil {
		c.log(true, fmt.Sprintf("%v; the certificate from before stays", err))
		return
	}
	c.log(false, fmt.Sprintf("certificate %s is read again", c.certFile))
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// tlsConfig is what holds for a listener with a certificate.
func (c *certificate) tlsConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

var errHalf = errors.New("a certificate needs its key, and the reverse; give both cert_file and key_file, or none")
