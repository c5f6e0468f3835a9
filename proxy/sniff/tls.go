package sniff

import "encoding/binary"

const (
	// MaxHello is the longest ClientHello over TCP, in bytes with its handshake
	// header. Those with post-quantum key shares have 2 KB, and session tickets
	// may bring some more.
	MaxHello = 64 << 10

	// MaxWire bounds the same with the headers of its records: what a client
	// may say before it has to be understood. It leaves room for a hello of
	// MaxHello in records of five bytes, or of 21 KB in records of one.
	MaxWire = 128 << 10
)

const (
	recordHeader = 5       // type, version, length
	maxRecord    = 1 << 14 // RFC 8446 section 5.1

	recordAlert     = 21
	recordHandshake = 22
)

// TLS reads the ClientHello at the beginning of one connection and remembers
// how far it has come, so that a client that sends single bytes causes work
// that grows with their number, not its square: each call looks at the records
// that are new and at the one that is not whole. The zero value is ready.
type TLS struct {
	at   int                   // where the first record begins that was not whole
	have int                   // handshake bytes in the records before
	head [handshakeHeader]byte // the first of these
}

// ClientHello reads the client's bytes so far; in each call these begin with
// those of the call before. The error is ErrIncomplete, and then it can still
// become a hello within the bounds, or a Reason.
//
// A hello in one record is read where it lies, and only the host's string is
// allocated. One in several records is copied once, when it is complete.
func (t *TLS) ClientHello(b []byte) (Hello, error) {
	if t.at == 0 {
		if err := opening(b); err != nil {
			return Hello{}, err
		}
	}
	for {
		n, err := record(b[t.at:])
		if err != nil {
			return Hello{}, err
		}
		start := t.at + recordHeader
		fragment := b[start:min(start+n, len(b))]
		head, have := t.head, t.have+len(fragment)
		if t.have < handshakeHeader {
			copy(head[t.have:], fragment)
		}
		if err := checkHeader(head, have, MaxHello); err != nil {
			return Hello{}, err
		}
		if size := messageSize(head); have >= handshakeHeader && have >= size {
			if t.have == 0 {
				return parseHello(fragment[handshakeHeader:size])
			}
			return parseHello(join(b, size)[handshakeHeader:])
		} else if start+min(n, max(size, handshakeHeader)-t.have) > MaxWire {
			return Hello{}, TooLong
		}
		if len(fragment) < n {
			return Hello{}, ErrIncomplete
		}
		t.at, t.have, t.head = start+n, have, head
	}
}

// ClientHello is [TLS.ClientHello] for bytes that come all at once, or in few
// pieces.
func ClientHello(b []byte) (Hello, error) {
	var t TLS
	return t.ClientHello(b)
}

// record reads the header of a handshake record and gives the length of what
// follows. Each byte is judged when it is there.
func record(b []byte) (n int, err error) {
	switch {
	case len(b) >= 1 && b[0] != recordHandshake:
		return 0, RecordType
	case len(b) >= 2 && b[1] != 3:
		return 0, RecordVersion
	case len(b) < recordHeader:
		return 0, ErrIncomplete
	}
	n = int(binary.BigEndian.Uint16(b[3:]))
	switch {
	case n == 0:
		return 0, RecordEmpty
	case n > maxRecord:
		return 0, RecordOverflow
	}
	return n, nil
}

// join copies the first size handshake bytes out of records that are known to
// be good.
func join(b []byte, size int) []byte {
	message := make([]byte, 0, size)
	for len(message) < size {
		n := int(binary.BigEndian.Uint16(b[3:]))
		b = b[recordHeader:]
		n = min(n, size-len(message))
		message = append(message, b[:n]...)
		b = b[n:]
	}
	return message
}

// opening tells what a client speaks that does not begin with a handshake
// record.
func opening(b []byte) error {
	if len(b) == 0 {
		return ErrIncomplete
	}
	switch c := b[0]; {
	case c == recordHandshake:
		return nil
	case 20 <= c && c <= 24: // the other types that TLS has had
		return RecordType
	case c >= 0x80:
		// RFC 5246 appendix E.2: a length of two bytes with the top bit set,
		// then the type of message.
		switch {
		case len(b) < 3:
			return ErrIncomplete
		case b[2] == typeClientHello:
			return SSLv2
		}
		return NotTLS
	}
	for _, m := range methods {
		n := min(len(m), len(b))
		if string(b[:n]) != m[:n] {
			continue
		}
		if n < len(m) {
			return ErrIncomplete
		}
		return PlainHTTP
	}
	return NotTLS
}

// methods are how HTTP begins (RFC 9110 section 9, RFC 5789, and RFC 9113
// section 3.4 for HTTP/2).
var methods = [...]string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "CONNECT ", "TRACE ", "PATCH ", "PRI "}
