package sniff

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

// slowKeys is derive by the library's HKDF.
func slowKeys(version uint32, dcid []byte, side string) (*keys, error) {
	expand := func(secret []byte, label string, length int) []byte {
		info := "\x00" + string(rune(length)) + string(rune(len("tls13 ")+len(label))) + "tls13 " + label + "\x00"
		b, err := hkdf.Expand(sha256.New, secret, info, length)
		if err != nil {
			panic(err)
		}
		return b
	}
	s := suiteOf(version)
	initial, err := hkdf.Extract(sha256.New, dcid, []byte(s.salt))
	if err != nil {
		return nil, err
	}
	secret := expand(initial, side, sha256.Size)
	k := &keys{iv: [12]byte(expand(secret, s.iv, 12))}
	block, err := aes.NewCipher(expand(secret, s.key, 16))
	if err != nil {
		return nil, err
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	k.hp, err = aes.NewCipher(expand(secret, s.hp, 16))
	return k, err
}

// The keys are those of the library for connection ids of every length.
func TestKeys(t *testing.T) {
	r := rand.NewChaCha8([32]byte{1})
	header, frames := []byte("\xc0 a header with a packet number\x00"), make([]byte, 40)
	for n := range maxID + 1 {
		dcid := make([]byte, n)
		_, _ = r.Read(dcid)
		for _, version := range []uint32{QUICv1, QUICv2} {
			for _, side := range []string{"client in", "server in"} {
				want, err := slowKeys(version, dcid, side)
				if err != nil {
					t.Fatal(err)
				}
				var got keys
				if err := got.derive(version, dcid, side); err != nil {
					t.Fatal(err)
				}
				if a, b := got.seal(header, 1, 0, frames), want.seal(header, 1, 0, frames); !bytes.Equal(a, b) {
					t.Errorf("version %x, %s, connection id %x: sealed %x, want %x", version, side, dcid, a, b)
				}
			}
		}
	}
}

// A forged packet costs what crypto/aes allocates for two keys, one of GCM.
func TestForgedAllocations(t *testing.T) {
	forged := initial{frames: cryptoFrame(0, hello(sni("shop.example.com")))}.seal(t)
	forged[len(forged)-1]++
	var q QUIC
	n := testing.AllocsPerRun(100, func() {
		if _, err := q.Datagram(forged); err != QUICSealed {
			t.Fatal(err)
		}
	})
	if n > 3 {
		t.Errorf("%v allocations, want 3", n)
	}
}
