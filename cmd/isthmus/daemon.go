package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"aarch64.com/isthmus/cmd/internal/config"
	"aarch64.com/isthmus/cmd/internal/control"
	"aarch64.com/isthmus/cmd/internal/metrics"
	"aarch64.com/isthmus/cmd/internal/sdnotify"
	"aarch64.com/isthmus/cmd/internal/version"
	"aarch64.com/isthmus/translate/router"
)

// daemon is a running isthmus.
type daemon struct {
	file    string // "" for built-in defaults
	config  *config.Config
	log     zerolog.Logger
	notify  *sdnotify.Notifier
	router  *router.Router
	probe   probe
	process *metrics.Daemon
	metrics *metrics.Server // nil without endpoint
	control *control.Server // nil without socket
	started time.Time

	mu sync.Mutex // guards config, which a reload replaces
}

// startDaemon opens everything that can fail. After an error nothing is left
// behind.
func startDaemon(file string, conf *config.Config, log zerolog.Logger, notify *sdnotify.Notifier) (*daemon, error) {
	if err := checkCapabilities(conf); err != nil {
		return nil, err
	}
	d := &daemon{
		file: file, config: conf, log: log, notify: notify,
		process: &metrics.Daemon{POP: conf.POP, Domain: conf.Domain},
		started: time.Now(),
	}
	d.logStart()
	rc := routerConfig(conf)
	rc.Log = func(warn bool, message string) {
		level := zerolog.InfoLevel
		if warn {
			level = zerolog.WarnLevel
		}
		log.WithLevel(level).Msg(message)
	}
	// A port that is taken is found out before any packet is diverted.
	if conf.Metrics.Listen != "" {
		stats := func() router.Stats { return d.router.Stats() }
		m, err := metrics.Listen(conf.Metrics.Listen, d.probe.alive, d.process,
			&metrics.Router{Stats: stats, Kernel: conf.Router.Kernel.Interface})
		if err != nil {
			return nil, err
		}
		d.metrics = m
	}
	r, err := router.Open(rc)
	if err != nil {
		if d.metrics != nil {
			d.metrics.Close()
		}
		return nil, err
	}
	d.router = r
	d.probe.ask = func() { r.Stats() }
	d.openControl()
	d.process.Loaded()
	return d, nil
}

// openControl opens the control socket. Forwarding packets matters more than
// being asked about it: where the socket cannot be had, isthmus runs without.
func (d *daemon) openControl() {
	path := d.config.Control.Socket
	if path == "" {
		return
	}
	c, err := control.Listen(path)
	if err != nil {
		d.log.Warn().Msg(err.Error() + "; going on without it")
		return
	}
	c.Handle(statusPath, func() any { return d.askStatus() })
	d.handleMap(c)
	d.control = c
}

// current is the configuration in use.
func (d *daemon) current() *config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config
}

// source names where the configuration comes from.
func source(file string) string {
	if file == "" {
		return "built-in defaults"
	}
	return file
}

// logStart says what is going to happen.
func (d *daemon) logStart() {
	r := &d.config.Router
	d.log.Info().Str("version", version.Get().Version).Str("config", source(d.file)).Msg("isthmus starts")
	d.log.Info().Strs("pool6", prefixStrings(r.Pool6)).Int("eam", len(r.EAM)).Int("ports", len(r.Ports)).
		Str("kernel", r.Kernel.Interface).Msg("translating between IPv6 and IPv4")
	d.log.Info().Msg("hosts without a mapping " + describePool(d.config))
	d.log.Info().Msg("IPv6 sources: " + describeSources(d.config))
	for _, w := range d.config.Warnings() {
		d.log.Warn().Msg(w)
	}
}

