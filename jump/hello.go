package jump

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// The cipher is the client's choice among ours (RFC 4253 section 7.1), and what
// OpenSSH prefers after chacha20-poly1305 is AES-CTR with a MAC of its own, at half
// the speed of AES-GCM. So clients that have GCM are offered nothing else. To know
// them, the server reads their first packet before it sends its own: nearly all send
// it without waiting for the server's.

// firstPacketWait is how long a client that waits for our first packet, as old
// versions of libssh do, is kept waiting.
const firstPacketWait = 300 * time.Millisecond

// helloMax is more than any client's version and first packet have, in bytes: the
// largest are about 2 KB. One that is larger is not looked at.
const helloMax = 8 << 10

// versionMax is the longest version line, with its end (RFC 4253 section 4.2).
const versionMax = 255

// anyVersion is how a client begins. Only a server may say something else first.
const anyVersion = "SSH-"

var errVersion = errors.New("no version of SSH")

var (
	gcmCiphers = []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}
	allCiphers = slices.Concat(gcmCiphers, []string{ssh.CipherAES128CTR, ssh.CipherAES256CTR})
)

// hello says the server's version, reads what the client says first, and returns the
// ciphers to offer it. The SSH library gets to read all of it afterwards, and what it
// writes first, the version again, is left out.
func (w *wire) hello(deadline time.Time) (ciphers []string, err error) {
	line := serverVersion + "\r\n"
	if _, err := w.Write([]byte(line)); err != nil {
		return nil, err
	}
	w.said = len(line)
	// Small at first: nobody has logged in yet.
	b := make([]byte, 0, 2<<10)
	defer func() { w.first = b }()
	for waiting := false; ; {
		end := bytes.IndexByte(b, '\n') + 1
		switch ciphers, whole := pickCiphers(b[end:]); {
		case end == 0 && len(b) >= versionMax, !bytes.HasPrefix(b, []byte(anyVersion)[:min(len(b), len(anyVersion))]):
			return nil, errVersion
		case end > 0 && whole, len(b) >= helloMax:
			return ciphers, w.SetReadDeadline(deadline)
		case end > 0 && !waiting:
			waiting = true
			if t := time.Now().Add(firstPacketWait); t.Before(deadline) {
				if err := w.SetReadDeadline(t); err != nil {
					return nil, err
				}
			}
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, len(b))
		}
		// Not by receive: that it took too long is not the connection's end.
		n, err := w.Conn.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		w.read.Add(uint64(n))
		switch {
		case n > 0:
		case waiting && timedOut(err) && time.Now().Before(deadline):
			return allCiphers, w.SetReadDeadline(deadline)
		default:
			return nil, err
		}
	}
}

// pickCiphers chooses by a client's first packet. whole tells that there is nothing
// to wait for: the packet is there, or is none that is understood.
func pickCiphers(packet []byte) (ciphers []string, whole bool) {
	const kexInit = 20 // RFC 4253 section 12
	if len(packet) < 4 {
		return allCiphers, false
	}
	// RFC 4253 sections 6 and 7.1: length, length of padding, message, cookie of 16
	// bytes, then lists of names.
	length, rest := binary.BigEndian.Uint32(packet), packet[4:]
	if length > helloMax {
		return allCiphers, true
	}
	if uint32(len(rest)) < length {
		return allCiphers, false
	}
	rest = rest[:length]
	if len(rest) < 2+16 || rest[1] != kexInit {
		return allCiphers, true
	}
	rest = rest[2+16:]
	for list := range 4 { // key exchanges, host keys, ciphers to us, ciphers from us
		var names []byte
		var ok bool
		if names, rest, ok = cutString(rest); !ok {
			return allCiphers, true
		}
		if list >= 2 && !hasGCM(string(names)) {
			return allCiphers, true
		}
	}
	return gcmCiphers, true
}

func hasGCM(names string) bool {
	for name := range strings.SplitSeq(names, ",") {
		if slices.Contains(gcmCiphers, name) {
			return true
		}
	}
	return false
}

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
