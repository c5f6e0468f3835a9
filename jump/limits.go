package jump

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Penalties are seconds that a source has to stay away for, added up. They go by
// themselves, at one a second; from tooMuch on the source is turned away. Small
// ones, because many people share one IPv4 address behind a carrier's NAT.
const (
	penaltyLogin   = 2 * time.Second  // a handshake that came to nothing
	penaltyRefused = time.Second      // a target that nobody may reach
	penaltyFlood   = 20 * time.Second // closed for too many refusals
	tooMuch        = time.Minute
	worst          = 10 * time.Minute // no more than this is held against anyone
)

// maxSources bounds the memory for sources. Beyond it those that have nothing
// open are forgotten at random, so that a flood of addresses forgets itself.
const maxSources = 1 << 16

// source is what is remembered of one IPv4 address or IPv6 /64.
type source struct {
	open    int       // connections
	clean   time.Time // when its penalties are over
	targets map[netip.Addr]*dials
	seen    time.Time
}

// dials are the connections of a source to one VM, as a bucket that fills.
type dials struct {
	tokens float64
	at     time.Time
}

// admission decides who may come in and how much they may ask for.
type admission struct {
	limits *Limits
	now    func() time.Time
	chance func() float64 // in [0, 1)

	mu          sync.Mutex
	sources     map[netip.Prefix]*source
	waiting     int // connections that have not logged in
	connections int // all
	channels    int
}

func newAdmission(l *Limits) *admission {
	return &admission{limits: l, now: time.Now, chance: rand.Float64, sources: map[netip.Prefix]*source{}}
}

// sourceOf is the network that counts as one source: an IPv6 host has its /64
// to itself.
func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails for an invalid address only
	return p
}

// bound replaces the limits.
func (m *admission) bound(l *Limits) {
	m.mu.Lock()
	m.limits = l
	m.mu.Unlock()
}

// enter asks for a connection. LoggedIn stands for "may go on"; then leave has
// to be called once, and welcomed as soon as the client has logged in.
func (m *admission) enter(a netip.Addr) Login {
	m.mu.Lock()
	defer m.mu.Unlock()
	// Dropping at random before all is full leaves room for the honest
	// (OpenSSH's MaxStartups).
	if m.connections >= m.limits.Connections || m.waiting >= m.limits.Full {
		return LoginDropped
	}
	if over := m.waiting - m.limits.Start; over >= 0 && m.chance() < float64(over+1)/float64(m.limits.Full-m.limits.Start+1) {
		return LoginDropped
	}
	if !contains(m.limits.Exempt, a) {
		s := m.source(a)
		if s.clean.Sub(m.now()) > tooMuch {
			return LoginPenalty
		}
		if s.open >= m.limits.ConnectionsPerSource {
			return LoginSource
		}
	}
	m.source(a).open++
	m.connections++
	m.waiting++
	return LoggedIn
}

// welcomed ends the time that counts as not logged in.
func (m *admission) welcomed() {
	m.mu.Lock()
	m.waiting--
	m.mu.Unlock()
}

// leave takes back one enter.
func (m *admission) leave(a netip.Addr, welcomed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !welcomed {
		m.waiting--
	}
	m.connections--
	m.source(a).open--
}

// penalize holds something against a source.
func (m *admission) penalize(a netip.Addr, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if contains(m.limits.Exempt, a) {
		return
	}
	s, now := m.source(a), m.now()
	if s.clean.Before(now) {
		s.clean = now
	}
	if s.clean = s.clean.Add(d); s.clean.Sub(now) > worst {
		s.clean = now.Add(worst)
	}
}

// dial asks for a channel to a VM. After nil, hangUp has to be called once.
func (m *admission) dial(from, to netip.Addr) *refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.channels >= m.limits.Channels {
		return refuse(RefusedCount, "the jump server is full; try again later")
	}
	if !contains(m.limits.Exempt, from) {
		if r := m.rate(m.source(from), to); r != nil {
			return r
		}
	}
	m.channels++
	return nil
}

func (m *admission) hangUp() {
	m.mu.Lock()
	m.channels--
	m.mu.Unlock()
}

// rate bounds how many VMs a source connects to, and how often to each.
func (m *admission) rate(s *source, to netip.Addr) *refusal {
	now := m.now()
	d := s.targets[to]
	if d == nil {
		for a, old := range s.targets {
			if now.Sub(old.at) >= time.Minute {
				delete(s.targets, a)
			}
		}
		if len(s.targets) >= m.limits.TargetsPerMinute {
			return refuse(RefusedRate, "more than %d VMs in a minute from your address", m.limits.TargetsPerMinute)
		}
		d = &dials{tokens: float64(m.limits.DialsPerMinute), at: now}
		if s.targets == nil {
			s.targets = map[netip.Addr]*dials{}
		}
		s.targets[to] = d
	}
	perMinute := float64(m.limits.DialsPerMinute)
	d.tokens = min(perMinute, d.tokens+now.Sub(d.at).Minutes()*perMinute)
	d.at = now
	if d.tokens < 1 {
		return refuse(RefusedRate, "more than %d connections to this VM in a minute from your address", m.limits.DialsPerMinute)
	}
	d.tokens--
	return nil
}

// source finds or makes what is remembered of a.
func (m *admission) source(a netip.Addr) *source {
	key, now := sourceOf(a), m.now()
	s := m.sources[key]
	if s == nil {
		if len(m.sources) >= maxSources {
			m.forget(now, true)
		}
		s = &source{}
		m.sources[key] = s
	}
	s.seen = now
	return s
}

// forget drops sources of which nothing needs to be known. When pressed, it also
// drops others that have nothing open, until a quarter is free.
func (m *admission) forget(now time.Time, pressed bool) {
	for key, s := range m.sources {
		if s.open > 0 {
			continue
		}
		stale := s.clean.Before(now) && now.Sub(s.seen) > time.Minute
		if stale || pressed && len(m.sources) > maxSources*3/4 {
			delete(m.sources, key)
		}
	}
}

// sweep forgets what is over.
func (m *admission) sweep() {
	m.mu.Lock()
	m.forget(m.now(), false)
	m.mu.Unlock()
}

// counts are the connections that have logged in, those that have not, the
// channels, and the sources.
func (m *admission) counts() (connections, handshakes, channels, sources int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.connections - m.waiting, m.waiting, m.channels, len(m.sources)
}
