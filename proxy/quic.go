package proxy

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
)

// quicPart relays datagrams. Each loop has a socket of its own at each address
// (SO_REUSEPORT); the kernel gives all datagrams of one client's address and port
// to the same one, which owns that client's flows.
//
// A flow has a socket of its own, connected to the backend. That costs a file
// descriptor for each, but the kernel finds the flow of an answer, tells about
// ICMP errors for it, and the backend sees each client at an address and port of
// its own, also clients without connection ids.
type quicPart struct {
	server  *Server
	loops   []*quicLoop
	running sync.WaitGroup
	limiter *limiter // of flows, by client; hosts and projects are in the server's

	known  ids
	counts quicCounts
}

// QUICStats are about datagrams and flows.
type QUICStats struct {
	Flows   int // at the moment, those included that are pending
	Pending int // whose hello is not complete

	Versions  uint64 // Version Negotiation sent
	Refused   uint64 // connections closed by us
	Stray     uint64 // datagrams that belong to no flow
	Evicted   uint64 // flows and hellos that made room for others before their time
	Moved     uint64 // datagrams of known flows from new addresses
	Mixed     uint64 // datagrams and connections that would share a client's port with another project's
	Muted     uint64 // answers not sent, for there were too many
	Lost      uint64 // sends that a socket did not take
	Truncated uint64 // hellos with more datagrams than are kept
}

type quicCounts struct {
	flows, pending                                                        atomic.Int64
	versions, refused, stray, evicted, moved, mixed, muted, lost, tooLong atomic.Uint64
}

func openQUIC(s *Server, at []netip.AddrPort) (part, error) {
	q := &quicPart{server: s}
	q.limiter = newLimiter(q.limits())
	for range runtime.GOMAXPROCS(0) {
		l, err := newQUICLoop(q, at)
		if err != nil {
			for _, l := range q.loops {
				l.close()
			}
			return nil, err
		}
		q.loops = append(q.loops, l)
	}
	for _, l := range q.loops {
		q.running.Go(l.run)
	}
	return q, nil
}

// limits are those for flows, in the terms of a limiter.
func (q *quicPart) limits() *Limits {
	l := q.server.config().Limits
	return &Limits{Connections: l.QUICFlows, ConnectionsPerClient: l.QUICFlowsPerClient}
}

func (q *quicPart) update() { q.limiter.bound(q.limits()) }

func (q *quicPart) shutdown(ctx context.Context) {
	for _, l := range q.loops {
		l.do(l.drain)
	}
	finished := make(chan struct{})
	go func() { q.running.Wait(); close(finished) }()
	select {
	case <-finished:
		return
	case <-ctx.Done():
	}
	for _, l := range q.loops {
		l.do(l.kill)
	}
	<-finished
}

func (q *quicPart) stats(s *Stats) {
	c := &q.counts
	s.QUIC = QUICStats{
		Flows: int(c.flows.Load()), Pending: int(c.pending.Load()),
		Versions: c.versions.Load(), Refused: c.refused.Load(), Stray: c.stray.Load(), Evicted: c.evicted.Load(),
		Moved: c.moved.Load(), Mixed: c.mixed.Load(), Muted: c.muted.Load(), Lost: c.lost.Load(), Truncated: c.tooLong.Load(),
	}
}
