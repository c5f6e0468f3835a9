package proxy

import (
	"bytes"
	"slices"
)

// move takes a datagram of a flow that was elsewhere, as after a NAT has
// forgotten it (RFC 9000 section 9.3). To a path of another owner's it does not
// lead.
func (l *quicLoop) move(f *flow, p path, b []byte, ecn byte) {
	if l.others(p, f.owner, nil) {
		l.quic.counts.mixed.Add(1)
		return
	}
	if f.loop == l {
		l.quic.counts.moved.Add(1)
		l.forward(f, p, b, len(b), ecn)
		return
	}
	if !l.quic.known.visit(p, f.owner) {
		l.quic.counts.mixed.Add(1)
		return
	}
	b = bytes.Clone(b)
	sent := f.loop.hand(func() {
		if f.over || f.guest == p {
			l.quic.known.leave(p)
		} else {
			f.leaveGuest()
			f.guest = p
		}
		if !f.over {
			f.loop.quic.counts.moved.Add(1)
			f.loop.forward(f, p, b, len(b), ecn)
		}
	})
	if !sent {
		l.quic.known.leave(p)
	}
}

// others tells whether a path is in use by somebody else. What has moved on from
// there makes room.
func (l *quicLoop) others(p path, owner string, but *flow) bool {
	for _, f := range slices.Clone(l.paths[p]) {
		switch {
		case f == but || f.owner == "" || f.owner == owner:
		case f.path != p:
			l.leavePath(f, p)
			f.old = path{}
		default:
			return true
		}
	}
	return l.quic.known.others(p, owner)
}

// rebind sends answers to where the client is now. The path before stays known,
// for what was on its way.
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
	f.to, f.v6 = rawAddrOf(p.client), p.client.Addr().Is6()
}

func (l *quicLoop) leavePath(f *flow, p path) {
	here := slices.DeleteFunc(l.paths[p], func(x *flow) bool { return x == f })
	if len(here) == 0 {
		delete(l.paths, p)
	} else {
		l.paths[p] = here
	}
	if f.guest == p {
		f.leaveGuest()
	}
}

func (f *flow) leaveGuest() {
	if f.guest.client.IsValid() {
		f.loop.quic.known.leave(f.guest)
		f.guest = path{}
	}
}
