package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"aarch64.com/isthmus/cmd/internal/metrics"
)

// endpoint is the metrics endpoint of the daemon. A process that may take over
// from another one waits for the address; one that has the router does not, since
// a host has one router.
type endpoint struct {
	address    string // "" for none
	alive      func(context.Context) error
	collectors []prometheus.Collector
	log        zerolog.Logger
	patient    bool // waits for an address that is in use

	mu       sync.Mutex
	server   *metrics.Server // nil while there is none
	isReady  bool
	released bool
}

// retryEvery is how often a patient endpoint tries to get its address.
const retryEvery = time.Second

// open listens, or fails; a patient endpoint only says that it waits.
func (e *endpoint) open() error {
	if e.address == "" {
		return nil
	}
	err := e.listen()
	if e.patient && errors.Is(err, metrics.ErrInUse) {
		e.log.Warn().Msg(err.Error() + "; going on without it until it is free")
		return nil
	}
	return err
}

func (e *endpoint) listen() error {
	s, err := metrics.Listen(e.address, e.alive)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.released {
		s.Close()
		return nil
	}
	e.server = s
	return nil
}

// run serves until ctx ends.
func (e *endpoint) run(ctx context.Context) error {
	for {
		e.mu.Lock()
		s := e.server
		if s != nil {
			for _, c := range e.collectors {
				s.Add(c)
			}
			s.Ready(e.isReady)
		}
		released := e.released
		e.mu.Unlock()
		switch {
		case released:
			<-ctx.Done()
			return nil
		case s != nil:
			e.log.Info().Stringer("address", s.Address()).Msg("metrics endpoint listens")
			err := s.Serve(ctx)
			if e.isReleased() {
				<-ctx.Done()
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryEvery):
		}
		if err := e.listen(); err != nil && !errors.Is(err, metrics.ErrInUse) {
			return err
		}
	}
}

func (e *endpoint) isReleased() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.released
}

// release gives the address free for another process.
func (e *endpoint) release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.released = true
	if e.server != nil {
		e.server.Close()
	}
}

// ready says whether this process does its work.
func (e *endpoint) ready(yes bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.isReady = yes
	if e.server != nil {
		e.server.Ready(yes)
	}
}
