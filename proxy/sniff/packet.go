package sniff

import (
	"bytes"
	"encoding/binary"
)

// Versions of QUIC whose Initial packets can be read.
const (
	QUICv1 uint32 = 1          // RFC 9000
	QUICv2 uint32 = 0x6b3343cf // RFC 9369
)

// LongHeader is what the long headers of all versions of QUIC have in common
// (RFC 8999 section 5.1):
//
//	+-+-+-+-+-+-+-+-+---------------+-----+------+-----+------+- - -
//	|1| version's   | version (32)  | len | DCID | len | SCID |
//	+-+-+-+-+-+-+-+-+---------------+-----+------+-----+------+- - -
//
// The connection ids alias the datagram.
type LongHeader struct {
	Version    uint32
	DCID, SCID []byte
}

// ParseLongHeader reads the header at the beginning of a datagram. It is false
// if there is none: a short header, or less than a header.
func ParseLongHeader(b []byte) (LongHeader, bool) {
	h, _, ok := cutLongHeader(b)
	return h, ok
}

func cutLongHeader(b []byte) (h LongHeader, rest []byte, ok bool) {
	if len(b) < 5 || b[0]&0x80 == 0 {
		return h, nil, false
	}
	h.Version = binary.BigEndian.Uint32(b[1:])
	if h.DCID, rest, ok = cut8(b[5:]); !ok {
		return h, nil, false
	}
	h.SCID, rest, ok = cut8(rest)
	return h, rest, ok
}

// VersionNegotiation is the answer to QUICVersion (RFC 9000 section 17.2.1).
// One of the versions in it is there so that clients learn to pass over what
// they do not know (section 6.3).
func VersionNegotiation(h LongHeader) []byte {
	const reserved = 0x1a2a3a4a
	b := []byte{0xc0, 0, 0, 0, 0}
	b = append(append(b, byte(len(h.SCID))), h.SCID...)
	b = append(append(b, byte(len(h.DCID))), h.DCID...)
	for _, v := range [...]uint32{reserved, QUICv1, QUICv2} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// packet is a long header packet of a version that is known.
type packet struct {
	LongHeader
	initial bool
	token   []byte
	bytes   []byte // all of it, up to where its length says
	number  int    // where the packet number begins in bytes
}

const (
	minDatagram = 1200 // RFC 9000 section 14.1
	maxID       = 20   // RFC 9000 section 17.2
	minFirstID  = 8    // RFC 9000 section 7.2
)

// cutPacket takes a packet off the front of a datagram (RFC 9000 section
// 17.2). What has no length field, Retry and Version Negotiation, is the whole
// rest; no client sends that. The fixed bit is left to the backend, which may
// have allowed the client to grease it (RFC 9287).
func cutPacket(b []byte) (p packet, rest []byte, err error) {
	h, rest, ok := cutLongHeader(b)
	if !ok || h.Version == 0 {
		return p, nil, QUICNotInitial
	}
	p.LongHeader = h
	kind := b[0] >> 4 & 3
	switch h.Version {
	case QUICv1:
	case QUICv2:
		kind = (kind - 1) & 3 // RFC 9369 section 3.2: each type is one higher
	default:
		return p, nil, QUICVersion
	}
	const initial, retry = 0, 3
	if len(h.DCID) > maxID || len(h.SCID) > maxID {
		return p, nil, QUICHeader
	}
	if kind == retry {
		return p, nil, QUICNotInitial
	}
	if kind == initial {
		p.initial = true
		if p.token, rest, ok = cutVarint(rest); !ok {
			return p, nil, QUICHeader
		}
	}
	payload, after, ok := cutVarint(rest)
	if !ok {
		return p, nil, QUICHeader
	}
	end := len(b) - len(after)
	p.bytes, p.number = b[:end:end], end-len(payload)
	return p, after, nil
}

// same tells whether a packet belongs to the same handshake as another.
func (h LongHeader) same(o LongHeader) bool {
	return h.Version == o.Version && bytes.Equal(h.DCID, o.DCID)
}

// varint takes a number off the front of b (RFC 9000 section 16).
func varint(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) < 1 {
		return 0, nil, false
	}
	n := 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, nil, false
	}
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, b[n:], true
}

// cutVarint is cut8 with a varint in front.
func cutVarint(b []byte) (v, rest []byte, ok bool) {
	n, b, ok := varint(b)
	if !ok || n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
