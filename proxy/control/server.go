package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Server serves from New to Shutdown. Its methods may be called from many
// goroutines.
type Server struct {
	now     atomic.Pointer[Config] // with its defaults
	handler *handler
	parts   []*part
	serving sync.WaitGroup
}

// part is one address.
type part struct {
	address  net.Addr
	http     *http.Server
	listener net.Listener
}

// maxHeader bounds the header of a request, in bytes.
const maxHeader = 16 << 10

// New opens all listeners and begins to serve. Another process may have the same
// ones already (SO_REUSEPORT): new connections are shared out between the two
// until that one shuts down. The error says what the configuration lacks, or
// which address is not to be had; then nothing is open.
func New(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	s := &Server{}
	c.setDefaults(newShared())
	s.now.Store(&c)
	s.handler = newHandler(s.now.Load)
	for i := range c.Listen {
		p, err := s.open(&c, &c.Listen[i])
		if err != nil {
			for _, p := range s.parts {
				p.listener.Close()
			}
			return nil, err
		}
		s.parts = append(s.parts, p)
	}
	for _, p := range s.parts {
		s.serving.Go(func() { s.serve(p) })
	}
	return s, nil
}

// open opens one address.
func (s *Server) open(c *Config, l *Listen) (*part, error) {
	at, err := l.check()
	if err != nil {
		return nil, err
	}
	var tlsConfig *tls.Config
	if l.CertFile != "" {
		cert, err := loadCertificate(l.CertFile, l.KeyFile, func(warn bool, message string) { s.now.Load().Log(warn, message) })
		if err != nil {
			return nil, err
		}
		tlsConfig = cert.tlsConfig()
	}
	listener, err := listen(at)
	if err != nil {
		return nil, err
	}
	h := http.HandlerFunc(s.handler.public)
	if tlsConfig == nil {
		h = s.handler.loopback
	}
	return &part{
		address:  listener.Addr(),
		listener: &bounded{Listener: listener, open: map[netip.Prefix]int{}},
		http: &http.Server{
			Handler: h, TLSConfig: tlsConfig,
			// Nobody keeps a connection by sending or reading slowly.
			ReadHeaderTimeout: c.Timeouts.Header,
			ReadTimeout:       c.Timeouts.Header + c.Timeouts.Body,
			WriteTimeout:      c.Timeouts.Header + c.Timeouts.Body + 2*c.Timeouts.Request, // the page's; the API sets its own
			IdleTimeout:       c.Timeouts.Idle,
			MaxHeaderBytes:    maxHeader,
			HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 32},
			// What strangers do wrong with TLS is nothing for an operator.
			ErrorLog: log.New(io.Discard, "", 0),
		},
	}, nil
}

func (s *Server) serve(p *part) {
	var err error
	if p.http.TLSConfig != nil {
		err = p.http.ServeTLS(p.listener, "", "")
	} else {
		err = p.http.Serve(p.listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		s.now.Load().Log(true, fmt.Sprintf("API on %v: %v", p.address, err))
	}
}

// Addresses are what New has opened.
func (s *Server) Addresses() []net.Addr {
	list := make([]net.Addr, len(s.parts))
	for i, p := range s.parts {
		list[i] = p.address
	}
	return list
}

// Update replaces the configuration but for the addresses and their certificates'
// files, which stay those that New has opened: for requests that begin from now
// on. After an error all is as before.
func (s *Server) Update(c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	c.setDefaults(s.now.Load().shared)
	s.now.Store(&c)
	return nil
}

// Local answers for a Unix socket, whose server has [Peer] as its ConnContext.
func (s *Server) Local() http.Handler { return http.HandlerFunc(s.handler.public) }

// Shutdown stops listening at once and waits for requests that have begun. When ctx
// ends it closes what is left.
func (s *Server) Shutdown(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range s.parts {
		all.Go(func() {
			if p.http.Shutdown(ctx) != nil {
				p.http.Close()
			}
		})
	}
	all.Wait()
	s.serving.Wait()
}

// Stats are the figures of a Server.
type Stats struct {
	Answers map[int]uint64 // requests that have been answered, by status; the page's, too
}

// Stats are the figures.
func (s *Server) Stats() Stats {
	st := Stats{Answers: map[int]uint64{}}
	for status := range s.handler.answers {
		if n := s.handler.answers[status].Load(); n > 0 {
			st.Answers[status] = n
		}
	}
	return st
}
