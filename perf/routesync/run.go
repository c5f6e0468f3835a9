package routesync

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
	"aarch64.com/isthmus/perf/lab"
	"aarch64.com/isthmus/perf/lab/labetcd"
)

// Options of a run. Zero values are usable.
type Options struct {
	Changes  int          // that are timed; 0 means 1000
	Routes   int          // in the store meanwhile; 0 means 100,000
	Nodes    int          // 0 means 5
	Members  int          // of etcd; 0 means 3
	Watchers int          // simulated nodes on one member; 0 means 1000, less than 0 none
	Binary   string       // the isthmus to run; "" is this very program
	Etcd     string       // the etcd to run; "" is Debian's
	Note     func(string) // told what is being done; nil: nobody
}

// UsageError is about the options, not about the run.
type UsageError struct{ error }

func (o *Options) setDefaults() error {
	for _, n := range []struct {
		value *int
		name  string
		def   int
		most  int
	}{{&o.Changes, "changes", 1000, 1_000_000}, {&o.Routes, "routes", 100_000, 1_000_000}, {&o.Nodes, "nodes", 5, 50}, {&o.Members, "members", 3, 9}} {
		if *n.value == 0 {
			*n.value = n.def
		}
		if *n.value < 1 || *n.value > n.most {
			return UsageError{fmt.Errorf("%s: %d: it is 1 to %d", n.name, *n.value, n.most)}
		}
	}
	if o.Watchers == 0 {
		o.Watchers = 1000
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	var err error
	if o.Binary == "" {
		o.Binary, err = os.Executable()
	}
	return err
}

// Table is what a run found.
type Table struct {
	Kernel   string      `json:"kernel"`
	Load     []float64   `json:"load"` // one-minute averages, before and after
	Etcd     string      `json:"etcd"`
	Nodes    int         `json:"nodes"`
	Members  int         `json:"members"`
	Routes   int         `json:"routes"`
	Fill     float64     `json:"fill_seconds"`
	Lags     []float64   `json:"lags"`    // seconds from the API's answer to the slowest node's first right one
	Answers  []float64   `json:"answers"` // seconds the API took
	NodeCPU  float64     `json:"node_cpu_seconds"`
	EtcdCPU  float64     `json:"etcd_cpu_seconds"`
	Watchers *Watchers   `json:"watchers,omitempty"`
	Aims     []bench.Aim `json:"aims"`
}

// Run measures.
func Run(ctx context.Context, o Options) (t Table, err error) {
	if err := o.setDefaults(); err != nil {
		return t, err
	}
	t = Table{Kernel: bench.Kernel(), Load: []float64{bench.Load()}, Nodes: o.Nodes, Members: o.Members, Routes: o.Routes}
	l, err := lab.New("routesync")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	o.Note(fmt.Sprintf("starting %d members of etcd and %d nodes", o.Members, o.Nodes))
	w, err := New(ctx, l, Config{Binary: o.Binary, Nodes: o.Nodes, Etcd: labetcd.Config{Program: o.Etcd, Members: o.Members}})
	defer func() { err = errors.Join(err, w.Close()) }()
	if err != nil {
		return t, err
	}
	status, err := w.Etcd.Members[0].Status(ctx)
	if err != nil {
		return t, err
	}
	t.Etcd = status.Version
	if err := w.measure(ctx, &o, &t); err != nil {
		return t, err
	}
	if o.Watchers > 0 {
		o.Note(fmt.Sprintf("simulating %d nodes", o.Watchers))
		if t.Watchers, err = w.simulate(ctx, o.Watchers); err != nil {
			return t, err
		}
	}
	t.Load = append(t.Load, bench.Load())
	t.judge()
	return t, nil
}

// measure fills the store and times changes.
func (w *World) measure(ctx context.Context, o *Options, t *Table) error {
	o.Note(fmt.Sprintf("filling the store with %d routes", o.Routes))
	begin := time.Now()
	if err := w.Fill(ctx, o.Routes); err != nil {
		return fmt.Errorf("fill the store: %w", err)
	}
	// A last one, so that all nodes have all.
	if _, err := w.Nodes[0].Put(ctx, "last."+domain, w.VMs[0]); err != nil {
		return err
	}
	if _, err := w.slowest(ctx, "last."+domain, w.VMs[0]); err != nil {
		return err
	}
	t.Fill = time.Since(begin).Seconds()
	o.Note(fmt.Sprintf("timing %d changes", o.Changes))
	nodes, etcd, err := w.cpu()
	if err != nil {
		return err
	}
	for i := range o.Changes {
		if err := w.change(ctx, i, t); err != nil {
			return fmt.Errorf("change %d: %w", i, err)
		}
	}
	after, etcdAfter, err := w.cpu()
	t.NodeCPU, t.EtcdCPU = (after-nodes).Seconds()/float64(len(w.Nodes)), (etcdAfter - etcd).Seconds()
	return err
}

// change makes the i-th change: a new site, another VM for it, and its end, in turn
// by another node's API each.
func (w *World) change(ctx context.Context, i int, t *Table) error {
	host := fmt.Sprintf("c%d.%s", i/3, domain)
	api := w.Nodes[i%len(w.Nodes)]
	want := netip.Addr{}
	begin := time.Now()
	var err error
	switch i % 3 {
	case 0, 1:
		want = w.VMs[i%3]
		_, err = api.Put(ctx, host, want)
	case 2:
		err = api.Delete(ctx, host)
	}
	if err != nil {
		return err
	}
	t.Answers = append(t.Answers, time.Since(begin).Seconds())
	lag, err := w.slowest(ctx, host, want)
	t.Lags = append(t.Lags, lag.Seconds())
	return err
}

// patience bounds the wait for one change.
const patience = time.Minute

// slowest waits until all nodes answer rightly, and tells how long that took.
func (w *World) slowest(ctx context.Context, host string, want netip.Addr) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begin := time.Now()
	errs := make(chan error, len(w.Nodes))
	for _, n := range w.Nodes {
		go func() { errs <- n.Until(ctx, host, want) }()
	}
	var err error
	for range w.Nodes {
		err = errors.Join(err, <-errs)
	}
	return time.Since(begin), err
}

// cpu is what all nodes, and all members of etcd, have used.
func (w *World) cpu() (nodes, etcd time.Duration, err error) {
	for _, n := range w.Nodes {
		used, err := n.process.CPU()
		if err != nil {
			return 0, 0, err
		}
		nodes += used
	}
	for _, m := range w.Etcd.Members {
		used, err := bench.CPUOf(m.PID())
		if err != nil {
			return 0, 0, err
		}
		etcd += used
	}
	return nodes, etcd, nil
}

// percentile of figures, which it sorts.
func percentile(v []float64, p float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[min(len(s)-1, int(float64(len(s))*p/100))]
}
