package proxy

import (
	"sync/atomic"

	"aarch64.com/isthmus/proxy/sniff"
)

// Stats are counters since New, and what is so at the moment.
type Stats struct {
	// Results counts requests, and connections that carry none that this host
	// can see, when they end.
	Results [NumProtocols][NumResults]uint64
	// Up and Down are bytes to and from backends, for TLS those of open
	// connections included.
	Up, Down [NumProtocols]uint64
	// Refused counts hellos that could not be read, by why.
	Refused [NumProtocols][sniff.NumReasons]uint64

	Accepted     uint64 // TLS connections
	AcceptFailed uint64 // for want of descriptors or memory
	Open         int64  // TLS connections
	Connections  int    // that count in Limits.Connections

	AcceptedHTTP uint64 // HTTP connections
	OpenHTTP     int64  // HTTP connections, without those that have been upgraded
	QUIC         QUICStats
}

// counts are what all parts count in the same way.
type counts struct {
	results  [NumProtocols][NumResults]atomic.Uint64
	up, down [NumProtocols]atomic.Uint64
	refused  [NumProtocols][sniff.NumReasons]atomic.Uint64

	requests, bytes top
}

func (c *counts) add(r *Record) {
	c.results[r.Protocol][r.Result].Add(1)
	c.up[r.Protocol].Add(r.Up)
	c.down[r.Protocol].Add(r.Down)
	// Names that lead nowhere are anybody's: they are not worth a place.
	if r.Host == "" || r.Result == UnknownHost {
		return
	}
	c.requests.add(r.Host, 1)
	c.bytes.add(r.Host, r.Up+r.Down)
}

// Stats reads all counters.
func (s *Server) Stats() (t Stats) {
	c := &s.counts
	for p := range NumProtocols {
		for i := range c.results[p] {
			t.Results[p][i] = c.results[p][i].Load()
		}
		for i := range c.refused[p] {
			t.Refused[p][i] = c.refused[p][i].Load()
		}
		t.Up[p], t.Down[p] = c.up[p].Load(), c.down[p].Load()
	}
	s.limiter.mu.Lock()
	t.Connections = s.limiter.open
	s.limiter.mu.Unlock()
	for _, p := range s.parts {
		p.stats(&t)
	}
	return t
}

// TopRequests are the hosts with the most requests and connections, most first.
func (s *Server) TopRequests(n int) []HostUse { return s.counts.requests.list(n) }

// TopBytes are the hosts with the most bytes both ways, most first.
func (s *Server) TopBytes(n int) []HostUse { return s.counts.bytes.list(n) }
