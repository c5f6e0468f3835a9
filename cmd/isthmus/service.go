package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/control"
)

// A service is a part of isthmus that can run alone. The daemon opens it, runs
// it until the end, and has it take each new configuration.
type service interface {
	// run serves until ctx ends, and then frees everything.
	run(ctx context.Context) error
	// drain takes no new work and waits for what is open to end by itself, no
	// longer than ctx. run goes on meanwhile.
	drain(ctx context.Context)
	drainTimeout(c *config.Config) time.Duration // how long that may take
	// forGood says that the end is no restart: nothing is to stay for the next.
	forGood()
	// close frees what opening took, instead of run.
	close()

	// prepare finds out whether a configuration can be used; apply uses it.
	prepare(next *config.Config) (apply func() error, err error)

	alive(ctx context.Context) error // why the process should be started anew, or nil
	collector() prometheus.Collector
	handle(c *control.Server)
	status(out *status, c *config.Config)
	summary(c *config.Config) string // for the line of systemctl status
}

// A kind of service is what `run --only` can name.
type kind struct {
	name string
	// configured is nil, or says why the configuration has no such service.
	configured func(*config.Config) error
	needs      func(*config.Config) ([]capability, error)
	open       func(*config.Config, *shared, zerolog.Logger) (service, error)
}

// kinds are all services, in the order in which a new configuration is applied:
// those that may still refuse it come first.
var kinds = []kind{
	{"router", func(*config.Config) error { return nil }, routerNeeds, openRouter},
	{"proxy", proxyConfigured, proxyNeeds, openProxy},
	{"api", apiConfigured, apiNeeds, openAPI},
	{"jump", jumpConfigured, jumpNeeds, openJump},
}

func kindNames() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// checkKinds refuses names of services that do not exist.
func checkKinds(only []string) error {
	for _, name := range only {
		if !slices.Contains(kindNames(), name) {
			return fmt.Errorf("--only %s: there is no such service; there are %s", name, strings.Join(kindNames(), ", "))
		}
	}
	return nil
}

// chooseKinds gives the services that are configured, or of these only those
// named.
func chooseKinds(c *config.Config, only []string) ([]kind, error) {
	var list []kind
	for _, k := range kinds {
		why := k.configured(c)
		switch named := slices.Contains(only, k.name); {
		case named && why != nil:
			return nil, fmt.Errorf("--only %s: %w", k.name, why)
		case why == nil && (named || len(only) == 0):
			list = append(list, k)
		}
	}
	return list, nil
}

// openKinds opens services, or none. The last ones come first: the router is the
// one that diverts packets, so all else that can fail has not failed by then.
func openKinds(chosen []kind, c *config.Config, log zerolog.Logger) ([]service, *shared, error) {
	list := make([]service, len(chosen))
	common := &shared{}
	for _, k := range chosen {
		common.names = append(common.names, k.name)
	}
	for i, k := range slices.Backward(chosen) {
		s, err := k.open(c, common, log)
		if err != nil {
			for _, opened := range list[i+1:] {
				opened.close()
			}
			return nil, nil, err
		}
		list[i] = s
	}
	return list, common, nil
}

// prepareAll finds out whether all services can use a configuration. Then apply
// makes them, and fails before anything has changed or not at all.
func prepareAll(list []service, next *config.Config) (apply func() error, err error) {
	steps := make([]func() error, len(list))
	for i, s := range list {
		step, e := s.prepare(next)
		steps[i] = step
		err = errors.Join(err, e)
	}
	return func() error {
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	}, err
}
