package proxy

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// drain stops listening. The flows that are there get sockets of their own, each
// connected to its client's address: the kernel prefers these, and gives all else
// to whoever listens from now on.
func (l *quicLoop) drain() {
	l.draining = true
	for _, f := range l.slots {
		switch {
		case f == nil:
		case f.hello != nil:
			l.end(f, Stopped, "drained")
		default:
			if err := l.ownSocket(f); err != nil {
				l.end(f, Stopped, err.Error())
			}
		}
	}
	l.closeListeners()
	l.ended = l.flows() == 0
}

// kill ends what is left.
func (l *quicLoop) kill() {
	for _, f := range l.slots {
		if f != nil {
			l.end(f, Stopped, "drained")
		}
	}
	l.ended = true
}

// ownSocket moves a flow from the listener to a socket of its own.
func (l *quicLoop) ownSocket(f *flow) error {
	at := netip.AddrPortFrom(f.path.local, l.addresses[f.listener].Port())
	fd, err := udpBind(at)
	if err != nil {
		return err
	}
	if err = unix.Connect(fd, sockaddr(f.path.client)); err == nil {
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
	for range rounds {
		n, err := l.messages.receive(f.own)
		if err != nil {
			return
		}
		for i := range n {
			// Before it was connected it may have got what is for others.
			if d := l.messages.at(i); d.from == f.path.client {
				l.take(f.listener, f.path, &d)
			}
		}
		if n < maxMessages || f.over {
			return
		}
	}
}
