package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/control"
	"aarch64.com/isthmus/cmd/internal/metrics"
	"aarch64.com/isthmus/translate/router"
)

// routerService is the translator between IPv6 and IPv4.
type routerService struct {
	router *router.Router
	kernel string // name of the TUN device
	log    zerolog.Logger
	probe  probe
}

func routerNeeds(c *config.Config) ([]capability, error) {
	list := []capability{
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "make the TUN device and its routes"},
		{unix.CAP_NET_RAW, "CAP_NET_RAW", "open raw and AF_XDP sockets"},
	}
	if len(c.Router.Ports) > 0 {
		list = append(list, capability{unix.CAP_BPF, "CAP_BPF", "load the XDP program"})
	}
	return list, nil
}

func openRouter(c *config.Config, _ *shared, log zerolog.Logger) (service, error) {
	r := &c.Router
	log.Info().Strs("pool6", prefixStrings(r.Pool6)).Int("eam", len(r.EAM)).Int("ports", len(r.Ports)).
		Str("kernel", r.Kernel.Interface).Msg("translating between IPv6 and IPv4")
	log.Info().Msg("hosts without a mapping " + describePool(c))
	log.Info().Msg("IPv6 sources: " + describeSources(c))
	rc := routerConfig(c)
	rc.Log = logTo(log)
	opened, err := router.Open(rc)
	if err != nil {
		return nil, err
	}
	s := &routerService{router: opened, kernel: r.Kernel.Interface, log: log}
	s.probe = probe{who: "the workers", ask: func() { opened.Stats() }}
	return s, nil
}

func (s *routerService) run(ctx context.Context) error { return s.router.Run(ctx) }

// drain has nothing to wait for: a packet is through at once.
func (s *routerService) drain(context.Context) {}

func (s *routerService) drainTimeout(*config.Config) time.Duration { return 0 }

func (s *routerService) close() { s.router.Close() }

func (s *routerService) forGood() { s.router.ForGood() }

func (s *routerService) status(out *status, c *config.Config) {
	out.addRouter(c, s.router.Stats())
	limited, err := s.router.Limited()
	if err != nil {
		s.log.Warn().Msg(err.Error())
	}
	for host, n := range limited {
		if out.Limited == nil {
			out.Limited = map[string]uint64{}
		}
		out.Limited[host.String()] = n
	}
}

func (s *routerService) prepare(next *config.Config) (func() error, error) {
	return func() error { return s.router.Reload(routerConfig(next)) }, nil
}

func (s *routerService) alive(ctx context.Context) error { return s.probe.alive(ctx) }

func (s *routerService) collector() prometheus.Collector {
	return &metrics.Router{Stats: s.router.Stats, Kernel: s.kernel}
}

func (s *routerService) handle(c *control.Server) { handleMap(c, s.router) }

func (s *routerService) summary(c *config.Config) string {
	r := &c.Router
	return fmt.Sprintf("translating %s, %d mappings, %d ports", strings.Join(prefixStrings(r.Pool6), " "), len(r.EAM), len(r.Ports))
}

// logTo is the log function of a service.
func logTo(log zerolog.Logger) func(warn bool, message string) {
	return func(warn bool, message string) {
		level := zerolog.InfoLevel
		if warn {
			level = zerolog.WarnLevel
		}
		log.WithLevel(level).Msg(message)
	}
}
