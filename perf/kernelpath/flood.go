package kernelpath

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	sinkPort = 9  // discard, RFC 863
	payload  = 18 // bytes; with IPv4 and Ethernet headers the smallest frame, 60
	flows    = 8
	burst    = 32 // packets between two looks at the clock
	// debt is how many packets a sender that was held up makes up for; more at
	// once would measure queues instead of rates.
	debt = 2 * burst
	// settled is how long nothing must have arrived before all has.
	settled = 30 * time.Millisecond
)

// Flood is what became of packets that were sent at some rate.
type Flood struct {
	Offered   float64 `json:"offered_pps"`
	Delivered float64 `json:"delivered_pps"`
	sent      uint64
}

// Loss is the part of the packets that did not arrive.
func (f Flood) Loss() float64 {
	if f.Offered <= 0 {
		return 0
	}
	return max(0, 1-f.Delivered/f.Offered)
}

// arrived is how many packets have come to the router's interface.
func (w *world) arrived() (uint64, error) {
	l, err := w.router.LinkByName("eth0")
	if err != nil {
		return 0, fmt.Errorf("count at the router: %w", err)
	}
	return l.Attrs().Statistics.RxPackets, nil
}

// sender sends its share of the flows from one CPU. Its sockets are the kernel's
// alone: the runtime's poller would be woken up for each packet that leaves a socket
// of package net.
type sender struct {
	cpu  int
	fds  []int
	data [payload]byte
}

// newSenders opens the flows to the target, spread over the CPUs.
func (w *world) newSenders(target netip.Addr) ([]*sender, error) {
	var all []*sender
	for _, cpu := range w.cpus {
		all = append(all, &sender{cpu: cpu})
	}
	err := w.vm.Do(func() error {
		for i := range max(flows, len(all)) {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			s := all[i%len(all)]
			s.fds = append(s.fds, fd)
			if err := unix.Connect(fd, &unix.SockaddrInet6{Port: sinkPort, Addr: target.As16()}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		closeAll(all)
		return nil, fmt.Errorf("open the senders' sockets: %w", err)
	}
	return all, nil
}

func closeAll(all []*sender) {
	for _, s := range all {
		for _, fd := range s.fds {
			unix.Close(fd)
		}
	}
}

// send sends at a rate, +Inf for as fast as possible, and returns how many it sent.
// The calling thread must be one of its own: see onCPU.
func (s *sender) send(ctx context.Context, rate float64, d time.Duration) (sent uint64, err error) {
	start := time.Now()
	var skipped uint64 // what should have been sent, but was not
	for turn := 0; ; turn++ {
		elapsed := time.Since(start)
		if elapsed >= d || ctx.Err() != nil {
			return sent, ctx.Err()
		}
		n := burst
		if !math.IsInf(rate, 1) {
			due := uint64(rate*elapsed.Seconds()) - min(uint64(rate*elapsed.Seconds()), sent+skipped)
			if due == 0 {
				nap := unix.Timespec{Nsec: 20_000}
				_ = unix.Nanosleep(&nap, nil)
				continue
			}
			if due > debt {
				skipped += due - debt
				due = debt
			}
			n = int(min(due, burst))
		}
		for range n {
			if _, err := unix.Write(s.fds[turn%len(s.fds)], s.data[:]); err != nil {
				return sent, fmt.Errorf("send small packets: %w", err)
			}
			sent++
		}
	}
}

// flood sends at a rate from all senders together and counts what arrives.
func (w *world) flood(ctx context.Context, all []*sender, rate float64, d time.Duration) (f Flood, err error) {
	before, err := w.arrived()
	if err != nil {
		return f, err
	}
	sent, errs := make([]uint64, len(all)), make([]error, len(all))
	var wait sync.WaitGroup
	start := time.Now()
	for i, s := range all {
		wait.Go(func() {
			errs[i] = onCPU(s.cpu, func() (err error) {
				sent[i], err = s.send(ctx, rate/float64(len(all)), d)
				return err
			})
		})
	}
	wait.Wait()
	took := time.Since(start).Seconds()
	if err := errors.Join(errs...); err != nil {
		return f, err
	}
	// What is still in a queue counts as delivered: the queues are short
	// (a TUN device's has 500 packets).
	after := before
	for {
		time.Sleep(settled)
		now, err := w.arrived()
		if err != nil {
			return f, err
		}
		if now == after {
			break
		}
		after = now
	}
	var total uint64
	for _, n := range sent {
		total += n
	}
	return Flood{Offered: float64(total) / took, Delivered: float64(min(after-before, total)) / took, sent: total}, nil
}

// onCPU runs fn on a thread that stays on the CPU and wakes up when it asked to. The
// thread ends with it.
func onCPU(cpu int, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			done <- fmt.Errorf("pin to CPU %d: %w", cpu, err)
			return
		}
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
			done <- fmt.Errorf("set the timer slack: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}
