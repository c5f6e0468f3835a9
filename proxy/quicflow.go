package proxy

import (
	"bytes"
	"container/list"
	"net/netip"
	"slices"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/sniff"
	"golang.org/x/sys/unix"
)

// path is where datagrams come from and to. A client may have several flows on
// one, to different hosts.
type path struct {
	client netip.AddrPort
	local  netip.Addr
}

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
	to     unix.Sockaddr
	v6     bool

	hello *sniff.QUIC // until it is complete
	early [][]byte    // from the client, until a backend has answered
	head  sniff.LongHeader
	ids   [][]byte // that the backend has chosen

	host, project string
	route         *routes.Route // joined, and to be parted from
	backends      []netip.AddrPort
	backend       netip.AddrPort

	// confirmed: the client has had an answer, for it has keys that come with
	// it. It is where its address says, if it does not lie about the header.
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

// enlist puts a flow at the end of a list.
func (l *quicLoop) enlist(f *flow, x *list.List) {
	if f.list != nil {
		f.list.Remove(f.place)
	}
	f.list, f.since = x, l.now
	f.place = x.PushBack(f)
}

// ofLong is the flow of a long header: by the connection id that the client
// chose for the backend, or the backend for itself; or by the client's own, for a
// backend may have given it others that nobody else can read.
func ofLong(here []*flow, h sniff.LongHeader) *flow {
	for _, f := range here {
		if bytes.Equal(f.head.DCID, h.DCID) && f.head.Version == h.Version || f.has(h.DCID) ||
			len(h.SCID) > 0 && bytes.Equal(f.head.SCID, h.SCID) {
			return f
		}
	}
	return nil
}

func (f *flow) has(id []byte) bool {
	return slices.ContainsFunc(f.ids, func(x []byte) bool { return bytes.Equal(x, id) })
}

// ofShort is the flow of a short header by its connection id, or the only one
// that there is.
func ofShort(here []*flow, b []byte) *flow {
	for _, f := range here {
		for _, id := range f.ids {
			if len(id) > 0 && bytes.HasPrefix(b[1:], id) {
				return f
			}
		}
	}
	if len(here) == 1 && here[0].hello == nil {
		return here[0]
	}
	return nil
}

func lastUsed(here []*flow) (last *flow) {
	for _, f := range here {
		if f.hello == nil && (last == nil || f.moved.After(last.moved)) {
			last = f
		}
	}
	return last
}

func (l *quicLoop) confirm(f *flow) {
	if !f.confirmed && f.first != 0 {
		f.confirmed = true
		l.enlist(f, &l.steady)
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
		if f.first == 0 {
			l.keep(f, b)
		}
		l.forward(f, p, b, len(b), ecn)
	}
}

// newcomer takes what may be the first datagram of a connection. Nothing that is
// sent in answer is longer than that.
func (l *quicLoop) newcomer(i int, p path, b []byte, ecn byte, h sniff.LongHeader) {
	q := &sniff.QUIC{}
	hello, err := q.Datagram(b)
	reason, bad := err.(sniff.Reason)
	switch {
	case bad && reason == sniff.QUICVersion:
		l.quic.counts.versions.Add(1)
		l.answer(i, p, sniff.VersionNegotiation(h))
		return
	case bad && reason.Stray() && lastUsed(l.paths[p]) != nil:
		// Not the first one of a connection: its connection id is new, and the
		// client's own has no length.
		l.forward(lastUsed(l.paths[p]), p, b, len(b), ecn)
		return
	case bad:
		l.quic.server.counts.refused[QUIC][reason].Add(1)
		if !reason.Stray() {
			l.refuse(i, p, h, reason.Alert().TransportError())
		}
		return
	}
	if l.draining {
		return // it comes again, to whoever listens now
	}
	f, full := l.admit(i, p, h)
	if full != "" {
		l.quic.server.record(&Record{Protocol: QUIC, Client: p.client, Result: TooMany, Why: full, Start: l.now})
		return
	}
	l.keep(f, b)
	if err == nil {
		l.follow(f, hello.Host)
		return
	}
	f.hello = q
	l.quic.counts.pending.Add(1)
	l.enlist(f, &l.pending)
	if l.pending.Len() > max(1, l.quic.server.config().Limits.QUICPending/len(l.quic.loops)) {
		l.evict(&l.pending)
	}
}

