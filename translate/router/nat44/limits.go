package nat44

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/google/nftables"
)

// How often Run counts connections. The kernel tells of 100,000 in 0.25 s; the
// factor keeps Run below a twentieth of a CPU.
const (
	countInterval = 2 * time.Second
	countFactor   = 20
)

// countFile tells how many connections conntrack has. Its descriptor stays the
// network namespace's in which it was opened.
const countFile = "/proc/sys/net/netfilter/nf_conntrack_count"

// Run counts the connections of each VM every few seconds until ctx ends, and
// has the kernel refuse new ones of a VM that has Config.MaxConnections. A VM
// may so have as many more as NewPerSecond lets it open within an interval; in
// return a new connection costs nothing extra. (The kernel's own "ct count" goes
// through all connections of the VM for each new one: with 400 of them a new
// connection took 200 µs instead of 9.)
//
// Run returns when ctx ends or the table is closed, or with an error of the kernel.
func (t *Table) Run(ctx context.Context) error {
	for {
		took, err := t.limit()
		if errors.Is(err, errClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(countInterval, countFactor*took)):
		}
	}
}

// limit does one pass.
func (t *Table) limit() (took time.Duration, err error) {
	start := time.Now()
	total, err := t.total()
	if err != nil {
		return 0, err
	}
	limit := t.config.MaxConnections
	t.mu.Lock()
	idle := len(t.over) == 0
	t.mu.Unlock()
	// Nobody can have more than all have.
	if limit < 0 || total < limit && idle {
		return 0, nil
	}
	counts, err := t.Connections()
	if err != nil {
		return 0, err
	}
	took = time.Since(start)
	var over []nftables.SetElement
	for m, n := range counts {
		if n >= limit {
			over = append(over, nftables.SetElement{
				Key: m.AsSlice(),
				// Who is gone can't be blocked for ever by who is gone.
				Timeout: 3 * max(countInterval, countFactor*took),
			})
		}
	}
	return took, t.block(over)
}

// block replaces the set of VMs that may open nothing.
func (t *Table) block(over []nftables.SetElement) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(over) == 0 && len(t.over) == 0 {
		return nil
	}
	set := t.rules.blocked()
	t.rules.c.FlushSet(set)
	if err := inChunks(over, func(e []nftables.SetElement) error { return t.rules.c.SetAddElements(set, e) }); err != nil {
		return err
	}
	if err := t.rules.c.Flush(); err != nil {
		return explain("limit connections in table "+t.config.Table, err)
	}
	t.over = over
	return nil
}

// total is the number of all connections of the network namespace.
func (t *Table) total() (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, errClosed
	}
	b := make([]byte, 16)
	size, err := t.count.ReadAt(b, 0)
	if size == 0 {
		return 0, fmt.Errorf("count connections: %w", err)
	}
	if _, err := fmt.Sscan(string(b[:size]), &n); err != nil {
		return 0, fmt.Errorf("count connections: %s: %q: %w", countFile, b[:size], err)
	}
	return n, nil
}

// Connections counts the connections of each mapped address that has some. It
// goes through all connections that the kernel knows.
func (t *Table) Connections() (map[netip.Addr]int, error) {
	counts := map[netip.Addr]int{}
	_, err := t.flows.each(func(f *flow) {
		if t.config.Pool4.Contains(f.source) {
			counts[f.source]++
		}
	})
	if err != nil {
		return nil, explain("count connections", err)
	}
	return counts, nil
}

func openCount() (*os.File, error) {
	f, err := os.Open(countFile)
	if err != nil {
		return nil, fmt.Errorf("count connections: %w: %w (modprobe nf_conntrack)", ErrUnsupported, err)
	}
	return f, nil
}

// outside matches connections of the pool that left by another way than the
// plan says: opened before there was a table, with slices of another size, or
// through an address that is no longer shared. They would go on for as long as
// their packets do, and nobody could tell whose they are.
func outside(p *Plan) func(*flow) bool {
	return func(f *flow) bool {
		if !p.pool.Contains(f.source) {
			return false
		}
		a, ports, ok := p.Slice(f.source)
		return !ok || a != f.shared || f.port < ports.First || f.port > ports.Last
	}
}
