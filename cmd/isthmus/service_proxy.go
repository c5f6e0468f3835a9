package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/control"
	"aarch64.com/isthmus/cmd/internal/metrics"
	"aarch64.com/isthmus/cmd/internal/reach"
	"aarch64.com/isthmus/proxy"
	"aarch64.com/isthmus/proxy/routes"
)

// proxyService is the web proxy.
type proxyService struct {
	server  *proxy.Server
	table   *routes.Table
	routes  *routes.File   // nil: none
	node    *routesNode    // nil: no store
	release func()         // ends the use of the node
	vms     []netip.Prefix // that the rule is made of
	rule    *reach.Rule
	access  *accessLog
	times   metrics.ProxyTimes
	log     zerolog.Logger
	probe   probe
}

func proxyConfigured(c *config.Config) error {
	if !c.Proxy.Listens() {
		return errors.New("listen_http, listen_https and listen_quic in [proxy] are empty, so there is no web proxy")
	}
	return nil
}

func proxyListens(c *config.Config) []netip.AddrPort {
	return slices.Concat(c.Proxy.ListenHTTP, c.Proxy.ListenHTTPS, c.Proxy.ListenQUIC)
}

func proxyNeeds(c *config.Config) ([]capability, error) {
	var ports []int
	for _, a := range proxyListens(c) {
		ports = append(ports, int(a.Port()))
	}
	return needsForPorts(ports), nil
}

func openProxy(c *config.Config, common *shared, log zerolog.Logger) (service, error) {
	s := &proxyService{
		table: &routes.Table{}, vms: c.Proxy.VMPrefixes, rule: reach.New(c.Proxy.VMPrefixes), access: newAccessLog(log), log: log,
	}
	var err error
	if s.node, s.release, err = common.routes(c, log); err != nil {
		return nil, err
	}
	if s.node != nil {
		s.table = s.node.table
	}
	if err := s.open(c); err != nil {
		s.closeRoutes()
		s.access.close()
		return nil, err
	}
	s.probe = probe{who: "the web proxy", ask: func() { s.server.Stats() }}
	log.Info().Strs("listen", describeListens(c)).Strs("vm_prefixes", prefixStrings(c.Proxy.VMPrefixes)).Msg("web proxy listens")
	return s, nil
}

// open gets the routes, and then listens: visitors are let in when there is
// something for them.
func (s *proxyService) open(c *config.Config) (err error) {
	if c.Proxy.RoutesFile != "" {
		if s.routes, err = routes.OpenFile(c.Proxy.RoutesFile, s.rule.Check, s.table, logTo(s.log)); err != nil {
			return err
		}
	}
	if err := s.access.use(&c.Proxy); err != nil {
		return err
	}
	if s.node != nil {
		s.node.await()
	}
	s.server, err = proxy.New(s.settings(c, s.rule))
	return err
}

// closeRoutes ends what keeps the routes up to date. They stay as they are.
func (s *proxyService) closeRoutes() {
	if s.routes != nil {
		s.routes.Close()
	}
	s.release()
}

// settings is what the configuration says about the proxy.
func (s *proxyService) settings(c *config.Config, rule *reach.Rule) proxy.Config {
	p, l, t := &c.Proxy, &c.Proxy.Limits, &c.Proxy.Timeouts
	return proxy.Config{
		HTTP: p.ListenHTTP, HTTPS: p.ListenHTTPS, QUIC: p.ListenQUIC,
		Routes: s.table, Reach: rule.Check, Name: c.ProxyName(),
		Limits: proxy.Limits{
			Connections: limit(l.Connections), ConnectionsPerClient: limit(l.ConnectionsPerClient),
			ConnectionsPerHost: limit(l.ConnectionsPerHost), ConnectionsPerProject: limit(l.ConnectionsPerProject),
			RequestsPerConnection: limit(l.RequestsPerConnection), RequestHeader: limit(l.RequestHeader),
			QUICFlows: limit(l.QUICFlows), QUICFlowsPerClient: limit(l.QUICFlowsPerClient), QUICPending: limit(l.QUICPending),
		},
		Timeouts: proxy.Timeouts{
			Hello: limit(t.Hello), Connect: limit(t.Connect), Response: limit(t.Response),
			Idle: limit(t.Idle), KeepOpen: limit(t.KeepOpen), QUICIdle: limit(t.QUICIdle),
		},
		Access: func(r *proxy.Record) {
			s.times.Observe(r)
			s.access.record(r)
			if s.node != nil {
				s.node.visited(r)
			}
		},
		Log: logTo(s.log),
	}
}

