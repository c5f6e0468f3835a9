package sniff

import (
	"encoding/binary"
	"iter"
)

// Hello is what a ClientHello says about where it wants to go.
type Hello struct {
	// Host is canonical, see [Host]; "" if the client names none. It is a copy.
	Host string

	alpn []byte // the protocols, each behind a byte with its length
}

// Offers tells whether the client offers the application protocol (RFC 7301),
// such as "h2" or "acme-tls/1" (RFC 8737).
func (h *Hello) Offers(protocol string) bool {
	for p := range h.Protocols() {
		if string(p) == protocol {
			return true
		}
	}
	return false
}

// Protocols are those the client offers, in its order. They are any bytes, and
// alias what the hello was read from.
func (h *Hello) Protocols() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := h.alpn; len(rest) > 0; {
			var p []byte
			if p, rest, _ = cut8(rest); !yield(p) {
				return
			}
		}
	}
}

const (
	handshakeHeader = 4 // type, and a length of three bytes
	typeClientHello = 1

	extServerName = 0
	extALPN       = 16
)

// checkHeader looks at as much of a handshake message's header as there is:
// the first n bytes of h, and zeros behind.
func checkHeader(h [handshakeHeader]byte, n, limit int) error {
	if n >= 1 && h[0] != typeClientHello {
		return NotClientHello
	}
	// What is missing is zero, so that the first byte of the length is enough for
	// most of what is too long.
	if messageSize(h) > limit {
		return TooLong
	}
	return nil
}

// messageSize is a message's length with its header.
func messageSize(h [handshakeHeader]byte) int {
	return handshakeHeader + (int(h[1])<<16 | int(h[2])<<8 | int(h[3]))
}

// parseHello reads a whole ClientHello behind its handshake header:
//
//	uint16 legacy_version;
//	opaque random[32];
//	opaque legacy_session_id<0..32>;
//	CipherSuite cipher_suites<2..2^16-2>;
//	opaque legacy_compression_methods<1..2^8-1>;
//	Extension extensions<8..2^16-1>;
//
// Hellos without extensions were usual before TLS 1.2.
func parseHello(b []byte) (Hello, error) {
	var h Hello
	const versionAndRandom = 2 + 32
	if len(b) < versionAndRandom {
		return Hello{}, Malformed
	}
	_, b, ok := cut8(b[versionAndRandom:])
	if !ok {
		return Hello{}, Malformed
	}
	suites, b, ok := cut16(b)
	if !ok || len(suites)%2 != 0 {
		return Hello{}, Malformed
	}
	_, b, ok = cut8(b)
	if !ok {
		return Hello{}, Malformed
	}
	if len(b) == 0 {
		return h, nil
	}
	extensions, b, ok := cut16(b)
	if !ok || len(b) != 0 {
		return Hello{}, Malformed
	}
	// A hello of 64 KB has room for 16,000 extensions: comparing each with each
	// would be a way to keep a CPU busy.
	var seen [1 << 16 / 64]uint64
	for len(extensions) > 0 {
		if len(extensions) < 2 {
			return Hello{}, Malformed
		}
		kind := binary.BigEndian.Uint16(extensions)
		var data []byte
		if data, extensions, ok = cut16(extensions[2:]); !ok {
			return Hello{}, Malformed
		}
		var err error
		word, bit := &seen[kind/64], uint64(1)<<(kind%64)
		if *word&bit != 0 {
			return Hello{}, DuplicateExtension
		}
		*word |= bit
		switch kind {
		case extServerName:
			h.Host, err = serverName(data)
		case extALPN:
			h.alpn, err = protocols(data)
		}
		if err != nil {
			return Hello{}, err
		}
	}
	return h, nil
}

// serverName reads the extension of RFC 6066 section 3. Names of other types
// than host_name are passed over: each begins with a length of two bytes.
func serverName(data []byte) (string, error) {
	const hostName = 0
	list, data, ok := cut16(data)
	if !ok || len(data) != 0 || len(list) == 0 {
		return "", Malformed
	}
	var name []byte
	for len(list) > 0 {
		kind := list[0]
		var n []byte
		if n, list, ok = cut16(list[1:]); !ok || len(n) == 0 {
			return "", Malformed
		}
		if kind != hostName {
			continue
		}
		if name != nil {
			return "", SeveralNames
		}
		name = n
	}
	if name == nil {
		return "", nil
	}
	return Host(name)
}

// protocols checks the extension of RFC 7301 section 3.1 and takes its list.
func protocols(data []byte) ([]byte, error) {
	list, data, ok := cut16(data)
	if !ok || len(data) != 0 || len(list) == 0 {
		return nil, Malformed
	}
	for rest := list; len(rest) > 0; {
		var p []byte
		if p, rest, ok = cut8(rest); !ok || len(p) == 0 {
			return nil, Malformed
		}
	}
	return list, nil
}

// cut8 takes a vector with a length of one byte off the front of b (RFC 8446
// section 3.4).
func cut8(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 1 || len(b)-1 < int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n], b[n:], true
}

// cut16 is cut8 with a length of two bytes.
func cut16(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, nil, false
	}
	return b[2:n], b[n:], true
}
