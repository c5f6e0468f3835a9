package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/control"
	"aarch64.com/isthmus/cmd/internal/metrics"
	rest "aarch64.com/isthmus/proxy/control"
	"aarch64.com/isthmus/proxy/control/access"
	"aarch64.com/isthmus/proxy/control/page"
	"aarch64.com/isthmus/proxy/routes/proof"
	"aarch64.com/isthmus/proxy/routes/visits"
)

// apiService is the REST API and the page, and what one host looks after for all.
type apiService struct {
	node    *routesNode
	release func() // ends the use of the node
	server  *rest.Server
	guard   *access.Guard
	proofs  *proof.Checker // looks at the DNS for all, if no other host does
	log     zerolog.Logger
	probe   probe
}

func apiConfigured(c *config.Config) error {
	if !c.Routes.On() {
		return errors.New(`engine in [routes] is "off", so there is no store whose API this could be`)
	}
	return nil
}

func apiNeeds(c *config.Config) ([]capability, error) {
	var ports []int
	for _, a := range c.API.Listen {
		ports = append(ports, int(a.Port()))
	}
	return needsForPorts(ports), nil
}

func openAPI(c *config.Config, common *shared, log zerolog.Logger) (service, error) {
	s := &apiService{log: log}
	var err error
	if s.node, s.release, err = common.routes(c, log); err != nil {
		return nil, err
	}
	s.guard = access.New(s.node.catalog, apiLimits(c))
	s.proofs = s.checker(c)
	settings, err := s.settings(c)
	if err == nil {
		s.server, err = rest.New(settings)
	}
	if err != nil {
		s.release()
		return nil, err
	}
	s.probe = probe{who: "the API", ask: func() { s.server.Stats(); s.node.mirror.Stats() }}
	ctx, cancel := context.WithCancel(context.Background())
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		_ = s.proofs.Run(ctx) // that of ctx
	}()
	release := s.release
	s.release = func() {
		cancel()
		s.node.endsAfter(looked)
		release()
	}
	log.Info().Strs("listen", apiListens(c)).Str("store", describeStore(c)).Msg("API is there")
	return s, nil
}

// checker makes one that looks for proofs, and whether names lead to the proxies.
func (s *apiService) checker(c *config.Config) *proof.Checker {
	return proof.NewChecker(proof.CheckerConfig{
		Catalog: s.node.catalog, Store: s.node.store, DNS: s.node.dns, Node: s.node.name, POPs: cnames(c), Log: logTo(s.log),
	})
}

func apiLimits(c *config.Config) access.Limits {
	return access.Limits{PerSecond: limit(c.API.PerSecond), Burst: limit(c.API.Burst), Failures: limit(c.API.Failures)}
}

// settings is what the configuration says about the API.
func (s *apiService) settings(c *config.Config) (rest.Config, error) {
	out := rest.Config{
		Hosts: c.API.Hosts, Catalog: s.node.catalog, Mirror: s.node.mirror, Guard: s.guard, Log: logTo(s.log),
		Check: rest.Look(s.checker(c)),
	}
	if c.Domain != "" {
		out.POPs, out.Domain = c.POPs(), c.Domain
	}
	for _, a := range c.API.Listen {
		out.Listen = append(out.Listen, rest.Listen{Address: a.String(), CertFile: c.API.CertFile, KeyFile: c.API.KeyFile})
	}
	var err error
	out.Page, err = page.New(page.Config{
		Catalog: s.node.catalog, Mirror: s.node.mirror, Guard: s.guard,
		Check: out.Check, CNAMEs: cnames(c), Visits: s.visits(c), Log: logTo(s.log),
	})
	return out, err
}

// visits says how often hosts have been visited; nil: nobody counts that could be asked.
func (s *apiService) visits(c *config.Config) func(project string) visits.Summary {
	if !s.node.serves && c.Routes.Engine != config.EngineEtcd {
		return nil
	}
	return s.node.others.Of
}

// cnames are what CNAME records of customers may lead to.
func cnames(c *config.Config) []string {
	if c.Domain == "" {
		return nil
	}
	var list []string
	for _, pop := range c.POPs() {
		list = append(list, pop+".proxy."+c.Domain)
	}
	return list
}

// apiListens are the addresses of the API, and whether they have TLS.
func apiListens(c *config.Config) []string {
	scheme := "http://"
	if c.API.CertFile != "" {
		scheme = "https://"
	}
	var list []string
	for _, a := range c.API.Listen {
		list = append(list, scheme+a.String())
	}
	return list
}

// describeAPI says what the API does.
func describeAPI(c *config.Config) string {
	list := apiListens(c)
	if c.Control.Socket != "" {
		list = append(list, "the control socket")
	}
	return "on " + orNone(list)
}

func (s *apiService) run(ctx context.Context) error {
	<-ctx.Done()
	s.server.Shutdown(ctx) // at once: ctx has ended
	s.release()
	return nil
}

func (s *apiService) drain(ctx context.Context) {
	s.server.Shutdown(ctx)
	s.release() // for who takes over
}

// apiDrain is for requests that have begun. Imports are not waited for: the same one
// goes on where it ended.
const apiDrain = 15 * time.Second

func (s *apiService) drainTimeout(*config.Config) time.Duration { return apiDrain }

func (s *apiService) forGood() {}

func (s *apiService) close() {
	ended, end := context.WithCancel(context.Background())
	end()
	s.server.Shutdown(ended)
	s.release()
}

func (s *apiService) prepare(c *config.Config) (func() error, error) {
	settings, err := s.settings(c)
	if err != nil {
		return nil, err
	}
	return func() error {
		s.guard.Update(apiLimits(c))
		s.node.setVMs(c.Proxy.VMPrefixes)
		return s.server.Update(settings)
	}, nil
}

func (s *apiService) alive(ctx context.Context) error { return s.probe.alive(ctx) }

func (s *apiService) collector() prometheus.Collector {
	return &metrics.API{Stats: s.server.Stats, Proofs: s.proofs.Stats}
}

func (s *apiService) handle(c *control.Server) { c.Mount("/api/", s.server.Local(), rest.Peer) }

func (s *apiService) summary(c *config.Config) string {
	if len(c.API.Listen) == 0 {
		return "API on the control socket"
	}
	return fmt.Sprintf("API on %s", strings.Join(apiListens(c), ", "))
}