func (s *proxyService) run(ctx context.Context) error {
	var wait sync.WaitGroup
	if s.routes != nil {
		wait.Go(func() { s.routes.Watch(ctx) })
	}
	<-ctx.Done()
	s.server.Shutdown(ctx) // at once: ctx has ended
	wait.Wait()
	s.closeRoutes()
	s.access.close()
	return nil
}

func (s *proxyService) drain(ctx context.Context) {
	if n := s.server.Stats().Connections; n > 0 {
		s.log.Info().Int("connections", n).Msg("the web proxy takes no more visitors and waits for connections to end")
	}
	var wait sync.WaitGroup
	wait.Go(s.release) // for who takes over; what is open needs no other routes
	s.server.Shutdown(ctx)
	wait.Wait()
}

func (s *proxyService) drainTimeout(c *config.Config) time.Duration { return c.Proxy.DrainTimeout }

func (s *proxyService) forGood() {}

func (s *proxyService) close() {
	ended, end := context.WithCancel(context.Background())
	end()
	s.server.Shutdown(ended)
	s.closeRoutes()
	s.access.close()
}

// prepare holds the routes against new prefixes: those that lead outside would be
// refused one visitor at a time otherwise.
func (s *proxyService) prepare(c *config.Config) (func() error, error) {
	rule, use := s.rule, func() {}
	if !slices.Equal(s.vms, c.Proxy.VMPrefixes) {
		rule = reach.New(c.Proxy.VMPrefixes)
		if s.routes != nil {
			var err error
			if use, err = s.routes.Prepare(rule.Check); err != nil {
				return nil, err
			}
		}
	}
	if err := s.access.check(c.Proxy.AccessLog); err != nil {
		return nil, err
	}
	return func() error {
		if err := s.access.use(&c.Proxy); err != nil {
			s.log.Error().Msg(err.Error() + "; going on with the one before")
		}
		if err := s.server.Update(s.settings(c, rule)); err != nil {
			return err
		}
		use()
		if s.node != nil {
			s.node.setVMs(c.Proxy.VMPrefixes)
		}
		s.rule, s.vms = rule, c.Proxy.VMPrefixes
		return nil
	}, nil
}

func (s *proxyService) alive(ctx context.Context) error { return s.probe.alive(ctx) }

func (s *proxyService) collector() prometheus.Collector {
	return &metrics.Proxy{Stats: s.server.Stats, Routes: func() int { return s.table.Load().Len() }, File: s.fileStats, Times: &s.times, Dropped: s.access.dropped.Load}
}

func (s *proxyService) handle(*control.Server) {}

// fileStats are the figures of the file of routes, if there is one.
func (s *proxyService) fileStats() (f routes.FileStats) {
	if s.routes != nil {
		f = s.routes.Stats()
	}
	return f
}

func (s *proxyService) summary(*config.Config) string {
	return fmt.Sprintf("web proxy with %d routes", s.table.Load().Len())
}

// describeListens lists addresses with what is served there.
func describeListens(c *config.Config) []string {
	var list []string
	for _, l := range []struct {
		what string
		at   []netip.AddrPort
	}{{"http", c.Proxy.ListenHTTP}, {"https", c.Proxy.ListenHTTPS}, {"quic", c.Proxy.ListenQUIC}} {
		for _, a := range l.at {
			list = append(list, l.what+" "+a.String())
		}
	}
	return list
}

// describeProxy says what the proxy does.
func describeProxy(c *config.Config) string {
	return fmt.Sprintf("%s, to VMs in %s", strings.Join(describeListens(c), ", "), strings.Join(prefixStrings(c.Proxy.VMPrefixes), ", "))
}

// checkRoutes reads the file of routes and says how many there are.
func checkRoutes(c *config.Config) (int, error) {
	if c.Proxy.RoutesFile == "" {
		return 0, nil
	}
	data, err := os.ReadFile(c.Proxy.RoutesFile)
	if err != nil {
		return 0, fmt.Errorf("routes: %w", err)
	}
	list, err := routes.Parse(c.Proxy.RoutesFile, data, reach.New(c.Proxy.VMPrefixes).Check)
	return len(list), err
}
