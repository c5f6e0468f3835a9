package nat44

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// masquerade is what one would do without this package: one rule, no limits, no
// slices.
func masquerade(w *world) (remove func()) {
	table := &nftables.Table{Name: "plain", Family: nftables.TableFamilyIPv4}
	w.nft(func(c *nftables.Conn) {
		c.AddTable(table)
		chain := c.AddChain(&nftables.Chain{
			Table: table, Name: "postrouting", Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		exprs := append(source(), masked(reg, pool)...)
		c.AddRule(&nftables.Rule{Table: table, Chain: chain,
			Exprs: append(exprs, equal(pool.Addr().AsSlice()), &expr.Masq{})})
	})
	return func() { w.nft(func(c *nftables.Conn) { c.DelTable(table) }) }
}

// setups are the ways to be compared; each takes b.N as the work of one.
func setups(b *testing.B, run func(b *testing.B, w *world, vms int)) {
	w := newWorld(b)
	b.Run("masquerade", func(b *testing.B) {
		defer masquerade(w)()
		run(b, w, 100)
	})
	for _, vms := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("slices_%d", vms), func(b *testing.B) {
			c := Config{Addresses: []netip.Addr{sharedAddr}, PortsPerVM: 32, NewPerSecond: 1 << 24}
			for i := range vms {
				c.Mapped = append(c.Mapped, vm(i))
			}
			t, err := w.tryOpen(c)
			if err != nil {
				b.Fatal(err)
			}
			defer t.Close()
			run(b, w, vms)
			if s, err := t.Stats(); err != nil || s.VMs != vms || s.NoSlice+s.TooFast+s.TooMany > 0 {
				b.Fatal(s, err)
			}
		})
	}
}

// BenchmarkOpen measures UDP flows: each packet begins a connection, and the
// server's answer is not waited for.
func BenchmarkOpen(b *testing.B) {
	setups(b, func(b *testing.B, w *world, vms int) {
		f := w.newFlood()
		defer f.close()
		before := opened(b, w)
		start := time.Now()
		for i := 0; b.Loop(); i++ {
			if err := f.send(vm(i%vms), i/vms); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(opened(b, w)-before)/time.Since(start).Seconds(), "opened/s")
		flush(b, w)
	})
}

// BenchmarkBulk measures one TCP connection per CPU, in bytes.
func BenchmarkBulk(b *testing.B) {
	setups(b, func(b *testing.B, w *world, vms int) {
		const chunk = 1 << 20
		b.SetBytes(2 * chunk)
		var streams []net.Conn
		for i := range 2 {
			c, _, err := w.call("tcp4", vm(i%vms))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Time{})
			streams = append(streams, c)
		}
		data := make([]byte, chunk)
		b.ResetTimer()
		for range b.N {
			var wg sync.WaitGroup
			for _, c := range streams {
				wg.Go(func() {
					if _, err := c.Write(data); err != nil {
						b.Error(err)
					}
				})
				wg.Go(func() {
					if _, err := io.CopyN(io.Discard, c, chunk); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
		}
	})
}

// BenchmarkCount measures one pass of Run over 100,000 connections of 100 VMs.
func BenchmarkCount(b *testing.B) {
	w := newWorld(b)
	t := w.open(Config{NewPerSecond: -1})
	if err := t.Add(vmRange(100)...); err != nil {
		b.Fatal(err)
	}
	for i := range 100 {
		w.flood(vm(i), 0, 1000)
	}
	for b.Loop() {
		counts, err := t.Connections()
		if err != nil || counts[vm(99)] != 1000 {
			b.Fatal(counts[vm(99)], err)
		}
	}
}
