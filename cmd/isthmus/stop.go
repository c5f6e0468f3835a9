package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"aarch64.com/isthmus/cmd/internal/sdnotify"
)

// stopMargin is what stopping takes beside draining, at most.
const stopMargin = 30 * time.Second

// drain lets what is open end by itself, for as long as the configuration says.
// Until then everything goes on but what draining has stopped: packets of open
// sessions may well go through the router.
func (d *daemon) drain(signals <-chan os.Signal) error {
	conf := d.current()
	timeout := time.Duration(0)
	for _, s := range d.services {
		timeout = max(timeout, s.drainTimeout(conf))
	}
	d.metrics.ready(false)
	d.tell(sdnotify.Stopping, sdnotify.ExtendTimeout(timeout+stopMargin))
	if !d.serves("router") {
		d.metrics.release() // for who takes over
	}
	var wait sync.WaitGroup
	for _, s := range d.services {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), s.drainTimeout(conf))
			defer cancel()
			s.drain(ctx)
		})
	}
	drained := make(chan struct{})
	go func() { wait.Wait(); close(drained) }()
	for {
		select {
		case <-drained:
			return nil
		case s := <-signals:
			if s != syscall.SIGHUP {
				return aborted(s)
			}
		}
	}
}

func aborted(s os.Signal) error { return fmt.Errorf("aborted by a second signal (%v)", s) }

// stop ends the services and waits for them to clean up. A second signal ends
// the process at once: the kernel then closes what it had open, which detaches
// the XDP programs and removes the TUN device as well.
func (d *daemon) stop(cancel func(), ended <-chan error, running int, signals <-chan os.Signal) error {
	d.metrics.ready(false)
	d.tell(sdnotify.Stopping)
	cancel()
	var errs error
	for running > 0 {
		select {
		case err := <-ended:
			running--
			errs = errors.Join(errs, err)
		case s := <-signals:
			if s != syscall.SIGHUP {
				return aborted(s)
			}
		}
	}
	d.log.Info().Msg("stopped")
	return errs
}
