package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
)

// Server serves from New to Shutdown. Its methods may be called from many
// goroutines.
type Server struct {
	now     atomic.Pointer[Config] // with its defaults
	limiter *limiter
	counts  counts
	parts   []part
	unique  string // in Via; no other process has it

	stop sync.Once
}

// part serves one protocol's listeners.
type part interface {
	// shutdown stops listening at once and waits for what is open. When ctx
	// ends it closes what is left.
	shutdown(ctx context.Context)
	// update is called when Server.config gives something else.
	update()
	// stats adds what the part alone knows.
	stats(*Stats)
}

// New opens all listeners and begins to serve. Another process may have the same
// ones already (SO_REUSEPORT): new connections are shared out between the two
// until that one shuts down. The error says what the configuration lacks, or
// which address is not to be had; then nothing is open.
func New(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	var unique [4]byte
	_, _ = rand.Read(unique[:]) // never fails
	s := &Server{unique: hex.EncodeToString(unique[:])}
	s.set(&c)
	s.limiter = newLimiter(&s.config().Limits)
	s.warnOfDescriptors()
	for _, open := range [...]struct {
		at   []netip.AddrPort
		part func(*Server, []netip.AddrPort) (part, error)
	}{{c.HTTP, openWeb}, {c.HTTPS, openTLS}, {c.QUIC, openQUIC}} {
		if len(open.at) == 0 {
			continue
		}
		p, err := open.part(s, open.at)
		if err != nil {
			ended, end := context.WithCancel(context.Background())
			end()
			s.Shutdown(ended)
			return nil, err
		}
		s.parts = append(s.parts, p)
	}
	return s, nil
}

// config is what holds for whatever begins now. Nobody changes it.
func (s *Server) config() *Config { return s.now.Load() }

func (s *Server) set(c *Config) {
	n := *c
	n.Limits.setDefaults()
	n.Timeouts.setDefaults()
	if n.Name == "" {
		n.Name = "isthmus"
	}
	n.pseudonym = n.Name + "-" + s.unique
	if n.Access == nil {
		n.Access = func(*Record) {}
	}
	if n.connect == nil {
		n.connect = connectTCP
	}
	if n.Log == nil {
		n.Log = func(bool, string) {}
	}
	s.now.Store(&n)
}

// Update replaces the configuration but for the addresses, which stay those that
// New has opened: for connections and requests that begin from now on, and for
// the timeouts of those that are open. What is open stays open, also where it
// would not be let in any more. After an error all is as before.
func (s *Server) Update(c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	s.set(&c)
	s.limiter.bound(&s.config().Limits)
	for _, p := range s.parts {
		p.update()
	}
	return nil
}

// Shutdown stops listening at once and waits for what is open to end. When ctx
// ends it closes what is left.
func (s *Server) Shutdown(ctx context.Context) {
	s.stop.Do(func() {
		var all sync.WaitGroup
		for _, p := range s.parts {
			all.Go(func() { p.shutdown(ctx) })
		}
		all.Wait()
	})
}

// record notes how a request or connection has ended.
func (s *Server) record(r *Record) {
	s.counts.add(r)
	s.config().Access(r)
}

// warnOfDescriptors compares the limits with how many files this process may
// have open. Go's runtime has raised that to the hard limit already.
func (s *Server) warnOfDescriptors() {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return
	}
	c := s.config()
	const other = 200 // listeners, pipes, logs
	need := 2*uint64(c.Limits.Connections) + other
	if len(c.QUIC) > 0 {
		need += uint64(c.Limits.QUICFlows)
	}
	if r.Cur < need {
		c.Log(true, fmt.Sprintf("the proxy's limits need up to %d open files, and this process may have %d: "+
			"set LimitNOFILE in its systemd unit, or lower the limits in [proxy]", need, r.Cur))
	}
}
