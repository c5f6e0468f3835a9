package kernelpath

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
)

// Options of a run.
type Options struct {
	Rounds  int           // how often each path is measured; 0 means 4
	Seconds int           // of each TCP transfer; 0 means 1
	Bytes   int64         // of each TCP transfer, in place of Seconds; 0 means by time
	Flood   time.Duration // of small packets as fast as possible, and twice each step of the search; 0 means 500 ms
	Senders int           // CPUs that small packets are sent from; 0 means all, at most 8
	Steps   int           // of the search for the highest rate without loss; 0 means 7
	Paths   []string      // keys of the paths to measure besides Plain; none means all
	Binary  string        // the isthmus to run; "" is this very program
	Note    func(string)  // told what is being done; nil: nobody
}

// UsageError is about the options, not about the run.
type UsageError struct{ error }

func (o *Options) setDefaults() error {
	for _, c := range []struct {
		name string
		v    *int
		def  int
		max  int
	}{{"rounds", &o.Rounds, 4, 1000}, {"seconds", &o.Seconds, 1, 3600}, {"steps", &o.Steps, 7, 30}, {"senders", &o.Senders, min(flows, runtime.NumCPU()), flows}} {
		if *c.v < 0 || *c.v > c.max {
			return UsageError{fmt.Errorf("%s: %d: it is 1 to %d", c.name, *c.v, c.max)}
		}
		if *c.v == 0 {
			*c.v = c.def
		}
	}
	if o.Bytes < 0 || o.Flood < 0 {
		return UsageError{errors.New("bytes, flood: less than nothing can't be sent")}
	}
	if o.Flood == 0 {
		o.Flood = 500 * time.Millisecond
	}
	if o.Binary == "" {
		o.Binary = "/proc/self/exe"
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	for _, key := range o.Paths {
		if !slices.Contains(Keys(), key) {
			return UsageError{fmt.Errorf("path %q: there are %s", key, strings.Join(Keys(), ", "))}
		}
	}
	return nil
}

// Keys are those of all paths.
func Keys() []string {
	var keys []string
	for _, p := range paths() {
		keys = append(keys, p.key)
	}
	return keys
}

// Run builds the network, measures every path and takes everything down again. It
// needs root, iperf3, and a machine with little else to do.
func Run(ctx context.Context, o Options) (t Table, err error) {
	if err := o.setDefaults(); err != nil {
		return t, err
	}
	w, err := newWorld(o.Senders)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	t = Table{Kernel: bench.Kernel(), CPUs: runtime.NumCPU(), Load: []float64{bench.Load()}}
	var chosen []path
	for _, p := range paths() {
		if p.key == Plain || len(o.Paths) == 0 || slices.Contains(o.Paths, p.key) {
			chosen = append(chosen, p)
			t.Rows = append(t.Rows, Row{Key: p.key, Name: p.name})
		}
	}
	for round := range o.Rounds {
		for i := range chosen {
			if round%2 == 1 {
				i = len(chosen) - 1 - i
			}
			p, row := &chosen[i], &t.Rows[i]
			o.Note(fmt.Sprintf("round %d of %d: %s", round+1, o.Rounds, p.name))
			s, missing, err := w.measure(ctx, p, &o)
			if err != nil {
				return t, fmt.Errorf("%s: %w", p.name, err)
			}
			if missing != "" {
				row.Missing = missing
				continue
			}
			row.Rounds = append(row.Rounds, s)
		}
		t.Load = append(t.Load, bench.Load())
	}
	t.judge()
	return t, nil
}

// measure makes a path, measures it and takes it down.
func (w *world) measure(ctx context.Context, p *path, o *Options) (s Sample, missing string, err error) {
	running, missing, err := p.start(w, o)
	if err != nil || missing != "" {
		return s, missing, err
	}
	if running != nil {
		defer func() { err = errors.Join(err, running.Stop()) }()
	}
	if err := w.waitReady(ctx, p.target, running); err != nil {
		return s, "", err
	}
	if s.Forward, err = w.tcp(ctx, o, p.target, false); err != nil {
		return s, "", fmt.Errorf("TCP to the server: %w", err)
	}
	if s.Reverse, err = w.tcp(ctx, o, p.target, true); err != nil {
		return s, "", fmt.Errorf("TCP from the server: %w", err)
	}
	senders, err := w.newSenders(p.target)
	if err != nil {
		return s, "", err
	}
	defer closeAll(senders)
	if s.Flood, missing, err = w.checkedFlood(ctx, p, o, senders); err != nil || missing != "" {
		return s, missing, err
	}
	if s.Flood.Loss() <= maxLoss {
		s.Lossless = s.Flood.Delivered
		return s, "", nil
	}
	s.Lossless, err = search(s.Flood.Offered, o.Steps, func(rate float64) (Flood, error) {
		return w.flood(ctx, senders, rate, o.Flood/2)
	})
	return s, "", err
}

// checkedFlood floods, and says so if it was not by this path that packets went: a
// kernel without what the fast path needs would be measured for it otherwise.
func (w *world) checkedFlood(ctx context.Context, p *path, o *Options, senders []*sender) (f Flood, missing string, err error) {
	if p.by == others {
		f, err = w.flood(ctx, senders, math.Inf(1), o.Flood)
		return f, "", err
	}
	before, err := w.fastPackets(ctx, o)
	if err != nil {
		return f, "", err
	}
	if f, err = w.flood(ctx, senders, math.Inf(1), o.Flood); err != nil {
		return f, "", err
	}
	after, err := w.fastPackets(ctx, o)
	if err != nil {
		return f, "", err
	}
	for _, t := range []taker{atDevice, atInterface} {
		if share := float64(after[t]-before[t]) / float64(max(1, f.sent)); (share > 0.5) != (p.by == t) {
			return f, fmt.Sprintf("the fast path took %.0f %% of the packets, so this would be no measurement of it (`isthmus run` logs why)", 100*share), nil
		}
	}
	return f, "", nil
}
