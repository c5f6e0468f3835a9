package sniff

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

const (
	tagLength    = 16 // RFC 9001 section 5.3
	sampleLength = 16 // RFC 9001 section 5.4.2
	sampleOffset = 4  // from where the packet number begins, however long that is
)

// suite is what the versions' packet protection differs in.
type suite struct {
	salt        string
	key, iv, hp string // labels
	initial     byte   // the packet type
}

var (
	// RFC 9001 section 5.2.
	suite1 = suite{"\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a", "quic key", "quic iv", "quic hp", 0}
	// RFC 9369 section 3.3.
	suite2 = suite{"\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9", "quicv2 key", "quicv2 iv", "quicv2 hp", 1}
)

func suiteOf(version uint32) *suite {
	if version == QUICv2 {
		return &suite2
	}
	return &suite1
}

// keys protect the Initial packets of one side. They come from a connection id
// that everybody can read: they keep out packets of other connections and
// nobody who can see the datagrams.
type keys struct {
	aead cipher.AEAD
	hp   cipher.Block
	iv   [12]byte
	// Scratch, which the interfaces above would make an allocation of.
	nonce [12]byte
	mask  [16]byte
}

// derive makes them from the first connection id that the client sends to
// (RFC 9001 section 5.2); side is "client in" or "server in". AES and GCM are the
// only allocations: crypto/aes has no way to give an old cipher a new key.
func (k *keys) derive(version uint32, dcid []byte, side string) error {
	s := suiteOf(version)
	initial := hmac([]byte(s.salt), dcid) // HKDF-Extract
	secret := expand(&initial, side, sha256.Size)
	key, iv, hp := expand(&secret, s.key, 16), expand(&secret, s.iv, 12), expand(&secret, s.hp, 16)
	k.iv = [12]byte(iv[:])
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		return err
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return err
	}
	k.hp, err = aes.NewCipher(hp[:16])
	return err
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446 section 7.1) for up
// to 32 bytes, which are one round of HKDF-Expand (RFC 5869 section 2.3).
func expand(secret *[sha256.Size]byte, label string, length byte) [sha256.Size]byte {
	var space [32]byte
	info := append(space[:0], 0, length, byte(len("tls13 ")+len(label)))
	info = append(append(info, "tls13 "...), label...)
	return hmac(secret[:], append(info, 0, 1))
}

// hmac is HMAC-SHA256 (RFC 2104) of a key of up to 64 and a message of up to 32
// bytes. A flood of forged packets needs five for each, and the one of
// crypto/hmac allocates its state each time.
func hmac(key, message []byte) [sha256.Size]byte {
	var inner [sha256.BlockSize + 32]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range sha256.BlockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	n := copy(inner[sha256.BlockSize:], message)
	sum := sha256.Sum256(inner[:sha256.BlockSize+n])
	copy(outer[sha256.BlockSize:], sum[:])
	return sha256.Sum256(outer[:])
}

// open takes the protection off an Initial packet (RFC 9001 section 5.4 and
// 5.3) and gives its frames, which are in scratch if that is large enough. The
// packet itself stays as it is.
func (k *keys) open(p packet, scratch []byte) ([]byte, error) {
	if len(p.bytes) < p.number+sampleOffset+sampleLength {
		return nil, QUICHeader
	}
	k.hp.Encrypt(k.mask[:], p.bytes[p.number+sampleOffset:])
	// Until the client has seen an acknowledgement it sends packet numbers whole
	// (RFC 9000 section 17.1), so this one is not relative to another.
	first := p.bytes[0] ^ k.mask[0]&0x0f
	n := int(first&3) + 1
	header := append(slices.Grow(scratch[:0], len(p.bytes)), p.bytes[:p.number+n]...)
	header[0] = first
	var number uint64
	for i := range n {
		header[p.number+i] ^= k.mask[1+i]
		number = number<<8 | uint64(header[p.number+i])
	}
	frames, err := k.aead.Open(header[len(header):], k.nonceOf(number), p.bytes[len(header):], header)
	if err != nil {
		return nil, QUICSealed
	}
	return frames, nil
}

// seal is the reverse for a header that ends in a packet number of n bytes.
func (k *keys) seal(header []byte, n int, number uint64, frames []byte) []byte {
	b := append([]byte(nil), header...)
	b = k.aead.Seal(b, k.nonceOf(number), frames, header)
	at := len(header) - n
	k.hp.Encrypt(k.mask[:], b[at+sampleOffset:])
	b[0] ^= k.mask[0] & 0x0f
	for i := range n {
		b[at+i] ^= k.mask[1+i]
	}
	return b
}

func (k *keys) nonceOf(number uint64) []byte {
	k.nonce = k.iv
	low := k.nonce[4:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^number)
	return k.nonce[:]
}

// Refuse is a server's answer to an Initial packet with this header: it closes
// the connection, with a TLS alert for example (RFC 9001 section 4.8), so that a
// client need not wait for its timer. It is shorter than what it answers. There is
// an error if the header is none of an Initial packet.
func Refuse(h LongHeader, code TransportError) ([]byte, error) {
	const (
		connectionClose = 0x1c
		crypto          = 0x06
		pad             = 8 // so that there are bytes to sample
	)
	if len(h.DCID) > maxID || len(h.SCID) > maxID {
		return nil, QUICHeader
	}
	var k keys
	if err := k.derive(h.Version, h.DCID, "server in"); err != nil {
		return nil, err
	}
	frames := make([]byte, 5+pad)
	copy(frames, []byte{connectionClose, 0x40 | byte(code>>8), byte(code), crypto, 0}) // the code is a varint of two bytes
	b := []byte{0xc0 | suiteOf(h.Version).initial<<4, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[1:], h.Version)
	b = append(append(b, byte(len(h.SCID))), h.SCID...)
	b = append(append(b, byte(len(h.DCID))), h.DCID...)
	b = append(b, 0, byte(1+len(frames)+tagLength), 0) // no token, length, packet number 0
	return k.seal(b, 1, 0, frames), nil
}
