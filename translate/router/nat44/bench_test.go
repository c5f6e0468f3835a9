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
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// masquerade is what one would do without this package: one rule, no limits, no
// slices.
func masquerade(w *world) (remove func(), err error) {
	err = w.hypervisor.Do(func() error {
		ns, err := netns.Get()
		if err != nil {
			return err
		}
		c, err := nftables.New(nftables.WithNetNSFd(int(ns)))
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Name: "plain", Family: nftables.TableFamilyIPv4})
		chain := c.AddChain(&nftables.Chain{
			Table: table, Name: "postrouting", Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		exprs := append(source(), masked(reg, pool)...)
		c.AddRule(&nftables.Rule{Table: table, Chain: chain,
			Exprs: append(exprs, equal(pool.Addr().AsSlice()), &expr.Masq{})})
		remove = func() {
			c.DelTable(table)
			_ = c.Flush()
			ns.Close()
		}
		return c.Flush()
	})
	return remove, err
}

// setups are the ways to be compared; each takes b.N as the work of one.
func setups(b *testing.B, run func(b *testing.B, w *world, vms int)) {
	w := newWorld(b)
	b.Run("masquerade", func(b *testing.B) {
		remove, err := masquerade(w)
		if err != nil {
			b.Fatal(err)
		}
		defer remove()
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
		fd := -1
		err := w.vms.Do(func() (err error) {
			fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(fd)
		p := make([]byte, 28)
		p[0], p[3], p[8], p[9] = 0x45, 28, 64, unix.IPPROTO_UDP
		copy(p[16:], serverAddr.AsSlice())
		p[25] = 8 // UDP length
		before := opened(b, w)
		start := time.Now()
		for i := 0; b.Loop(); i++ {
			source := vm(i % vms).As4()
			copy(p[12:], source[:])
			// One of 30 ports of the VM towards ever other ports.
			n := i / vms
			p[20], p[21] = 0x80, byte(n%30)
			port := 10000 + n/30%50000
			p[22], p[23] = byte(port>>8), byte(port)
			if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: serverAddr.As4()}); err != nil {
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
