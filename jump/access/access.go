package access

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// maxFile bounds a file in bytes, with room for some hundred thousand lines.
const maxFile = 32 << 20

// lines calls f for each line that is neither empty nor a comment.
func lines(path string, f func(line string) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	switch {
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s has mode %04o, with which others can let themselves in; `chmod go-w %s`", path, info.Mode().Perm(), path)
	case info.Size() > maxFile:
		return fmt.Errorf("%s is larger than %d MiB", path, maxFile>>20)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(line); err != nil {
			return fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
	}
	return nil
}

// Keys are public keys and the names that stand behind them.
type Keys map[string]string

// LoadKeys reads a file of public keys, one a line.
func LoadKeys(path string) (Keys, error) {
	keys := Keys{}
	err := lines(path, func(line string) error {
		k, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return errors.New("no public key; write a line such as: ssh-ed25519 AAAA... NAME")
		}
		if err := acceptable(k, options); err != nil {
			return err
		}
		if comment == "" {
			comment = ssh.FingerprintSHA256(k)
		}
		if _, double := keys[string(k.Marshal())]; double {
			return fmt.Errorf("the key %s comes twice", ssh.FingerprintSHA256(k))
		}
		keys[string(k.Marshal())] = comment
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("authorized keys: %w", err)
	}
	return keys, nil
}

// harmless options forbid what the jump server has not, or allow what it does.
var harmless = []string{
	"restrict", "no-agent-forwarding", "no-pty", "no-user-rc", "no-x11-forwarding", "port-forwarding",
}

func acceptable(k ssh.PublicKey, options []string) error {
	for _, o := range options {
		// Those that narrow down who gets in, or where to, must not be
		// passed over.
		if !slices.Contains(harmless, strings.ToLower(o)) {
			return fmt.Errorf("option %q does not hold here; remove it or the line", o)
		}
	}
	if _, ok := k.(*ssh.Certificate); ok {
		return errors.New("a certificate; write the key it is for")
	}
	c, ok := k.(ssh.CryptoPublicKey)
	if !ok {
		return nil // a key in hardware
	}
	if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() < 2048 {
		return fmt.Errorf("RSA with %d bits is no proof any more; at least 2048", r.N.BitLen())
	}
	return nil
}

// Known gives the name of a key's owner.
func (k Keys) Known(key ssh.PublicKey) (who string, ok bool) {
	who, ok = k[string(key.Marshal())]
	return who, ok
}

// Tokens are the hashes of tokens and the names that stand behind them.
type Tokens []token

type token struct {
	who  string
	hash [sha256.Size]byte
}

// LoadTokens reads a file with a name and the SHA-256 of a token in each line.
func LoadTokens(path string) (Tokens, error) {
	var list Tokens
	err := lines(path, func(line string) error {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return errors.New("write a name, a space, and the SHA-256 of the token in hexadecimal")
		}
		t := token{who: fields[0]}
		n, err := hex.Decode(t.hash[:], []byte(fields[1][:min(len(fields[1]), 2*sha256.Size)]))
		if err != nil || n != sha256.Size || len(fields[1]) != 2*sha256.Size {
			return fmt.Errorf("no SHA-256 after %q: 64 hexadecimal digits", fields[0])
		}
		if t.hash == sha256.Sum256(nil) {
			return fmt.Errorf("the token of %q is empty", fields[0])
		}
		list = append(list, t)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return list, nil
}

// Known gives the name of a token's owner. How long it takes tells nothing about
// the tokens.
func (t Tokens) Known(secret []byte) (who string, ok bool) {
	hash := sha256.Sum256(secret)
	for i := range t {
		if subtle.ConstantTimeCompare(t[i].hash[:], hash[:]) == 1 {
			who, ok = t[i].who, true
		}
	}
	return who, ok
}

// NewToken makes a token of 256 bits, and the line that lets it in.
func NewToken(who string) (secret, line string) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	secret = base64.RawURLEncoding.EncodeToString(b)
	return secret, fmt.Sprintf("%s %x", who, sha256.Sum256([]byte(secret)))
}