// run forwards until a signal ends it, or something breaks.
func (d *daemon) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	ended := make(chan error, 3) // one place for each goroutine below
	running := 1
	go func() { ended <- d.router.Run(ctx) }()
	if d.metrics != nil {
		running++
		go func() { ended <- d.metrics.Serve(ctx) }()
		d.log.Info().Stringer("address", d.metrics.Address()).Msg("metrics endpoint listens")
	}
	if d.control != nil {
		running++
		go func() { ended <- d.control.Serve(ctx) }()
	}
	d.setReady(true)
	d.tell(sdnotify.Ready, d.status())
	d.log.Info().Msg("ready")

	var watchdog <-chan time.Time
	if interval := sdnotify.WatchdogInterval(); interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		watchdog = ticker.C
	}
	var failed error
	for failed == nil {
		select {
		case err := <-ended:
			running--
			failed = errors.Join(errors.New("stopped unexpectedly"), err)
			if err != nil {
				failed = err
			}
		case <-watchdog:
			d.watchdog(ctx)
		case s := <-signals:
			if s == syscall.SIGHUP {
				d.reload()
				continue
			}
			d.log.Info().Str("signal", s.String()).Msg("stopping; a second signal aborts")
			if s == syscall.SIGINT {
				d.router.ForGood()
			}
			return d.stop(cancel, ended, running, signals)
		}
	}
	return errors.Join(failed, d.stop(cancel, ended, running, signals))
}

// stop ends the services and waits for them to clean up. A second signal ends
// the process at once: the kernel then closes what it had open, which detaches
// the XDP programs and removes the TUN device as well.
func (d *daemon) stop(cancel func(), ended <-chan error, running int, signals <-chan os.Signal) error {
	d.setReady(false)
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
				return fmt.Errorf("aborted by a second signal (%v)", s)
			}
		}
	}
	d.log.Info().Msg("stopped")
	return errs
}

// reload reads the file again. Whatever is wrong with it, the running
// configuration stays.
func (d *daemon) reload() {
	if d.file == "" {
		d.log.Warn().Msg("SIGHUP: there is no configuration file to read again; start with -c FILE")
		return
	}
	d.tell(sdnotify.Reloading()...)
	err := d.apply()
	d.process.Reloaded(err == nil)
	d.tell(sdnotify.Ready, d.status())
}

func (d *daemon) apply() error {
	next, err := config.Load(d.file)
	if err == nil {
		err = d.router.Reload(routerConfig(next))
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			d.log.Error().Msg(strings.TrimSuffix(line, "\n"))
		}
		d.log.Error().Str("config", d.file).Msg("reload rejected; the running configuration stays")
		return err
	}
	for _, w := range next.Warnings() {
		d.log.Warn().Msg(w)
	}
	if keys := d.config.NeedRestart(next); len(keys) > 0 {
		d.log.Warn().Strs("keys", keys).Msg("these have changed and take effect on restart only")
	}
	d.mu.Lock()
	d.config = d.config.Reloaded(next)
	d.mu.Unlock()
	d.log.Info().Str("config", d.file).Strs("pool6", prefixStrings(next.Router.Pool6)).Int("eam", len(next.Router.EAM)).Msg("reloaded")
	return nil
}

// watchdog tells systemd that the workers are well, if they are.
func (d *daemon) watchdog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := d.probe.alive(ctx); err != nil {
		d.log.Error().Err(err).Msg("not telling the watchdog")
		return
	}
	d.tell(sdnotify.Watchdog)
}

// status is the line for systemctl status.
func (d *daemon) status() string {
	r := &d.config.Router
	return sdnotify.Status(fmt.Sprintf("translating %s, %d mappings, %d ports", strings.Join(prefixStrings(r.Pool6), " "), len(r.EAM), len(r.Ports)))
}

func (d *daemon) setReady(yes bool) {
	if d.metrics != nil {
		d.metrics.Ready(yes)
	}
}

func (d *daemon) tell(states ...string) {
	if err := d.notify.Send(states...); err != nil {
		d.log.Warn().Err(err).Msg("systemd was not told")
	}
}
