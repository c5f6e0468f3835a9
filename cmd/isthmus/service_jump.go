package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/control"
	"aarch64.com/isthmus/cmd/internal/metrics"
	"aarch64.com/isthmus/cmd/internal/reach"
	"aarch64.com/isthmus/jump"
)

// jumpService is the SSH jump server.
type jumpService struct {
	server    *jump.Server
	listeners []net.Listener
	audit     *auditLog
	log       zerolog.Logger
	probe     probe
}

func jumpConfigured(c *config.Config) error {
	if len(c.Jump.Listen) == 0 {
		return errors.New("listen in [jump] is empty, so there is no jump server")
	}
	return nil
}

// jumpNeeds asks for the right to use low ports where one is used.
func jumpNeeds(c *config.Config) ([]capability, error) {
	var ports []int
	for _, address := range c.Jump.Listen {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if n, err := strconv.Atoi(port); err == nil {
			ports = append(ports, n)
		}
	}
	return needsForPorts(ports), nil
}

// needsForPorts is the right to listen on low ports, where one of these is low.
func needsForPorts(ports []int) []capability {
	first := 1024
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			first = n
		}
	}
	for _, port := range ports {
		if port < first {
			return []capability{{unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE", fmt.Sprintf("listen on port %d", port)}}
		}
	}
	return nil
}

func openJump(c *config.Config, _ *shared, log zerolog.Logger) (service, error) {
	s := &jumpService{audit: newAuditLog(log), log: log}
	next, err := loadJump(c, true, s.audit, log)
	if err != nil {
		return nil, err
	}
	if s.server, err = jump.New(next.config); err != nil {
		return nil, err
	}
	if err := s.audit.open(c.Jump.Audit); err != nil {
		return nil, err
	}
	for _, address := range c.Jump.Listen {
		l, err := jump.Listen(context.Background(), address)
		if err != nil {
			s.close()
			return nil, err
		}
		s.listeners = append(s.listeners, l)
	}
	s.probe = probe{who: "the jump server", ask: func() { s.server.Stats() }}
	next.tell(log)
	log.Info().Strs("listen", c.Jump.Listen).Strs("vm_prefixes", prefixStrings(c.Jump.VMPrefixes)).Str("access", c.Jump.Access).
		Msg("jump server listens")
	checkDescriptors(c, log)
	return s, nil
}

// checkDescriptors warns where the limits promise more than the kernel gives.
func checkDescriptors(c *config.Config, log zerolog.Logger) {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	l := &c.Jump.Limits
	if need := uint64(l.Connections) + uint64(l.StartupsMax) + uint64(l.Channels); need > limit.Max {
		log.Warn().Msgf("the limits of [jump.limits] take up to %d file descriptors, and this process may have %d; lower them, or raise LimitNOFILE", need, limit.Max)
	}
}

func (s *jumpService) run(ctx context.Context) error {
	var wait sync.WaitGroup
	wait.Go(func() { s.server.Watch(ctx) })
	ended := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		wait.Go(func() { ended <- s.server.Serve(l) })
	}
	<-ctx.Done()
	s.server.Shutdown(ctx) // at once: ctx has ended
	wait.Wait()
	s.audit.close()
	var errs error
	for range s.listeners {
		errs = errors.Join(errs, <-ended)
	}
	return errs
}

func (s *jumpService) drain(ctx context.Context) {
	if n := s.server.Stats().Connections; n > 0 {
		s.log.Info().Int("connections", n).Msg("the jump server takes no more clients and waits for its sessions to end")
	}
	s.server.Shutdown(ctx)
}

func (s *jumpService) drainTimeout(c *config.Config) time.Duration { return c.Jump.DrainTimeout }

func (s *jumpService) forGood() {}

func (s *jumpService) close() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.audit.close()
}

// prepare reads keys and lists, too: the file may be the same and these not. It
// makes no key: one that has gone is a mistake by now.
func (s *jumpService) prepare(c *config.Config) (func() error, error) {
	next, err := loadJump(c, false, s.audit, s.log)
	if err != nil {
		return nil, err
	}
	if err := next.config.Check(); err != nil {
		return nil, err
	}
	// Tried now, and done when nothing else can fail any more.
	if err := s.audit.check(c.Jump.Audit); err != nil {
		return nil, err
	}
	return func() error {
		if err := s.audit.open(c.Jump.Audit); err != nil {
			s.log.Error().Msg(err.Error() + "; going on with the one before")
		}
		next.tell(s.log)
		return s.server.Update(next.config)
	}, nil
}

