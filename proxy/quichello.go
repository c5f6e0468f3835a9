package proxy

import (
	"bytes"
	"net/netip"
	"time"

	"aarch64.com/isthmus/proxy/routes"
	"aarch64.com/isthmus/proxy/sniff"
)

// From the first datagram to the route: what is here may be forged.

// newcomer takes what may be the first datagram of a connection. Nothing that is
// sent in answer is longer than that.
func (l *quicLoop) newcomer(i int, p path, b []byte, ecn byte, h sniff.LongHeader) {
	q := l.spare
	if q == nil {
		q = &sniff.QUIC{}
	}
	l.spare = nil
	hello, err := q.Datagram(b)
	reason, bad := err.(sniff.Reason)
	switch {
	case bad && reason == sniff.QUICVersion:
		l.spare = q
		l.quic.counts.versions.Add(1)
		if l.mayAnswer() {
			l.answer(i, p, sniff.VersionNegotiation(h))
		}
		return
	case bad && reason.Stray():
		// It has left no trace in q: a flood of these needs no memory.
		l.spare = q
		if !l.later(p, b, ecn, h) {
			l.quic.server.counts.refused[QUIC][reason].Add(1)
		}
		return
	case bad:
		l.quic.server.counts.refused[QUIC][reason].Add(1)
		l.refuse(i, p, h, reason.Alert().TransportError())
		return
	}
	if l.draining {
		// By a client's port that has a flow here, so the kernel gives it to no
		// other process.
		l.refuse(i, p, h, sniff.ConnectionRefused)
		return
	}
	f, full := l.admit(i, p, h)
	if full != "" {
		l.quic.server.record(&Record{Protocol: QUIC, Client: p.client, Result: TooMany, Why: full, Start: l.now})
		l.refuse(i, p, h, sniff.ConnectionRefused)
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
		loop: l, listener: i, fd: -1, own: -1, client: p.client.Addr(), path: p, to: rawAddrOf(p.client), v6: p.client.Addr().Is6(),
		head:   sniff.LongHeader{Version: h.Version, DCID: bytes.Clone(h.DCID), SCID: bytes.Clone(h.SCID)},
		length: -1, start: l.now, moved: l.now,
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
	if f.owner = ownerOf(f.route); l.others(f.path, f.owner, f) {
		l.quic.counts.mixed.Add(1)
		l.refuse(f.listener, f.path, f.head, sniff.ConnectionRefused)
		l.end(f, TooMany, "this client's port has a connection to another project")
		return
	}
	l.dial(f)
}

// ownerOf is whose VMs a route leads to. A route without a project is one's own.
func ownerOf(r *routes.Route) string {
	if r.Project == "" {
		return "host " + r.Host
	}
	return "project " + r.Project
}

// refuse closes a connection that has not begun, so that the client need not
// wait. It answers an Initial packet, in at least 1200 bytes, with less than 100:
// nothing for who wants to flood others.
func (l *quicLoop) refuse(i int, p path, h sniff.LongHeader, code sniff.TransportError) {
	if !l.mayAnswer() {
		return
	}
	if b, err := sniff.Refuse(h, code); err == nil {
		l.quic.counts.refused.Add(1)
		l.answer(i, p, b)
	}
}

func (l *quicLoop) answer(i int, p path, b []byte) {
	if i < len(l.listeners) {
		to := rawAddrOf(p.client)
		_ = l.send(l.listeners[i], b, 0, 0, p.client.Addr().Is6(), &to, p.local)
		return
	}
	for _, f := range l.paths[p] { // draining
		if f.own >= 0 {
			_ = l.send(f.own, b, 0, 0, f.v6, nil, netip.Addr{})
			return
		}
	}
}

// maxAnswers is how many in a second a loop gives to what may be forged: some
// 60 KB, and a few ms of CPU for their seals.
const maxAnswers = 1000

func (l *quicLoop) mayAnswer() bool {
	if l.now.Sub(l.second) >= time.Second {
		l.second, l.answers = l.now, 0
	}
	if l.answers++; l.answers > maxAnswers {
		l.quic.counts.muted.Add(1)
		return false
	}
	return true
}
