package webproxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
)

// Options of a run.
type Options struct {
	Rounds      int           // how often each proxy is measured; 0 means 3
	Window      time.Duration // of each throughput, and a third of that of new connections; 0 means 400 ms
	Connections int           // idle, whose memory is measured once; 0 means 10,000, or as many as the limit of open files leaves
	Proxies     []string      // keys of the proxies to measure besides isthmus; none means all
	Binary      string        // the isthmus to run; "" is this very program
	Note        func(string)  // told what is being done; nil: nobody
}

// UsageError is about the options, not about the run.
type UsageError struct{ error }

// wanted is how many idle connections the aim speaks of.
const wanted = 10000

// room is how many connections fit into the limit of open files, which cannot be
// raised here: a proxy has two for each, and so has the program that plays both
// clients and server. Some are left for other things.
func room(files uint64) int {
	const other = 1000
	return int(min(max(files, other)-other, 1<<30)) / 2
}

func (o *Options) setDefaults() error {
	if o.Rounds < 0 || o.Rounds > 1000 {
		return UsageError{fmt.Errorf("rounds: %d: it is 1 to 1000", o.Rounds)}
	}
	if o.Rounds == 0 {
		o.Rounds = 3
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("ask for the limit of open files: %w", err)
	}
	// Go's runtime has raised the soft limit to it already.
	most := room(files.Max)
	switch {
	case o.Connections < 0:
		return UsageError{fmt.Errorf("connections: %d: at least 1", o.Connections)}
	case o.Connections > most:
		return UsageError{fmt.Errorf("connections: %d: the limit of %d open files leaves room for %d; raise it with ulimit -Hn", o.Connections, files.Max, most)}
	case o.Connections == 0:
		o.Connections = max(1, min(wanted, most))
	}
	if o.Window < 0 {
		return UsageError{errors.New("window: less than nothing can't be measured")}
	}
	if o.Window == 0 {
		o.Window = 400 * time.Millisecond
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
	for _, key := range o.Proxies {
		if !slices.Contains(Keys(), key) {
			return UsageError{fmt.Errorf("proxy %q: there are %s", key, strings.Join(Keys(), ", "))}
		}
	}
	return nil
}

// Keys are those of all proxies.
func Keys() []string {
	var keys []string
	for _, p := range proxies() {
		keys = append(keys, p.key)
	}
	return keys
}

// Run builds the network, measures every proxy that is installed and takes
// everything down again. It needs root, two CPUs, and a machine with little else to
// do. While it runs, this process is confined to one CPU.
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
	var chosen []proxy // those that are here
	var rows []int     // theirs
	for _, x := range proxies() {
		if x.key != Isthmus && len(o.Proxies) > 0 && !slices.Contains(o.Proxies, x.key) {
			continue
		}
		r := Row{Key: x.key, Name: x.name, Missing: x.missing()}
		if r.Missing == "" {
			chosen, rows = append(chosen, x), append(rows, len(t.Rows))
		}
		t.Rows = append(t.Rows, r)
	}
	for i := range chosen {
		x := &chosen[i]
		if !x.weighed {
			continue
		}
		o.Note(fmt.Sprintf("%d idle connections: %s", o.Connections, x.name))
		err := w.with(ctx, x, &o, func(p *bench.Process) error {
			m, err := w.memory(ctx, p, &o)
			t.Rows[rows[i]].Memory = &m
			return err
		})
		if err != nil {
			return t, fmt.Errorf("%s: idle connections: %w", x.name, err)
		}
	}
	for round := range o.Rounds {
		for i := range chosen {
			if round%2 == 1 {
				i = len(chosen) - 1 - i
			}
			x := &chosen[i]
			o.Note(fmt.Sprintf("round %d of %d: %s", round+1, o.Rounds, x.name))
			var s Sample
			err := w.with(ctx, x, &o, func(p *bench.Process) (err error) { s, err = w.measure(ctx, p, &o); return err })
			if err != nil {
				return t, fmt.Errorf("%s: %w", x.name, err)
			}
			row := &t.Rows[rows[i]]
			row.Rounds = append(row.Rounds, s)
		}
		t.Load = append(t.Load, bench.Load())
	}
	t.judge()
	return t, nil
}

// with starts a proxy for fn and ends it.
func (w *world) with(ctx context.Context, x *proxy, o *Options, fn func(*bench.Process) error) (err error) {
	p, err := x.start(w, o)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, p.Said())
		}
		err = errors.Join(err, p.StopTree())
	}()
	if err := w.ready(ctx, p); err != nil {
		return err
	}
	if err := p.Settle(ctx); err != nil {
		return err
	}
	return fn(p)
}

// ready waits until a connection comes through.
func (w *world) ready(ctx context.Context, p *bench.Process) error {
	var last error
	err := bench.WaitFor(ctx, func() bool {
		select {
		case <-p.Done:
			last = fmt.Errorf("it ended: %v", p.Err)
			return true
		default:
		}
		c, err := w.open(ctx, echo)
		if last = err; err != nil {
			return false
		}
		c.Close()
		return true
	})
	if last == nil {
		return err
	}
	return errors.Join(err, last)
}

// measure takes all figures of a round but memory.
func (w *world) measure(ctx context.Context, p *bench.Process, o *Options) (s Sample, err error) {
	if s.Connections, err = w.connections(ctx, p, o); err != nil {
		return s, fmt.Errorf("new connections: %w", err)
	}
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
	return s, nil
}
