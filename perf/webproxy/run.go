package webproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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
	Rounds      int           // how often each proxy is started and measured; 0 means 5
	Window      time.Duration // of each throughput, and of each turn of new connections; 0 means 400 ms
	Connections int           // idle, whose memory is measured once; 0 means 10,000, or as many as the limit of open files leaves
	Proxies     []string      // keys of the proxies to measure besides isthmus; none means all
	Parts       []string      // what to measure; none means all
	Binary      string        // the isthmus to run; "" is this very program
	Also        []string      // other builds of it, to measure beside it
	Note        func(string)  // told what is being done; nil: nobody
}

// Parts of a run.
const (
	NewConnections = "connections"
	Throughput     = "throughput"
	IdleMemory     = "memory"
)

// PartNames are all parts.
func PartNames() []string { return []string{NewConnections, Throughput, IdleMemory} }

func (o *Options) has(part string) bool { return len(o.Parts) == 0 || slices.Contains(o.Parts, part) }

// UsageError is about the options, not about the run.
type UsageError struct{ error }

// wanted is how many idle connections the aim speaks of.
const wanted = 10000

// otherFiles are left for other things than connections.
const otherFiles = 1000

// room is how many connections fit into the limit of open files: a proxy has two for
// each, and so has the program that plays both clients and server.
func room(files uint64) int {
	return int(min(max(files, otherFiles)-otherFiles, 1<<30)) / 2
}

// raise has this process and the proxies open as many files as n connections need.
// Beyond the hard limit that takes CAP_SYS_RESOURCE, which root in a container may
// lack; then the limit stays.
func raise(files *syscall.Rlimit, n int) {
	need := uint64(2*n + otherFiles)
	if need <= files.Max {
		return
	}
	more := syscall.Rlimit{Cur: need, Max: need}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) == nil {
		*files = more
	}
}

func (o *Options) setDefaults() error {
	if o.Rounds < 0 || o.Rounds > 1000 {
		return UsageError{fmt.Errorf("rounds: %d: it is 1 to 1000", o.Rounds)}
	}
	if o.Rounds == 0 {
		o.Rounds = 5
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("ask for the limit of open files: %w", err)
	}
	// Go's runtime has raised the soft limit to the hard one already.
	raise(&files, min(max(wanted, o.Connections), 100*wanted))
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
	for _, part := range o.Parts {
		if !slices.Contains(PartNames(), part) {
			return UsageError{fmt.Errorf("measure %q: there are %s", part, strings.Join(PartNames(), ", "))}
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

// instance is a proxy that runs.
type instance struct {
	*proxy
	*bench.Process
	at  netip.AddrPort
	row *Row
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
	all := proxies()
	all = slices.DeleteFunc(all, func(x proxy) bool {
		return x.key != Isthmus && len(o.Proxies) > 0 && !slices.Contains(o.Proxies, x.key)
	})
	all = append(all, others(&o)...)
	t.Rows = make([]Row, len(all)) // which stay where they are
	var chosen []*instance         // those that are here
	for i := range all {
		x := &all[i]
		t.Rows[i] = Row{Key: x.key, Name: x.name, Missing: x.missing()}
		if t.Rows[i].Missing == "" {
			chosen = append(chosen, &instance{proxy: x, at: netip.AddrPortFrom(proxyAddr, httpsPort+uint16(i)), row: &t.Rows[i]})
		}
	}
	if o.has(IdleMemory) {
		if err := w.weigh(ctx, chosen, &o); err != nil {
			return t, err
		}
	}
	for round := range o.Rounds {
		if !o.has(NewConnections) && !o.has(Throughput) {
			break
		}
		o.Note(fmt.Sprintf("round %d of %d", round+1, o.Rounds))
		if err := w.with(ctx, chosen, &o, func() error { return w.round(ctx, chosen, &o) }); err != nil {
			return t, err
		}
		slices.Reverse(chosen)
		t.Load = append(t.Load, bench.Load())
	}
	t.judge()
	return t, nil
}

// weigh measures the memory of each proxy, which runs alone.
func (w *world) weigh(ctx context.Context, chosen []*instance, o *Options) error {
	for _, x := range chosen {
		if !x.weighed {
			continue
		}
		o.Note(fmt.Sprintf("%d idle connections: %s", o.Connections, x.name))
		err := w.with(ctx, []*instance{x}, o, func() error {
			m, err := w.memory(ctx, x, o)
			x.row.Memory = &m
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: idle connections: %w", x.name, err)
		}
	}
	return nil
}

// with starts proxies for fn and ends them.
func (w *world) with(ctx context.Context, list []*instance, o *Options, fn func() error) (err error) {
	for _, x := range list {
		cmd, err := x.command(w, o, x.at)
		if err != nil {
			return err
		}
		if x.Process, err = bench.StartProcess(w.proxy, w.dir, cmd); err != nil {
			return err
		}
		defer func(p *bench.Process) {
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, p.Said())
			}
			err = errors.Join(err, p.StopTree())
		}(x.Process)
	}
	for _, x := range list {
		if err := w.ready(ctx, x); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
		if err := x.Settle(ctx); err != nil {
			return err
		}
	}
	return fn()
}

// ready waits until a connection comes through.
func (w *world) ready(ctx context.Context, x *instance) error {
	var last error
	err := bench.WaitFor(ctx, func() bool {
		select {
		case <-x.Done:
			last = fmt.Errorf("it ended: %v", x.Err)
			return true
		default:
		}
		c, err := w.open(ctx, x.at, echo)
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

// turns is how often the proxies take turns with new connections in a round, there
// and back. What else the machine does meets all of them.
const turns = 6

// round takes all figures of a round, of one proxy after the other.
func (w *world) round(ctx context.Context, list []*instance, o *Options) error {
	for _, x := range list {
		x.row.Rounds = append(x.row.Rounds, Sample{})
	}
	each := func(what string, measure func(*instance, *Sample) error) error {
		for _, x := range list {
			if err := measure(x, &x.row.Rounds[len(x.row.Rounds)-1]); err != nil {
				return fmt.Errorf("%s: %s: %w", x.name, what, err)
			}
		}
		return nil
	}
	for turn := 0; turn <= turns && o.has(NewConnections); turn++ {
		err := each("new connections", func(x *instance, s *Sample) error {
			c, err := w.connections(ctx, x, o)
			if turn > 0 { // the first one warms up
				s.Connections.add(c)
			}
			return err
		})
		if err != nil {
			return err
		}
		list = slices.Clone(list)
		slices.Reverse(list)
	}
	for _, c := range []struct {
		what    string
		to      func(*Sample) *Stream
		streams int
		down    bool
	}{
		{"one stream down", func(s *Sample) *Stream { return &s.Down }, 1, true},
		{"one stream up", func(s *Sample) *Stream { return &s.Up }, 1, false},
		{"eight streams down", func(s *Sample) *Stream { return &s.Down8 }, 8, true},
		{"eight streams up", func(s *Sample) *Stream { return &s.Up8 }, 8, false},
	} {
		if !o.has(Throughput) {
			break
		}
		err := each(c.what, func(x *instance, s *Sample) (err error) {
			*c.to(s), err = w.throughput(ctx, x, o, c.streams, c.down)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
