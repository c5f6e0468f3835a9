package jump

import (
	"encoding/binary"
	"net"
	"sync"
)

// The SSH library hands over a packet that is larger than its buffer in two writes:
// the buffer, and the rest. For TCP and for the client the first 4 KB are as much
// work as the other 28, so they are held back until the rest is there.

// libraryBuffer is the size of the SSH library's write buffer, in bytes.
const libraryBuffer = 4 << 10

var heads = sync.Pool{New: func() any { return new([libraryBuffer]byte) }}

// unfinished tells whether p is the beginning of a packet whose rest is about to be
// written. With AES-GCM the length in front is not encrypted (RFC 5647 section 7.3),
// and the rest is one write; the library flushes after each packet, so that a full
// buffer begins with one. With other ciphers nothing is held.
func (w *wire) unfinished(p []byte) bool {
	return len(p) == libraryBuffer && w.head == nil && w.gcm.Load() && binary.BigEndian.Uint32(p) > libraryBuffer
}

// hold keeps p for gather.
func (w *wire) hold(p []byte) {
	w.head = heads.Get().(*[libraryBuffer]byte)
	copy(w.head[:], p)
}

// gather writes what is held, and p, in one system call. What was held has been
// reported as written already.
func (w *wire) gather(p []byte) (int, error) {
	if w.head == nil {
		return w.Conn.Write(p)
	}
	n, err := (&net.Buffers{w.head[:], p}).WriteTo(w.Conn)
	heads.Put(w.head)
	w.head = nil
	return max(0, int(n)-libraryBuffer), err
}