// evict ends the oldest flow of a list. Who floods with addresses that are not
// theirs pushes out their own.
func (l *quicLoop) evict(x *list.List) bool {
	e := x.Front()
	if e == nil {
		return false
	}
	l.quic.counts.evicted.Add(1)
	l.end(e.Value.(*flow), TooMany, "evicted")
	return true
}

// admit makes a flow if the limits allow.
func (l *quicLoop) admit(i int, p path, h sniff.LongHeader) (f *flow, full string) {
	enter := func() string { return l.quic.limiter.enter(p.client.Addr()) }
	if full = enter(); full == fullConnections && (l.evict(&l.pending) || l.evict(&l.young)) {
		full = enter()
	}
	if full != "" {
		return nil, full
	}
	l.quic.counts.flows.Add(1)
	f = &flow{
		loop: l, listener: i, fd: -1, own: -1, client: p.client.Addr(), path: p, to: sockaddr(p.client), v6: p.client.Addr().Is6(),
		head:  sniff.LongHeader{Version: h.Version, DCID: bytes.Clone(h.DCID), SCID: bytes.Clone(h.SCID)},
		start: l.now, moved: l.now,
	}
	if n := len(l.free); n > 0 {
		f.slot = l.free[n-1]
		l.free = l.free[:n-1]
		l.slots[f.slot] = f
	} else {
		f.slot = int32(len(l.slots))
		l.slots = append(l.slots, f)
	}
	l.paths[p] = append(l.paths[p], f)
	return f, ""
}

func (l *quicLoop) keep(f *flow, b []byte) {
	if len(f.early) == maxEarly {
		l.quic.counts.tooLong.Add(1)
		return
	}
	f.early = append(f.early, bytes.Clone(b))
}

// more adds to a hello that is not complete.
func (l *quicLoop) more(f *flow, b []byte) {
	hello, err := f.hello.Datagram(b)
	reason, bad := err.(sniff.Reason)
	switch {
	case err == nil:
		l.keep(f, b)
		f.hello = nil
		l.quic.counts.pending.Add(-1)
		l.follow(f, hello.Host)
	case bad && !reason.Stray():
		l.quic.server.counts.refused[QUIC][reason].Add(1)
		l.refuse(f.listener, f.path, f.head, reason.Alert().TransportError())
		l.end(f, BadRequest, reason.Label())
	default: // also 0-RTT, which no hello is in
		l.keep(f, b)
	}
}

// follow sends a flow to where its host's route leads at this moment.
func (l *quicLoop) follow(f *flow, host string) {
	d := l.quic.server.follow(host)
	f.host, f.project, f.route, f.backends = host, d.project, d.route, d.backends
	if d.result != Served {
		l.refuse(f.listener, f.path, f.head, d.alert().TransportError())
		l.end(f, d.result, d.why)
		return
	}
	l.dial(f)
}

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
			if err = udpSend(fd, b, 0, 0, true, nil, netip.Addr{}); err != nil && !tryAgain(err) {
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
	f.moved = l.now
	f.up += uint64(len(b))
	if err := l.send(f.fd, b, segment, ecn, true, nil, netip.Addr{}); err == unix.ECONNREFUSED && f.first == 0 {
		l.dial(f)
	}
}

// send sends datagrams together, or one by one if the path does not let the
// kernel cut them (no checksum offload, or longer than the interface's MTU).
func (l *quicLoop) send(fd int, b []byte, segment int, ecn byte, v6 bool, to unix.Sockaddr, from netip.Addr) error {
	err := udpSend(fd, b, segment, ecn, v6, to, from)
	if err == nil {
		return nil
	}
	if segment == 0 || segment >= len(b) {
		l.quic.counts.lost.Add(1)
		return err
	}
	for len(b) > 0 {
		n := min(segment, len(b))
		if err = udpSend(fd, b[:n], 0, ecn, v6, to, from); err != nil {
			l.quic.counts.lost.Add(1)
		}
		b = b[n:]
	}
	return err
}

