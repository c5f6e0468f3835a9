package proxy

import (
	"bytes"
	"container/list"
	"net/netip"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/sniff"
	"golang.org/x/sys/unix"
)

// flow is one QUIC connection.
type flow struct {
	loop     *quicLoop
	slot     int32
	listener int
	fd       int // to the backend; -1
	own      int // to the client, instead of the listener's; -1
	over     bool

	client netip.Addr // that the limiter counts
	path   path       // where the client was heard last
	old    path       // where it was before
	guest  path       // of these, where another loop gets the datagrams
	to     rawAddr
	v6     bool

	hello   *sniff.QUIC // until it is complete
	early   [][]byte    // from the client, until a backend has answered
	head    sniff.LongHeader
	ids     [][]byte // that the backend has chosen in the clear
	length  int      // of its last one; -1: none yet
	noted   []byte   // that the client has been heard with besides, see note
	current []byte   // one of these, which the last short header had

	host, project string
	owner         string        // see ownerOf; "": not known yet
	route         *routes.Route // joined, and to be parted from
	backends      []netip.AddrPort
	backend       netip.AddrPort

	turns     int
	confirmed bool

	list  *list.List
	place *list.Element
	since time.Time // in the list
	start time.Time
	moved time.Time
	first time.Duration // until the backend answered
	up    uint64
	down  uint64
}

const (
	maxEarly = 16 // datagrams; a hello in two to four, and as many of 0-RTT
	maxIDs   = 4  // Retry, and the server's own
)

// dial sends the next backend all that the client has said.
func (l *quicLoop) dial(f *flow) {
	for len(f.backends) > 0 {
		f.backend, f.backends = f.backends[0], f.backends[1:]
		l.closeBackend(f)
		fd, err := udpDial(f.backend)
		if err != nil {
			continue
		}
		f.fd = fd
		if l.watch(fd, 2*f.slot) != nil {
			continue
		}
		// The ICMP error for one datagram may show when the next one is sent.
		for _, b := range f.early {
			f.up += uint64(len(b))
			if err = l.messages.send(fd, b, 0, 0, true, nil, netip.Addr{}); err != nil && !tryAgain(err) {
				break
			}
			err = nil
		}
		if err != nil {
			continue
		}
		l.enlist(f, &l.young)
		if len(f.backends) > 0 {
			l.enlist(f, &l.dialing)
		}
		return
	}
	l.refuse(f.listener, f.path, f.head, sniff.InternalError.TransportError())
	l.end(f, Unreachable, "connect_failed")
}

func (l *quicLoop) closeBackend(f *flow) {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

// forward sends the backend what the client has sent.
func (l *quicLoop) forward(f *flow, p path, b []byte, segment int, ecn byte) {
	if f.fd < 0 {
		return
	}
	if p != f.path {
		l.rebind(f, p)
	}
	l.turn(f, true)
	f.moved = l.now
	f.up += uint64(len(b))
	if err := l.send(f.fd, b, segment, ecn, true, nil, netip.Addr{}); err == unix.ECONNREFUSED && f.first == 0 {
		l.dial(f)
	}
}

// send sends datagrams together, or one by one if the path does not let the
// kernel cut them (no checksum offload, or longer than the interface's MTU).
func (l *quicLoop) send(fd int, b []byte, segment int, ecn byte, v6 bool, to *rawAddr, from netip.Addr) error {
	err := l.messages.send(fd, b, segment, ecn, v6, to, from)
	if err == nil {
		return nil
	}
	if segment == 0 || segment >= len(b) {
		l.quic.counts.lost.Add(1)
		return err
	}
	for len(b) > 0 {
		n := min(segment, len(b))
		if err = l.messages.send(fd, b[:n], 0, ecn, v6, to, from); err != nil {
			l.quic.counts.lost.Add(1)
		}
		b = b[n:]
	}
	return err
}

// fromBackend sends the client what the backend has sent.
func (l *quicLoop) fromBackend(f *flow) {
	for range rounds {
		n, err := l.messages.receive(f.fd)
		if err != nil {
			if f.first == 0 && !tryAgain(err) {
				l.dial(f) // ICMP: nobody is there
			}
			return // gone, or not for long; the client will find out
		}
		for i := range n {
			if d := l.messages.at(i); len(d.bytes) > 0 {
				l.toClient(f, &d)
			}
		}
		if n < maxMessages {
			return
		}
	}
}

func (l *quicLoop) toClient(f *flow, d *datagrams) {
	if f.first == 0 {
		f.first, f.early, f.backends = max(1, time.Since(f.start)), nil, nil
		l.enlist(f, &l.young)
	}
	for b := d.bytes; len(b) > 0 && b[0]&0x80 != 0; b = b[min(d.segment, len(b)):] {
		l.learn(f, b)
	}
	l.turn(f, false)
	f.moved = l.now
	f.down += uint64(len(d.bytes))
	if f.own >= 0 {
		_ = l.send(f.own, d.bytes, d.segment, d.ecn, f.v6, nil, netip.Addr{})
	} else if f.listener < len(l.listeners) {
		_ = l.send(l.listeners[f.listener], d.bytes, d.segment, d.ecn, f.v6, &f.to, f.path.local)
	}
}

// learn notes the connection id that the backend has chosen.
func (l *quicLoop) learn(f *flow, b []byte) {
	h, ok := sniff.ParseLongHeader(b)
	if !ok || h.Version == 0 || len(f.ids) == maxIDs {
		return
	}
	f.length = len(h.SCID)
	if f.has(h.SCID) || f.length == 0 {
		return
	}
	id := bytes.Clone(h.SCID)
	f.ids = append(f.ids, id)
	l.quic.known.add(id, f)
}

// end forgets a flow.
func (l *quicLoop) end(f *flow, result Result, why string) {
	f.over = true
	if f.hello != nil {
		l.quic.counts.pending.Add(-1)
	}
	l.quic.counts.flows.Add(-1)
	l.closeBackend(f)
	if f.own >= 0 {
		unix.Close(f.own)
	}
	if f.list != nil {
		f.list.Remove(f.place)
	}
	l.leavePath(f, f.path)
	if f.old.client.IsValid() {
		l.leavePath(f, f.old)
	}
	f.leaveGuest()
	l.quic.known.remove(f.noted, f)
	for _, id := range f.ids {
		l.quic.known.remove(id, f)
	}
	l.slots[f.slot] = nil
	l.free = append(l.free, f.slot)
	l.quic.limiter.leave(f.client)
	if f.route != nil {
		l.quic.server.limiter.part(f.route.Host, f.route.Project)
	}
	l.quic.server.record(&Record{
		Protocol: QUIC, Client: f.path.client, Host: f.host, Project: f.project, Backend: f.backend, Result: result, Why: why,
		Start: f.start, Connect: f.first, First: f.first, Took: time.Since(f.start), Up: f.up, Down: f.down,
	})
	if l.draining && l.flows() == 0 {
		l.ended = true
	}
}
