package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server is the endpoint. It is not ready until Ready is called.
type Server struct {
	listener net.Listener
	http     *http.Server
	registry *prometheus.Registry
	alive    func(context.Context) error
	ready    atomic.Bool
}

// ErrInUse tells that another process has the address.
var ErrInUse = errors.New("in use by another process")

// aliveWithin is how long /healthz waits for an answer of the data plane.
const aliveWithin = 5 * time.Second

// Listen opens the endpoint at address:port, with the Go and process collectors
// and those given. Alive tells why the process should be restarted, or nil.
func Listen(address string, alive func(context.Context) error, list ...prometheus.Collector) (*Server, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("metrics endpoint: %s is %w (see `ss -ltnp`); stop that one or choose another [metrics] listen", address, ErrInUse)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("metrics endpoint: this host has no address %s; choose another [metrics] listen", address)
	case err != nil:
		return nil, fmt.Errorf("metrics endpoint: %w; choose another [metrics] listen", err)
	}
	s := &Server{listener: l, registry: registry(list...), alive: alive}
	s.http = &http.Server{
		Handler: s.handler(s.registry),
		// Nobody keeps a connection by sending or reading slowly.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	return s, nil
}

// registry holds our collectors beside those of the Go runtime and the process.
func registry(list ...prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(list...)
	return r
}

func (s *Server) handler(r *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{
		Registry:            r,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), aliveWithin)
		defer cancel()
		if err := s.alive(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "not forwarding: starting or stopping", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "isthmus: /metrics, /healthz, /readyz\n")
	})
	return mux
}

// Add has the endpoint serve more, before it serves anything.
func (s *Server) Add(c prometheus.Collector) { s.registry.MustRegister(c) }

// Address is where the endpoint listens.
func (s *Server) Address() net.Addr { return s.listener.Addr() }

// Ready says whether packets are being forwarded.
func (s *Server) Ready(yes bool) { s.ready.Store(yes) }

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics endpoint: %w", err)
	}
	return nil
}

// Close stops listening. Serve does it by itself.
func (s *Server) Close() { s.listener.Close() }
