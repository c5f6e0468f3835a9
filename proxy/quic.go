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

	moved  movers
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
	Lost      uint64 // sends that a socket did not take
	Truncated uint64 // hellos with more datagrams than are kept
}

type quicCounts struct {
	flows, pending                                          atomic.Int64
	versions, refused, stray, evicted, moved, lost, tooLong atomic.Uint64
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
		Moved: c.moved.Load(), Lost: c.lost.Load(), Truncated: c.tooLong.Load(),
	}
}

// movers finds flows by the connection ids that backends have chosen, for clients
// whose address has changed (RFC 9000 section 9). Only what comes from an unknown
// address is looked up here. A client that moves on purpose takes a connection id
// that only it and the backend know; it stays where it was, for its probes get no
// answer.
type movers struct {
	mu      sync.RWMutex
	flows   map[string]*flow
	lengths [maxCID + 1]int
}

// minMover: shorter connection ids are found by chance.
const (
	minMover = 8
	maxCID   = 20
)

func (m *movers) add(cid []byte, f *flow) {
	if len(cid) < minMover || len(cid) > maxCID {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flows == nil {
		m.flows = map[string]*flow{}
	}
	// The first one keeps it: nobody takes another's.
	if _, taken := m.flows[string(cid)]; !taken {
		m.flows[string(cid)] = f
		m.lengths[len(cid)]++
	}
}

func (m *movers) remove(cid []byte, f *flow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flows[string(cid)] == f {
		delete(m.flows, string(cid))
		m.lengths[len(cid)]--
	}
}

// find gives the flow of a datagram with a short header, which does not tell how
// long the connection id in it is.
func (m *movers) find(b []byte) *flow {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for n := minMover; n <= maxCID && n < len(b); n++ {
		if m.lengths[n] == 0 {
			continue
		}
		if f := m.flows[string(b[1:1+n])]; f != nil {
			return f
		}
	}
	return nil
}
