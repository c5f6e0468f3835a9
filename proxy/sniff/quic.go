package sniff

import (
	"bytes"
	"sync"
)

const (
	// MaxCrypto is the longest ClientHello in QUIC. Before the server has
	// answered a client has 14,720 bytes to say it in (RFC 9002 section 7.2).
	MaxCrypto = 16 << 10

	// MaxInitials bounds the packets that are decrypted for one hello. Clients
	// repeat them when no answer comes.
	MaxInitials = 64
)

// QUIC collects one client's ClientHello from its datagrams. The zero value is
// ready; it keeps the bytes it has
// read, up to MaxCrypto, and a bit for each.
type QUIC struct {
	header  LongHeader // of the first packet; a copy
	keys    keys
	begun   bool // and the keys are those of header
	packets int
	stream  stream
	failed  error
}

// Datagram reads a datagram of the client: all Initial packets in it, among
// others that are coalesced with them (RFC 9000 section 12.2). The error is
// ErrIncomplete, and the datagram is to be kept for the backend; or a Reason,
// and it is of no use. Unless that is [Reason.Stray], the handshake has failed.
//
// To begin with, the reason Stray means that there is no connection yet.
func (q *QUIC) Datagram(b []byte) (Hello, error) {
	if q.failed != nil {
		return Hello{}, q.failed
	}
	size, found := len(b), false
	var first LongHeader
	for start := true; len(b) > 0; start = false {
		p, rest, err := cutPacket(b)
		if start {
			if err == QUICVersion && size < minDatagram {
				return Hello{}, QUICSmall
			}
			if err != nil {
				return Hello{}, err
			}
			first = p.LongHeader
		} else if err != nil || !p.same(first) {
			break // padding, or what else may be there
		}
		b = rest
		if !p.initial {
			continue
		}
		if size < minDatagram {
			return Hello{}, QUICSmall
		}
		if err := q.initial(p); err == nil {
			found = true
		} else if r, ok := err.(Reason); !ok || !r.Stray() || !found {
			return Hello{}, err
		}
	}
	if !found {
		return Hello{}, QUICNotInitial
	}
	h, err := q.stream.hello()
	if err != nil && err != ErrIncomplete {
		q.failed = err
	}
	return h, err
}

// initial adds what an Initial packet says.
func (q *QUIC) initial(p packet) error {
	if q.begun {
		if !p.same(q.header) {
			return QUICOther
		}
	} else {
		// A token is from a Retry, whose connection id the server chose.
		if len(p.DCID) < minFirstID && len(p.token) == 0 {
			return QUICHeader
		}
		if err := q.keys.derive(p.Version, p.DCID, "client in"); err != nil {
			return err
		}
	}
	scratch := scratches.Get().(*[scratchSize]byte)
	defer scratches.Put(scratch)
	frames, err := q.keys.open(p, scratch[:])
	if err != nil {
		return err
	}
	if !q.begun {
		q.begun = true
		q.header = LongHeader{p.Version, bytes.Clone(p.DCID), bytes.Clone(p.SCID)}
	}
	if q.packets++; q.packets > MaxInitials {
		q.failed = TooLong
	} else {
		q.failed = q.stream.frames(frames)
	}
	return q.failed
}

// scratchSize is enough for a packet on a path with an MTU of 1500.
const scratchSize = 1500

var scratches = sync.Pool{New: func() any { return new([scratchSize]byte) }}

// stream is the client's CRYPTO stream, whose pieces come in any order.
type stream struct {
	data []byte
	have []uint64 // a bit for each byte of data
	next int      // there is no gap before this
}

// frames reads what may be in an Initial packet (RFC 9000 section 12.4).
func (s *stream) frames(b []byte) error {
	const (
		padding         = 0x00
		ping            = 0x01
		ack             = 0x02
		ackECN          = 0x03
		crypto          = 0x06
		connectionClose = 0x1c
	)
	if len(b) == 0 {
		return QUICFrame
	}
	for len(b) > 0 {
		kind := b[0]
		b = b[1:]
		ok := true
		switch kind {
		case padding, ping:
		case ack, ackECN:
			b, ok = skipACK(b, kind == ackECN)
		case crypto:
			var offset uint64
			var data []byte
			if offset, b, ok = varint(b); !ok {
				break
			}
			if data, b, ok = cutVarint(b); !ok {
				break
			}
			if offset > MaxCrypto || int(offset)+len(data) > MaxCrypto {
				return TooLong
			}
			if err := s.write(int(offset), data); err != nil {
				return err
			}
		case connectionClose:
			return QUICClosed
		default:
			return QUICFrame
		}
		if !ok {
			return QUICFrame
		}
	}
	return nil
}

// skipACK passes over the rest of an ACK frame (RFC 9000 section 19.3).
func skipACK(b []byte, ecn bool) (rest []byte, ok bool) {
	var ranges uint64
	for i := range 4 { // largest, delay, count of ranges, first range
		var v uint64
		if v, b, ok = varint(b); !ok {
			return nil, false
		}
		if i == 2 {
			ranges = v
		}
	}
	if ranges > uint64(len(b)) {
		return nil, false
	}
	n := 2 * ranges // gap, range
	if ecn {
		n += 3
	}
	for range n {
		if _, b, ok = varint(b); !ok {
			return nil, false
		}
	}
	return b, true
}

// write adds a piece. What was there stays, and has to be the same: a backend
// that keeps the other bytes would see another name than we did.
func (s *stream) write(offset int, piece []byte) error {
	if end := offset + len(piece); end > len(s.data) {
		s.data = append(s.data, make([]byte, end-len(s.data))...)
		s.have = append(s.have, make([]uint64, (end+63)/64-len(s.have))...)
	}
	for i, c := range piece {
		at := offset + i
		word, bit := &s.have[at/64], uint64(1)<<(at%64)
		if *word&bit != 0 && s.data[at] != c {
			return QUICConflict
		}
		*word |= bit
		s.data[at] = c
	}
	for s.next < len(s.data) && s.have[s.next/64]>>(s.next%64)&1 != 0 {
		s.next++
	}
	return nil
}

// hello reads the ClientHello, if it is whole.
func (s *stream) hello() (Hello, error) {
	var head [handshakeHeader]byte
	n := copy(head[:], s.data[:s.next])
	if err := checkHeader(head, n, MaxCrypto); err != nil {
		return Hello{}, err
	}
	size := messageSize(head)
	if n < handshakeHeader || s.next < size {
		return Hello{}, ErrIncomplete
	}
	return parseHello(s.data[handshakeHeader:size])
}
