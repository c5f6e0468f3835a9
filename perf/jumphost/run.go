package jumphost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
)

// Options of a run.
type Options struct {
	Rounds   int           // how often each host is measured; 0 means 3
	Window   time.Duration // of each throughput and of handshakes; 0 means 500 ms
	Bytes    int64         // of a whole session by ssh -J; 0 means 128 MiB
	Sessions int           // idle, whose memory is measured once; 0 means 1000
	Hosts    []string      // keys of the hosts to measure besides isthmus; none means all
	Binary   string        // the isthmus to run; "" is this very program
	Note     func(string)  // told what is being done; nil: nobody
}

// UsageError is about the options, not about the run.
type UsageError struct{ error }

func (o *Options) setDefaults() error {
	for _, c := range []struct {
		name string
		v    *int
		def  int
		max  int
	}{{"rounds", &o.Rounds, 3, 1000}, {"sessions", &o.Sessions, 1000, 5000}} {
		if *c.v < 0 || *c.v > c.max {
			return UsageError{fmt.Errorf("%s: %d: it is 1 to %d", c.name, *c.v, c.max)}
		}
		if *c.v == 0 {
			*c.v = c.def
		}
	}
	if o.Window < 0 || o.Bytes < 0 {
		return UsageError{errors.New("window, bytes: less than nothing can't be measured")}
	}
	if o.Window == 0 {
		o.Window = time.Second / 2
	}
	if o.Bytes == 0 {
		o.Bytes = 128 << 20
	}
	if o.Binary == "" {
		// Not /proc/self/exe, which is another program for the one that starts it.
		var err error
		if o.Binary, err = os.Executable(); err != nil {
			return err
		}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	for _, key := range o.Hosts {
		if !slices.Contains(Keys(), key) {
			return UsageError{fmt.Errorf("host %q: there are %s", key, strings.Join(Keys(), ", "))}
		}
	}
	return nil
}

// Keys are those of all hosts.
func Keys() []string {
	var keys []string
	for _, h := range hosts() {
		keys = append(keys, h.key)
	}
	return keys
}

// Run builds the network, measures every host and takes everything down again. It
// needs root, OpenSSH's client and server, two CPUs, and a machine with little else
// to do. While it runs, this process is confined to one CPU.
func Run(ctx context.Context, o Options) (t Table, err error) {
	if err := o.setDefaults(); err != nil {
		return t, err
	}
	w, err := newWorld()
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	t = Table{Kernel: bench.Kernel(), CPUs: runtime.NumCPU(), Load: []float64{bench.Load()}}
	var chosen []host
	for _, h := range hosts() {
		if h.key == Isthmus || len(o.Hosts) == 0 || slices.Contains(o.Hosts, h.key) {
			chosen = append(chosen, h)
			t.Rows = append(t.Rows, Row{Key: h.key, Name: h.name})
		}
	}
	for i := range chosen {
		h := &chosen[i]
		if !h.weighed {
			continue
		}
		o.Note(fmt.Sprintf("%d idle sessions: %s", o.Sessions, h.name))
		err := w.with(ctx, h, &o, func(p *bench.Process) error {
			m, err := w.memory(ctx, h, p, &o)
			t.Rows[i].Memory = &m
			return err
		})
		if err != nil {
			return t, fmt.Errorf("%s: idle sessions: %w", h.name, err)
		}
	}
	for round := range o.Rounds {
		for i := range chosen {
			if round%2 == 1 {
				i = len(chosen) - 1 - i
			}
			h := &chosen[i]
			o.Note(fmt.Sprintf("round %d of %d: %s", round+1, o.Rounds, h.name))
			var s Sample
			if err := w.with(ctx, h, &o, func(p *bench.Process) (err error) { s, err = w.measure(ctx, h, p, &o); return err }); err != nil {
				return t, fmt.Errorf("%s: %w", h.name, err)
			}
			t.Rows[i].Rounds = append(t.Rows[i].Rounds, s)
		}
		t.Load = append(t.Load, bench.Load())
	}
	t.judge()
	return t, nil
}

// with starts a host for fn and ends it.
func (w *world) with(ctx context.Context, h *host, o *Options, fn func(*bench.Process) error) (err error) {
	p, err := h.start(w, o)
	if p != nil {
		defer func() {
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, p.Said())
			}
			err = errors.Join(err, p.StopTree())
		}()
	}
	if err != nil {
		return err
	}
	if err := w.idle(ctx, p); err != nil {
		return err
	}
	return fn(p)
}

// measure takes all figures of a round but memory.
func (w *world) measure(ctx context.Context, h *host, p *bench.Process, o *Options) (s Sample, err error) {
	for _, c := range []struct {
		what    string
		to      *Stream
		streams int
		down    bool
	}{
		{"one stream down", &s.Down, 1, true}, {"one stream up", &s.Up, 1, false},
		{"eight streams down", &s.Down8, 8, true}, {"eight streams up", &s.Up8, 8, false},
	} {
		if *c.to, err = w.throughput(ctx, p, o, c.streams, c.down); err != nil {
			return s, fmt.Errorf("%s: %w", c.what, err)
		}
	}
	if s.Session, err = w.session(ctx, p, o); err != nil {
		return s, fmt.Errorf("a whole session: %w", err)
	}
	if err := w.idle(ctx, p); err != nil {
		return s, err
	}
	if s.Latency, err = w.latency(ctx, h, o); err != nil {
		return s, fmt.Errorf("latency: %w", err)
	}
	if s.Connect, err = w.connects(ctx, h, o); err != nil {
		return s, fmt.Errorf("connections: %w", err)
	}
	if err := w.idle(ctx, p); err != nil {
		return s, err
	}
	if s.Handshakes, err = w.handshakes(ctx, h, p, o); err != nil {
		return s, fmt.Errorf("handshakes: %w", err)
	}
	return s, nil
}