// fromBackend sends the client what the backend has sent.
func (l *quicLoop) fromBackend(f *flow) {
	for range receives {
		d, err := udpReceive(f.fd, l.buffer, l.control)
		switch {
		case err == nil:
		case tryAgain(err):
			return
		case f.first == 0:
			// ICMP: nobody is there.
			l.dial(f)
			return
		default:
			return // gone, or not for long; the client will find out
		}
		if len(d.bytes) == 0 {
			continue
		}
		if f.first == 0 {
			f.first, f.early, f.backends = max(1, time.Since(f.start)), nil, nil
			l.enlist(f, &l.young)
		}
		for b := d.bytes; len(b) > 0 && b[0]&0x80 != 0; b = b[min(d.segment, len(b)):] {
			l.learn(f, b)
		}
		f.moved = l.now
		f.down += uint64(len(d.bytes))
		if f.own >= 0 {
			_ = l.send(f.own, d.bytes, d.segment, d.ecn, f.v6, nil, netip.Addr{})
		} else if f.listener < len(l.listeners) {
			_ = l.send(l.listeners[f.listener], d.bytes, d.segment, d.ecn, f.v6, f.to, f.path.local)
		}
	}
}

// learn notes the connection id that the backend has chosen.
func (l *quicLoop) learn(f *flow, b []byte) {
	h, ok := sniff.ParseLongHeader(b)
	if !ok || h.Version == 0 || len(f.ids) == maxIDs {
		return
	}
	for _, id := range f.ids {
		if bytes.Equal(id, h.SCID) {
			return
		}
	}
	id := bytes.Clone(h.SCID)
	f.ids = append(f.ids, id)
	l.quic.moved.add(id, f)
}

// rebind sends answers to where the client is now, as after a NAT has forgotten
// it. The path before stays known, for what was on its way.
func (l *quicLoop) rebind(f *flow, p path) {
	if p == f.path || f.own >= 0 {
		return
	}
	if p != f.old {
		if f.old.client.IsValid() {
			l.leavePath(f, f.old)
		}
		l.paths[p] = append(l.paths[p], f)
	}
	f.path, f.old = p, f.path
	f.to, f.v6 = sockaddr(p.client), p.client.Addr().Is6()
}

func (l *quicLoop) leavePath(f *flow, p path) {
	here := slices.DeleteFunc(l.paths[p], func(x *flow) bool { return x == f })
	if len(here) == 0 {
		delete(l.paths, p)
	} else {
		l.paths[p] = here
	}
}

// refuse closes a connection that has not begun, so that the client need not
// wait.
func (l *quicLoop) refuse(i int, p path, h sniff.LongHeader, code sniff.TransportError) {
	if b, err := sniff.Refuse(h, code); err == nil {
		l.quic.counts.refused.Add(1)
		l.answer(i, p, b)
	}
}

func (l *quicLoop) answer(i int, p path, b []byte) {
	if i < len(l.listeners) {
		_ = l.send(l.listeners[i], b, 0, 0, p.client.Addr().Is6(), sockaddr(p.client), p.local)
	}
}

// ownSocket moves a flow from the listener to a socket of its own.
func (l *quicLoop) ownSocket(f *flow) error {
	at := netip.AddrPortFrom(f.path.local, l.addresses[f.listener].Port())
	fd, err := udpBind(at)
	if err != nil {
		return err
	}
	if err = unix.Connect(fd, f.to); err == nil {
		err = l.watch(fd, 2*f.slot+1)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	f.own = fd
	return nil
}

// fromOwn reads a flow's own socket, which others on the same path share.
func (l *quicLoop) fromOwn(f *flow) {
	for i := 0; i < receives && !f.over; i++ {
		d, err := udpReceive(f.own, l.buffer, l.control)
		if err != nil || len(d.bytes) == 0 {
			return
		}
		// Before it was connected it may have got what is for others.
		if d.from == f.path.client {
			l.take(f.listener, f.path, &d)
		}
	}
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
	for _, id := range f.ids {
		l.quic.moved.remove(id, f)
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
