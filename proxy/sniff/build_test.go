package sniff

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// ext is an extension of a hello that a test writes.
type ext struct {
	kind uint16
	data []byte
}

func vec8(b []byte) []byte  { return append([]byte{byte(len(b))}, b...) }
func vec16(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// sni is a server_name extension with these host names.
func sni(names ...string) ext {
	var list []byte
	for _, n := range names {
		list = append(append(list, 0), vec16([]byte(n))...)
	}
	return ext{0, vec16(list)}
}

func alpn(protocols ...string) ext {
	var list []byte
	for _, p := range protocols {
		list = append(list, vec8([]byte(p))...)
	}
	return ext{16, vec16(list)}
}

// hello is a ClientHello as a handshake message.
func hello(exts ...ext) []byte {
	var list []byte
	for _, e := range exts {
		list = append(binary.BigEndian.AppendUint16(list, e.kind), vec16(e.data)...)
	}
	return message(vec16(list))
}

// message is a ClientHello with these bytes as its extensions.
func message(extensions []byte) []byte {
	b := []byte{3, 3}
	b = append(b, bytes.Repeat([]byte{7}, 32)...)
	b = append(b, vec8(bytes.Repeat([]byte{8}, 32))...)
	b = append(b, vec16([]byte{0x13, 1, 0x13, 2})...)
	b = append(b, 1, 0)
	return handshake(1, append(b, extensions...))
}

func handshake(kind byte, body []byte) []byte {
	n := len(body)
	return append([]byte{kind, byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

// records puts a message into records of these sizes, and what is left into
// ones as long as the last size.
func records(m []byte, sizes ...int) []byte {
	var b []byte
	for i := 0; len(m) > 0; i++ {
		n := min(sizes[min(i, len(sizes)-1)], len(m))
		b = append(append(b, 22, 3, 1), vec16(m[:n])...)
		m = m[n:]
	}
	return b
}

func list(h *Hello) string {
	var s []string
	for p := range h.Protocols() {
		s = append(s, string(p))
	}
	return strings.Join(s, ",")
}