func (s *jumpService) alive(ctx context.Context) error { return s.probe.alive(ctx) }

func (s *jumpService) collector() prometheus.Collector { return &metrics.Jump{Stats: s.server.Stats} }

// jumpStatus is what a running jump server says about itself.
type jumpStatus struct {
	Listen      []string          `json:"listen"`
	Connections int               `json:"connections"`
	Handshakes  int               `json:"handshakes"`
	Open        int               `json:"open_channels"`
	Up          uint64            `json:"up_bytes"`
	Down        uint64            `json:"down_bytes"`
	Logins      map[string]uint64 `json:"logins"`   // by result, without zeros
	Channels    map[string]uint64 `json:"channels"` // likewise
}

func (s *jumpService) status(out *status, _ *config.Config) {
	stats := s.server.Stats()
	j := &jumpStatus{
		Connections: stats.Connections, Handshakes: stats.Handshakes, Open: stats.Open, Up: stats.Up, Down: stats.Down,
		Logins: map[string]uint64{}, Channels: map[string]uint64{},
	}
	for _, l := range s.listeners {
		j.Listen = append(j.Listen, l.Addr().String())
	}
	for _, l := range jump.Logins() {
		if n := stats.Logins[l]; n > 0 {
			j.Logins[l.String()] = n
		}
	}
	for _, e := range jump.Ends() {
		if n := stats.Channels[e]; n > 0 {
			j.Channels[e.String()] = n
		}
	}
	out.Jump = j
}

func (s *jumpService) summary(*config.Config) string {
	return fmt.Sprintf("jump server on %d addresses", len(s.listeners))
}

// sessionsPath is where the control socket answers about the jump server's
// sessions.
const sessionsPath = "/v1/jump/sessions"

// sessionEnd is a session to end.
type sessionEnd struct {
	ID uint64 `json:"id"`
}

func (s *jumpService) handle(c *control.Server) {
	c.Handle(sessionsPath, func() any {
		if list := s.server.Sessions(); list != nil {
			return list
		}
		return []jump.Session{}
	})
	control.Answer(c, http.MethodDelete, sessionsPath, func(e sessionEnd) (sessionEnd, error) {
		if !s.server.End(e.ID) {
			return e, fmt.Errorf("there is no session %d; `isthmus jump sessions` lists them", e.ID)
		}
		s.log.Info().Uint64("session", e.ID).Msg("ended by an operator")
		return e, nil
	})
}

// limit is the jump server's limit: 0 in the file is no bound.
func limit[T ~int | ~int64](n T) T {
	if n == 0 {
		return -1
	}
	return n
}

// jumpSettings is what the configuration says about the jump server, without
// what is in files.
func jumpSettings(c *config.Config) jump.Config {
	j, l, t := &c.Jump, &c.Jump.Limits, &c.Jump.Timeouts
	return jump.Config{
		Reach: reach.New(j.VMPrefixes).Check, VMPrefixes: j.VMPrefixes, OptOut: j.VMOptOut, User: j.User, Host: c.JumpHost(),
		ProxyFrom: append([]netip.Prefix(nil), j.ProxyFrom...),
		Limits: jump.Limits{
			Handshakes: l.Handshakes, Start: limit(l.StartupsDrop), Full: limit(l.StartupsMax),
			Connections: limit(l.Connections), ConnectionsPerSource: limit(l.ConnectionsPerSource),
			ChannelsPerConn: limit(l.ChannelsPerConnection), Channels: limit(l.Channels),
			TargetsPerMinute: limit(l.TargetsPerMinute), DialsPerMinute: limit(l.DialsPerMinute),
			RefusalsPerConn: limit(l.RefusalsPerConnection), Exempt: l.Exempt,
		},
		Timeouts: jump.Timeouts{
			Login: limit(t.Login), Dial: limit(t.Dial), Unused: limit(t.Unused),
			Idle: limit(t.Idle), Stall: limit(t.Stall), Keepalive: limit(t.Keepalive),
		},
	}
}
