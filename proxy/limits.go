package proxy

import (
	"net/netip"
	"sync"
	"time"

	"aarch64.com/isthmus/proxy/internal/clientnet"
)

func (l *Limits) setDefaults() {
	count := func(v *int, def int) {
		switch {
		case *v == 0:
			*v = def
		case *v < 0:
			*v = 1<<31 - 1
		}
	}
	count(&l.Connections, 50_000)
	count(&l.ConnectionsPerClient, 500)
	count(&l.ConnectionsPerHost, 20_000)
	count(&l.ConnectionsPerProject, 20_000)
	count(&l.RequestsPerConnection, 100)
	count(&l.RequestHeader, 64<<10)
	count(&l.QUICFlows, 50_000)
	count(&l.QUICFlowsPerClient, 200)
	count(&l.QUICPending, 1000)
}

func (t *Timeouts) setDefaults() {
	after := func(v *time.Duration, def time.Duration) {
		switch {
		case *v == 0:
			*v = def
		case *v < 0:
			*v = 100 * 365 * 24 * time.Hour
		}
	}
	after(&t.Hello, 10*time.Second)
	after(&t.Connect, 3*time.Second)
	after(&t.Response, 2*time.Minute)
	after(&t.Idle, 10*time.Minute)
	after(&t.KeepOpen, time.Minute)
	after(&t.QUICIdle, 2*time.Minute)
}

// limiter counts what is open. It is asked per connection, not per byte.
type limiter struct {
	limits *Limits

	mu       sync.Mutex
	open     int
	clients  map[netip.Prefix]int
	hosts    map[string]int
	projects map[string]int
}

func newLimiter(l *Limits) *limiter {
	return &limiter{limits: l, clients: map[netip.Prefix]int{}, hosts: map[string]int{}, projects: map[string]int{}}
}

// bound sets new limits. What is open stays.
func (l *limiter) bound(limits *Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits
}

// fullConnections is what enter says of the bound for all clients together.
const fullConnections = "connections"

// enter asks for a connection. After "" leave has to be called once; otherwise it
// says what there is too much of.
func (l *limiter) enter(client netip.Addr) (full string) {
	key := clientnet.Of(client)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.limits.Connections:
		return fullConnections
	case l.clients[key] >= l.limits.ConnectionsPerClient:
		return "connections of this client"
	}
	l.open++
	l.clients[key]++
	return ""
}

func (l *limiter) leave(client netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	less(l.clients, clientnet.Of(client))
}

// join asks for a connection to a host of a project. After "" part has to be
// called once.
func (l *limiter) join(host, project string) (full string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.hosts[host] >= l.limits.ConnectionsPerHost:
		return "connections to this host"
	case project != "" && l.projects[project] >= l.limits.ConnectionsPerProject:
		return "connections to this project"
	}
	l.hosts[host]++
	if project != "" {
		l.projects[project]++
	}
	return ""
}

func (l *limiter) part(host, project string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	less(l.hosts, host)
	if project != "" {
		less(l.projects, project)
	}
}

// less counts down and forgets what is at 0, so that the maps hold what is open
// and nothing else.
func less[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] == 0 {
		delete(m, k)
	}
}
