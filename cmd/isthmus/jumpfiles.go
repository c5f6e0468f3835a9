package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/jump"
	"aarch64.com/isthmus/jump/access"
	"aarch64.com/isthmus/jump/hostkey"
)

// loadedJump is a configuration of the jump server with all that is in files.
type loadedJump struct {
	config   jump.Config
	keys     *hostKeys
	warnings []string
}

// hostKeys are the keys of the configuration.
type hostKeys struct {
	now, next    []ssh.Signer
	made         []string // paths of those that were not there
	certificates []*hostkey.Certified
}

// expiresSoon is when a certificate's end is worth a warning.
const expiresSoon = 14 * 24 * time.Hour

// loadJump reads the files that [jump] names. It changes nothing but for making
// the first host key, on the first start.
func loadJump(c *config.Config, start bool, audit *auditLog, log zerolog.Logger) (*loadedJump, error) {
	keys, err := loadHostKeys(c, start)
	if err != nil {
		return nil, err
	}
	l := &loadedJump{config: jumpSettings(c), keys: keys}
	l.config.Log, l.config.Audit = logTo(log), audit.record
	l.config.HostKeys, l.config.NextKeys = keys.now, keys.next
	for i, cert := range keys.certificates {
		path := c.Jump.HostCertificates[i]
		switch now := time.Now(); {
		case cert.Expired(now):
			l.warnings = append(l.warnings, fmt.Sprintf("host certificate %s has expired (%s) and is left out; make a new one", path, cert.Expires.Format(time.DateTime)))
			continue
		case cert.Expired(now.Add(expiresSoon)):
			l.warnings = append(l.warnings, fmt.Sprintf("host certificate %s expires soon (%s); make a new one", path, cert.Expires.Format(time.DateTime)))
		}
		l.config.HostKeys = append(l.config.HostKeys, cert.Signer)
	}
	if l.config.Access, err = loadAccess(c); err != nil {
		return nil, err
	}
	return l, nil
}

// loadAccess reads who is let in.
func loadAccess(c *config.Config) (a jump.Access, err error) {
	if c.Jump.Access == config.AccessAnyone {
		return a, nil
	}
	if path := c.Jump.AuthorizedKeys; path != "" {
		list, err := access.LoadKeys(path)
		if err != nil {
			return a, err
		}
		a.Key = list.Known
	}
	if path := c.Jump.Tokens; path != "" {
		list, err := access.LoadTokens(path)
		if err != nil {
			return a, err
		}
		a.Token = list.Known
	}
	// Without either the server would let in everybody.
	if a.Key == nil && a.Token == nil {
		return a, errors.New(`jump.access is "listed", and nobody is listed; set authorized_keys or tokens to a file`)
	}
	return a, nil
}

// tell logs what an operator should know.
func (l *loadedJump) tell(log zerolog.Logger) {
	for _, path := range l.keys.made {
		log.Info().Str("file", path).Msg("made a host key")
	}
	for _, k := range l.keys.now {
		log.Info().Str("fingerprint", ssh.FingerprintSHA256(k.PublicKey())).Msg("jump server's host key")
	}
	for _, k := range l.keys.next {
		log.Info().Str("fingerprint", ssh.FingerprintSHA256(k.PublicKey())).Msg("next host key, announced to clients")
	}
	for _, w := range l.warnings {
		log.Warn().Msg(w)
	}
}

// loadHostKeys reads the host keys. The one that nobody named is made where it
// is not there yet, on demand.
func loadHostKeys(c *config.Config, mayMake bool) (*hostKeys, error) {
	h := &hostKeys{}
	for _, path := range c.JumpHostKeys() {
		var k ssh.Signer
		var made bool
		var err error
		if mayMake && len(c.Jump.HostKeys) == 0 {
			k, made, err = hostkey.LoadOrMake(path)
		} else {
			k, err = hostkey.Load(path)
		}
		if err != nil {
			return nil, err
		}
		if made {
			h.made = append(h.made, path)
		}
		if err := oneOfAType(h.now, k, path); err != nil {
			return nil, err
		}
		h.now = append(h.now, k)
	}
	for _, path := range nextHostKeys(c) {
		k, err := hostkey.Load(path)
		if err != nil {
			return nil, err
		}
		h.next = append(h.next, k)
	}
	for _, path := range c.Jump.HostCertificates {
		cert, err := hostkey.LoadCertificate(path, h.now)
		if err != nil {
			return nil, err
		}
		for _, other := range h.certificates {
			if err := oneOfAType([]ssh.Signer{other.Signer}, cert.Signer, path); err != nil {
				return nil, err
			}
		}
		h.certificates = append(h.certificates, cert)
	}
	return h, nil
}

// oneOfAType refuses a second key or certificate of a type: clients would never
// see one of the two.
func oneOfAType(have []ssh.Signer, k ssh.Signer, path string) error {
	for _, other := range have {
		if kind := k.PublicKey().Type(); kind == other.PublicKey().Type() {
			return fmt.Errorf("%s is the second of type %s; a server shows one of each (name a key to come in next_host_keys)", path, kind)
		}
	}
	return nil
}

// nextHostKeys are the files of the keys to announce: those given, or what stands
// beside the keys in use.
func nextHostKeys(c *config.Config) []string {
	if len(c.Jump.NextHostKeys) > 0 {
		return c.Jump.NextHostKeys
	}
	var list []string
	for _, path := range c.JumpHostKeys() {
		if _, err := os.Lstat(path + hostkey.NextSuffix); err == nil {
			list = append(list, path+hostkey.NextSuffix)
		}
	}
	return list
}
