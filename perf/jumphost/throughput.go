package jumphost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"aarch64.com/isthmus/perf/internal/bench"
)

// Stream is a throughput and what it took.
type Stream struct {
	Rate float64 `json:"bytes_per_second"`
	// CPU is what all processes of the jump host used, in seconds per gigabyte.
	CPU float64 `json:"cpu_seconds_per_gb"`
}

const warmUp = 200 * time.Millisecond // for windows and buffers to grow

// throughput carries so many streams at once through the host, or straight if p is
// nil, and measures them for the time of a window.
func (w *world) throughput(ctx context.Context, p *bench.Process, o *Options, streams int, down bool) (s Stream, err error) {
	target, counter := sinkAddr, &w.services.up
	if down {
		target, counter = sourceAddr, &w.services.down
	}
	var stops []func() error
	defer func() {
		for _, stop := range stops {
			err = errors.Join(err, stop())
		}
		err = errors.Join(err, w.idle(ctx, p))
	}()
	for range streams {
		start := w.sshW
		if p == nil {
			start = w.plain
		}
		stop, err := start(ctx, target, down)
		if err != nil {
			return s, err
		}
		stops = append(stops, stop)
	}
	if err := bench.WaitFor(ctx, func() bool { return w.services.connections.Load() >= int64(streams) }); err != nil {
		return s, fmt.Errorf("%d of %d streams carry something: %w", w.services.connections.Load(), streams, err)
	}
	if err := bench.Pause(ctx, warmUp); err != nil {
		return s, err
	}
	cpu, err := usage(p)
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
	after, err := usage(p)
	if err != nil {
		return s, err
	}
	return Stream{float64(moved) / took.Seconds(), (after - cpu).Seconds() / (float64(moved) / 1e9)}, nil
}

// sshW starts `ssh -W` with as much to send as it takes, and nobody who reads what
// comes.
func (w *world) sshW(_ context.Context, target netip.Addr, _ bool) (stop func() error, err error) {
	zero, err := os.Open("/dev/zero")
	if err != nil {
		return nil, err
	}
	defer zero.Close() // ssh has its own
	return w.ssh(zero, nil, "-W", fmt.Sprintf("[%s]:%d", target, vmPort), "jumphost")
}

// ssh starts OpenSSH's client; out may be nil.
func (w *world) ssh(in *os.File, out io.Writer, args ...string) (stop func() error, err error) {
	cmd := exec.Command("ssh", append([]string{"-F", w.sshConfig()}, args...)...)
	if in != nil { // not a nil pointer in an interface
		cmd.Stdin = in
	}
	cmd.Stdout = out
	if err := w.client.Start(cmd); err != nil {
		return nil, err
	}
	return func() error {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
		return nil
	}, nil
}

// plain is a TCP connection without a jump host.
func (w *world) plain(ctx context.Context, target netip.Addr, down bool) (stop func() error, err error) {
	c, err := w.client.Dial(ctx, "tcp", netip.AddrPortFrom(target, vmPort).String())
	if err != nil {
		return nil, err
	}
	op := c.Write
	if down {
		op = c.Read
	}
	go func() {
		for b := make([]byte, chunk); ; {
			if _, err := op(b); err != nil {
				return // closed
			}
		}
	}()
	return c.Close, nil
}

// session copies bytes out of the VM as people do, by a whole `ssh -J` (or `ssh`)
// with a login at the VM, and returns bytes per second from its start to its end.
func (w *world) session(ctx context.Context, p *bench.Process, o *Options) (rate float64, err error) {
	args := []string{"-F", w.sshConfig()}
	if p != nil {
		args = append(args, "-J", "jumphost")
	}
	cmd := exec.Command("ssh", append(args, sshdAddr.String(), fmt.Sprintf("head -c %d /dev/zero", o.Bytes))...)
	// ssh writes to /dev/null itself where nobody counts; here its exit status
	// tells that all of it came.
	cmd.Stderr = io.Discard
	begin := time.Now()
	if err := w.client.Start(cmd); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-ended
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("%v: %w", cmd.Args, err)
	}
	return float64(o.Bytes) / time.Since(begin).Seconds(), nil
}

// usage is the CPU time of a jump host's processes; 0 without one.
func usage(p *bench.Process) (time.Duration, error) {
	if p == nil {
		return 0, nil
	}
	return p.CPU()
}

// idle waits until the jump host has nothing more to do for those who have gone.
func (w *world) idle(ctx context.Context, p *bench.Process) error {
	if p == nil {
		return ctx.Err()
	}
	return p.Settle(ctx)
}
