package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
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
)

// daemon is a running isthmus.
type daemon struct {
	file     string // "" for built-in defaults
	config   *config.Config
	log      zerolog.Logger
	notify   *sdnotify.Notifier
	names    []string // of the services
	services []service
	common   *shared
	process  *metrics.Daemon
	metrics  *endpoint
	control  *control.Server // nil without socket
	started  time.Time

	mu sync.Mutex // guards config, which a reload replaces
}

// startDaemon opens everything that can fail. After an error nothing is left
// behind.
func startDaemon(file string, conf *config.Config, only []string, log zerolog.Logger, notify *sdnotify.Notifier) (*daemon, error) {
	chosen, err := chooseKinds(conf, only)
	if err != nil {
		return nil, err
	}
	if err := checkCapabilities(conf, chosen); err != nil {
		return nil, err
	}
	d := &daemon{
		file: file, config: conf, log: log, notify: notify,
		process: &metrics.Daemon{POP: conf.POP, Domain: conf.Domain},
		started: time.Now(),
	}
	for _, k := range chosen {
		d.names = append(d.names, k.name)
	}
	d.log.Info().Str("version", version.Get().Version).Str("config", source(file)).Strs("services", d.names).Msg("isthmus starts")
	for _, w := range conf.Warnings() {
		d.log.Warn().Msg(w)
	}
	if w := takeoverWarning(); w != "" && slices.ContainsFunc(listensTCP(conf, d.names), taken) {
		d.log.Warn().Msg(w)
	}
	// A port that is taken is found out before any packet is diverted.
	d.metrics = &endpoint{address: conf.Metrics.Listen, alive: d.alive, log: log, patient: !d.serves("router")}
	if err := d.metrics.open(); err != nil {
		return nil, err
	}
	if d.services, d.common, err = openKinds(chosen, conf, log); err != nil {
		d.metrics.release()
		return nil, err
	}
	d.metrics.collectors = append(d.metrics.collectors, d.process)
	for _, s := range d.services {
		d.metrics.collectors = append(d.metrics.collectors, s.collector())
	}
	if n := d.common.node; n != nil {
		d.metrics.collectors = append(d.metrics.collectors, &metrics.Routes{Stats: n.mirror.Stats})
	}
	d.openControl()
	d.process.Loaded()
	return d, nil
}

// serves tells whether this process has a service of that name.
func (d *daemon) serves(name string) bool { return slices.Contains(d.names, name) }

// openControl opens the control socket. Forwarding packets matters more than
// being asked about it: where the socket cannot be had, isthmus runs without.
func (d *daemon) openControl() {
	path := d.config.Control.Socket
	if path == "" {
		return
	}
	c, err := control.Listen(path)
	if errors.Is(err, control.ErrInUse) && d.succeeds(path) {
		d.log.Info().Str("socket", path).Msg("taking over the control socket from another isthmus with the same services")
		c, err = control.TakeOver(path)
	}
	if err != nil {
		d.log.Warn().Msg(err.Error() + "; going on without it")
		return
	}
	c.Handle(statusPath, func() any { return d.askStatus() })
	for _, s := range d.services {
		s.handle(c)
	}
	d.control = c
}

// succeeds tells whether whoever answers on a control socket has no service but
// those that this process has, too: it is about to stop, then.
func (d *daemon) succeeds(path string) bool {
	var other status
	if err := control.Get(context.Background(), path, statusPath, &other); err != nil || len(other.Services) == 0 {
		return false
	}
	return !slices.ContainsFunc(other.Services, func(name string) bool { return !d.serves(name) })
}

// askStatus is the status of the running daemon.
func (d *daemon) askStatus() status {
	out := newStatus(d.file, d.started, d.names)
	for _, s := range d.services {
		s.status(&out, d.current())
	}
	if n := d.common.node; n != nil {
		out.Store = n.status(d.current())
	}
	return out
}

// alive is nil while every service answers.
func (d *daemon) alive(ctx context.Context) error {
	for _, s := range d.services {
		if err := s.alive(ctx); err != nil {
			return err
		}
	}
	return nil
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

// run serves until a signal ends it, or something breaks.
func (d *daemon) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	ended := make(chan error, len(d.services)+2) // one place for each goroutine below
	running := 0
	begin := func(run func(context.Context) error) {
		running++
		go func() { ended <- run(ctx) }()
	}
	for _, s := range d.services {
		begin(s.run)
	}
	if d.metrics.address != "" {
		begin(d.metrics.run)
	}
	if d.control != nil {
		begin(d.control.Serve)
	}
	d.metrics.ready(true)
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
				for _, s := range d.services {
					s.forGood()
				}
			} else if err := d.drain(signals); err != nil {
				return err
			}
			return d.stop(cancel, ended, running, signals)
		}
	}
	return errors.Join(failed, d.stop(cancel, ended, running, signals))
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
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			d.log.Error().Msg(strings.TrimSuffix(line, "\n"))
		}
		d.log.Error().Str("config", d.file).Msg("reload rejected; the running configuration stays")
	} else {
		r := &d.config.Router
		d.log.Info().Str("config", d.file).Strs("pool6", prefixStrings(r.Pool6)).Int("eam", len(r.EAM)).Msg("reloaded")
	}
	d.tell(sdnotify.Ready, d.status())
}

func (d *daemon) apply() error {
	next, err := config.Load(d.file)
	if err != nil {
		return err
	}
	running := d.config.Reloaded(next)
	apply, err := prepareAll(d.services, running)
	if err != nil {
		return err
	}
	if err := apply(); err != nil {
		return err
	}
	for _, w := range next.Warnings() {
		d.log.Warn().Msg(w)
	}
	if keys := d.needRestart(next); len(keys) > 0 {
		d.log.Warn().Strs("keys", keys).Msg("these have changed and take effect on restart only")
	}
	d.mu.Lock()
	d.config = running
	d.mu.Unlock()
	return nil
}

// needRestart names what only a restart of this process can change.
func (d *daemon) needRestart(next *config.Config) []string {
	return slices.DeleteFunc(d.config.NeedRestart(next), func(key string) bool {
		section, _, _ := strings.Cut(key, ".")
		if section == "routes" {
			return d.common.node == nil
		}
		return slices.Contains(kindNames(), section) && !d.serves(section) && !strings.HasPrefix(key, section+".listen")
	})
}

// watchdog tells systemd that the services are well, if they are.
func (d *daemon) watchdog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := d.alive(ctx); err != nil {
		d.log.Error().Err(err).Msg("not telling the watchdog")
		return
	}
	d.tell(sdnotify.Watchdog)
}

// status is the line for systemctl status.
func (d *daemon) status() string {
	var parts []string
	for _, s := range d.services {
		parts = append(parts, s.summary(d.config))
	}
	return sdnotify.Status(strings.Join(parts, "; "))
}

func (d *daemon) tell(states ...string) {
	if err := d.notify.Send(states...); err != nil {
		d.log.Warn().Err(err).Msg("systemd was not told")
	}
}
