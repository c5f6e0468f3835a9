package proxy

import (
	"bytes"
	"net/netip"
	"slices"

	"aarch64.com/isthmus/proxy/sniff"
)

// Whose is a datagram? Connection ids are made so that only client and backend
// know which belong together (RFC 9000 section 5.1). The proxy knows those of
// long headers, and what it can conclude:
//
//   - All flows on a path have the same owner. A connection to somebody else's
//     host is refused there, so no guess leads to another project's VM.
//   - A known connection id decides, wherever it comes from.
//   - An unknown one is the path's only flow's, which has changed it, as some
//     clients do with the first answer.
//   - With several flows, all of one owner, each gets it, and all but one cannot
//     open it. In a long header the client's own id tells them apart.

// path is where datagrams come from and to. A client may have several flows on
// one, to different hosts.
type path struct {
	client netip.AddrPort
	local  netip.Addr
}

// maxGuesses bounds how many flows of an owner get a datagram that may be any
// one's.
const maxGuesses = 8

// take finds the flows of what a client sends.
func (l *quicLoop) take(i int, p path, d *datagrams) {
	if here := l.paths[p]; len(here) == 1 && here[0].owns(d) {
		l.forward(here[0], p, d.bytes, d.segment, d.ecn)
		return
	}
	for b := d.bytes; len(b) > 0; {
		n := min(d.segment, len(b))
		l.datagram(i, p, b[:n], d.ecn)
		b = b[n:]
	}
}

// owns tells whether datagrams that the kernel has joined are all of a flow that
// goes on. It joins by addresses only.
func (f *flow) owns(d *datagrams) bool {
	if !f.confirmed || len(f.current) == 0 || len(d.bytes) == 0 {
		return false
	}
	for b := d.bytes; len(b) > 0; b = b[min(d.segment, len(b)):] {
		if b[0]&0x80 != 0 || !bytes.HasPrefix(b[1:min(d.segment, len(b))], f.current) {
			return false
		}
	}
	return true
}

func (l *quicLoop) datagram(i int, p path, b []byte, ecn byte) {
	if b[0]&0x80 != 0 {
		l.long(i, p, b, ecn)
	} else {
		l.short(p, b, ecn)
	}
}

// long takes a datagram that begins with a long header.
func (l *quicLoop) long(i int, p path, b []byte, ecn byte) {
	h, ok := sniff.ParseLongHeader(b)
	if !ok {
		l.quic.counts.stray.Add(1)
		return
	}
	f := ofLong(l.paths[p], h)
	switch {
	case f == nil:
		l.newcomer(i, p, b, ecn, h)
	case f.hello != nil:
		l.more(f, b)
	default:
		if f.has(h.DCID) {
			l.confirm(f)
		}
		if f.first == 0 {
			l.keep(f, b)
		}
		l.forward(f, p, b, len(b), ecn)
	}
}

// ofLong is the flow of a long header: by the connection id that the client
// chose for the backend, or the backend for itself.
func ofLong(here []*flow, h sniff.LongHeader) *flow {
	for _, f := range here {
		if bytes.Equal(f.head.DCID, h.DCID) && f.head.Version == h.Version || f.has(h.DCID) {
			return f
		}
	}
	return nil
}

// has tells whether the backend has chosen this connection id in the clear. One
// without a length says nothing.
func (f *flow) has(id []byte) bool {
	return len(id) > 0 && slices.ContainsFunc(f.ids, func(x []byte) bool { return bytes.Equal(x, id) })
}

// short takes a datagram with a short header (RFC 9000 section 17.3).
func (l *quicLoop) short(p path, b []byte, ecn byte) {
	here := l.paths[p]
	if f := l.ofShort(here, b); f != nil {
		l.forward(f, p, b, len(b), ecn)
		return
	}
	if f := l.quic.known.find(b); f != nil {
		l.move(f, p, b, ecn)
		return
	}
	if !l.guess(p, b, ecn) {
		l.quic.counts.stray.Add(1)
	}
}

// guess gives a datagram with a connection id that nobody knows to the flows that
// may have agreed on it. It tells whether there are any.
func (l *quicLoop) guess(p path, b []byte, ecn byte) bool {
	here := l.paths[p]
	if len(here) > 1 {
		here = slices.Clone(here) // some may end
	}
	var only *flow
	n := 0
	for _, f := range here {
		if f.first != 0 { // else client and backend have agreed on nothing yet
			only, n = f, n+1
		}
	}
	if n == 1 {
		if b[0]&0x80 == 0 {
			l.note(only, b)
		}
		l.forward(only, p, b, len(b), ecn)
		return true
	}
	sent := 0
	for _, f := range here {
		if f.first != 0 && !f.over && sent < maxGuesses {
			sent++
			l.forward(f, p, b, len(b), ecn)
		}
	}
	return n > 0
}

// later takes a datagram with a long header that is not the first one of a
// connection. Its connection id may be one that the backend has given to the
// client under seal.
func (l *quicLoop) later(p path, b []byte, ecn byte, h sniff.LongHeader) bool {
	if f := l.quic.known.get(h.DCID); f != nil {
		l.move(f, p, b, ecn)
		return true
	}
	if len(h.SCID) == 0 {
		return l.guess(p, b, ecn)
	}
	for _, f := range l.paths[p] {
		if f.first != 0 && bytes.Equal(f.head.SCID, h.SCID) {
			l.forward(f, p, b, len(b), ecn)
			return true
		}
	}
	return false
}

// ofShort is the flow whose connection id a short header has.
func (l *quicLoop) ofShort(here []*flow, b []byte) *flow {
	for _, f := range here {
		if len(f.current) > 0 && bytes.HasPrefix(b[1:], f.current) {
			return f
		}
		if len(f.noted) > 0 && bytes.HasPrefix(b[1:], f.noted) {
			f.current = f.noted
			return f
		}
		for _, id := range f.ids {
			if bytes.HasPrefix(b[1:], id) {
				f.current = id
				l.confirm(f)
				return f
			}
		}
	}
	return nil
}

// note remembers the connection id of a datagram that is the flow's for want of
// others, in place of the last such one. It is as long as the backend's before.
func (l *quicLoop) note(f *flow, b []byte) {
	if f.length < 1 || len(b) <= f.length {
		return
	}
	l.quic.known.remove(f.noted, f)
	f.noted = bytes.Clone(b[1 : 1+f.length])
	f.current = f.noted
	l.quic.known.add(f.noted, f)
}

// turns are how often client and backend have to take turns after the backend's
// first datagram until the client is believed to hear what it is told: it says
// more, the backend answers that, and it goes on.
const turns = 3

// turn counts them.
func (l *quicLoop) turn(f *flow, client bool) {
	if !f.confirmed && f.first != 0 && client == (f.turns%2 == 0) {
		if f.turns++; f.turns == turns {
			l.confirm(f)
		}
	}
}

// confirm: the client is where its address says. To have sent a connection id that
// the backend has chosen proves it at once.
func (l *quicLoop) confirm(f *flow) {
	if !f.confirmed && f.first != 0 {
		f.confirmed = true
		l.enlist(f, &l.steady)
	}
}
