package webproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
)

// Connections is what new connections take: TCP, a handshake, a byte there and
// back, and the end.
type Connections struct {
	Number int     `json:"number"`
	Rate   float64 `json:"per_second"`
	// CPU is what all processes of the proxy used, in seconds per connection.
	CPU float64 `json:"cpu_seconds"`
}

// add takes another turn in.
func (c *Connections) add(d Connections) {
	a, b := float64(c.Number), float64(d.Number)
	if a > 0 {
		d.Rate = (a + b) / (a/c.Rate + b/d.Rate)
		d.CPU = (a*c.CPU + b*d.CPU) / (a + b)
		d.Number += c.Number
	}
	*c = d
}

// atOnce is the number of clients that connect at the same time.
const atOnce = 16

// connections connects as fast as clients and proxy can.
func (w *world) connections(ctx context.Context, p *instance, o *Options) (r Connections, err error) {
	before, err := p.CPU()
	if err != nil {
		return r, err
	}
	begin := time.Now()
	end := begin.Add(o.Window)
	counts, errs := make([]int, atOnce), make([]error, atOnce)
	var running sync.WaitGroup
	for i := range atOnce {
		running.Go(func() {
			for counts[i] == 0 || time.Now().Before(end) {
				c, err := w.open(ctx, p.at, echo)
				if err != nil {
					errs[i] = err
					return
				}
				c.Close()
				counts[i]++
			}
		})
	}
	running.Wait()
	took := time.Since(begin)
	// What closing them costs is part of it.
	if err := errors.Join(append(errs, p.Settle(ctx))...); err != nil {
		return r, err
	}
	after, err := p.CPU()
	if err != nil {
		return r, err
	}
	n := 0
	for _, c := range counts {
		n += c
	}
	return Connections{n, float64(n) / took.Seconds(), (after - before).Seconds() / float64(n)}, nil
}

// Stream is a throughput and what it took.
type Stream struct {
	Rate float64 `json:"bytes_per_second"`
	// CPU is what all processes of the proxy used, in seconds per gigabyte, or
	// milliseconds per megabyte.
	CPU float64 `json:"cpu_seconds_per_gb"`
}

const warmUp = 200 * time.Millisecond // for windows and buffers to grow

// throughput carries so many streams at once and measures them for the time of a
// window.
func (w *world) throughput(ctx context.Context, p *instance, o *Options, streams int, down bool) (s Stream, err error) {
	what, counter := byte(sink), &w.server.up
	if down {
		what, counter = source, &w.server.down
	}
	var ends []net.Conn
	var moving sync.WaitGroup
	defer func() {
		for _, c := range ends {
			c.Close()
		}
		moving.Wait()
		gone := bench.WaitFor(ctx, func() bool { return w.server.streams.Load() == 0 })
		err = errors.Join(err, gone, p.Settle(ctx))
	}()
	for range streams {
		c, err := w.open(ctx, p.at, what)
		if err != nil {
			return s, err
		}
		ends = append(ends, c)
		op := c.Write
		if down {
			op = c.Read
		}
		moving.Go(func() { move(op, new(atomic.Int64), new(atomic.Int64)) })
	}
	if err := bench.WaitFor(ctx, func() bool { return w.server.streams.Load() >= int64(streams) }); err != nil {
		return s, fmt.Errorf("%d of %d streams carry something: %w", w.server.streams.Load(), streams, err)
	}
	if err := bench.Pause(ctx, warmUp); err != nil {
		return s, err
	}
	cpu, err := p.CPU()
	if err != nil {
		return s, err
	}
	begin, bytes := time.Now(), counter.Load()
	if err := bench.Pause(ctx, o.Window); err != nil {
		return s, err
	}
	// On a busy machine a short window may be too short for anything.
	if err := bench.WaitFor(ctx, func() bool { return counter.Load() != bytes }); err != nil {
		return s, fmt.Errorf("nothing was carried: %w", err)
	}
	took, moved := time.Since(begin), counter.Load()-bytes
	after, err := p.CPU()
	if err != nil {
		return s, err
	}
	return Stream{float64(moved) / took.Seconds(), (after - cpu).Seconds() / (float64(moved) / 1e9)}, nil
}

// Memory is what a proxy has for connections that do nothing.
type Memory struct {
	Idle        int64   `json:"idle_bytes"` // PSS before
	Full        int64   `json:"full_bytes"` // PSS with all connections
	Connections int     `json:"connections"`
	Each        float64 `json:"bytes_per_connection"` // (Full - Idle) / Connections
}

// rest is how long connections do nothing before they are weighed.
const rest = 3 * time.Second

// memory weighs idle connections, each with a handshake behind it.
func (w *world) memory(ctx context.Context, p *instance, o *Options) (m Memory, err error) {
	if m.Idle, _, err = p.Memory(); err != nil {
		return m, err
	}
	open := make([]net.Conn, o.Connections)
	errs := make([]error, atOnce)
	defer func() {
		for _, c := range open {
			if c != nil {
				c.Close()
			}
		}
		err = errors.Join(err, p.Settle(ctx))
	}()
	var running sync.WaitGroup
	for i := range atOnce {
		running.Go(func() {
			for j := i; j < len(open) && errs[i] == nil; j += atOnce {
				open[j], errs[i] = w.open(ctx, p.at, echo)
			}
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return m, err
	}
	if err := bench.Pause(ctx, rest); err != nil {
		return m, err
	}
	if m.Full, _, err = p.Memory(); err != nil {
		return m, err
	}
	// They were weighed only if they are still there.
	for i, c := range open {
		if err := ping(c); err != nil {
			return m, fmt.Errorf("connection %d of %d ended: %w", i+1, len(open), err)
		}
	}
	m.Connections = len(open)
	m.Each = float64(m.Full-m.Idle) / float64(len(open))
	return m, nil
}
