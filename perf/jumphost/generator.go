package jumphost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"aarch64.com/isthmus/perf/internal/bench"
)

// way is an open way to the echo in the VM, through a jump host or straight.
type way struct {
	io.ReadWriter
	tcp net.Conn
}

func (c *way) close() { c.tcp.Close() }

// open opens a way: TCP, login and a channel, or TCP alone without a host. The
// byte that comes back proves it, and is part of the time it takes.
func (w *world) open(ctx context.Context, h *host) (c *way, err error) {
	ctx, cancel := context.WithTimeout(ctx, bench.ReadyTime)
	defer cancel()
	echoing := netip.AddrPortFrom(echoAddr, vmPort)
	to := echoing
	if h.cipher != "" {
		to = netip.AddrPortFrom(jumpAddr, jumpPort)
	}
	tcp, err := w.client.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	c = &way{ReadWriter: tcp, tcp: tcp}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	deadline, _ := ctx.Deadline()
	if err := tcp.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if h.cipher != "" {
		if c.ReadWriter, err = channel(tcp, h.cipher, echoing); err != nil {
			return nil, err
		}
	}
	if err := c.echo(); err != nil {
		return nil, err
	}
	return c, tcp.SetDeadline(time.Time{})
}

// channel logs in and opens a channel. All hosts get the same client, whose key
// exchange OpenSSH has since 2013.
func channel(tcp net.Conn, cipher string, to netip.AddrPort) (io.ReadWriter, error) {
	conn, channels, requests, err := ssh.NewClientConn(tcp, "", &ssh.ClientConfig{
		Config:          ssh.Config{KeyExchanges: []string{ssh.KeyExchangeCurve25519}, Ciphers: []string{cipher}},
		User:            user,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(requests)
	go func() {
		for nc := range channels {
			_ = nc.Reject(ssh.UnknownChannelType, "")
		}
	}()
	// RFC 4254 section 7.2.
	ch, chRequests, err := conn.OpenChannel("direct-tcpip", ssh.Marshal(struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}{to.Addr().String(), uint32(to.Port()), "::1", 0}))
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(chRequests)
	return ch, nil
}

// echo sends one byte and waits for it.
func (c *way) echo() error {
	b := [1]byte{'x'}
	if _, err := c.Write(b[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b[:])
	return err
}

// Times are quantiles of a number of measurements, in seconds.
type Times struct {
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Count int     `json:"count"`
}

func quantiles(d []time.Duration) Times {
	if len(d) == 0 {
		return Times{}
	}
	slices.Sort(d)
	at := func(q float64) float64 { return d[int(q*float64(len(d)-1))].Seconds() }
	return Times{at(0.5), at(0.99), len(d)}
}

// latency is the time that a byte takes to the VM and back.
func (w *world) latency(ctx context.Context, h *host, o *Options) (Times, error) {
	c, err := w.open(ctx, h)
	if err != nil {
		return Times{}, err
	}
	defer c.close()
	var took []time.Duration
	for end := time.Now().Add(o.Window / 2); time.Now().Before(end) && ctx.Err() == nil; {
		begin := time.Now()
		if err := c.echo(); err != nil {
			return Times{}, err
		}
		took = append(took, time.Since(begin))
	}
	return quantiles(took), ctx.Err()
}

// connects is the time that connections take which come one after another.
func (w *world) connects(ctx context.Context, h *host, o *Options) (Times, error) {
	var took []time.Duration
	for end := time.Now().Add(o.Window); time.Now().Before(end) && ctx.Err() == nil; {
		begin := time.Now()
		c, err := w.open(ctx, h)
		if err != nil {
			return Times{}, err
		}
		took = append(took, time.Since(begin))
		c.close()
	}
	return quantiles(took), ctx.Err()
}

// Handshakes is how fast a host takes clients in.
type Handshakes struct {
	Rate float64 `json:"per_second"`
	// CPU is what all processes of the jump host used, in seconds per connection.
	CPU float64 `json:"cpu_seconds"`
}

// atOnce is the number of clients that connect at the same time.
const atOnce = 16

// handshakes connects as fast as the host lets in.
func (w *world) handshakes(ctx context.Context, h *host, p *bench.Process, o *Options) (r Handshakes, err error) {
	before, err := usage(p)
	if err != nil {
		return r, err
	}
	begin := time.Now()
	end := begin.Add(o.Window)
	counts, errs := make([]int, atOnce), make([]error, atOnce)
	var running sync.WaitGroup
	for i := range atOnce {
		running.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				c, err := w.open(ctx, h)
				if err != nil {
					errs[i] = err
					return
				}
				c.close()
				counts[i]++
			}
		})
	}
	running.Wait()
	took := time.Since(begin)
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return r, err
	}
	// What closing them costs is part of it.
	if err := w.idle(ctx, p); err != nil {
		return r, err
	}
	after, err := usage(p)
	if err != nil {
		return r, err
	}
	n := 0
	for _, c := range counts {
		n += c
	}
	return Handshakes{float64(n) / took.Seconds(), (after - before).Seconds() / float64(n)}, nil
}

// Memory is what a host has for sessions that do nothing.
type Memory struct {
	Idle      int64   `json:"idle_bytes"`        // PSS before
	Full      int64   `json:"full_bytes"`        // PSS with all sessions
	Sessions  int     `json:"sessions"`          // each with one channel
	Processes int     `json:"processes"`         // with all sessions
	Each      float64 `json:"bytes_per_session"` // (Full - Idle) / Sessions
}

// rest is how long sessions do nothing before they are weighed.
const rest = 3 * time.Second

// memory weighs sessions with one open channel each.
func (w *world) memory(ctx context.Context, h *host, p *bench.Process, o *Options) (m Memory, err error) {
	if m.Idle, _, err = p.Memory(); err != nil {
		return m, err
	}
	ways := make([]*way, o.Sessions)
	errs := make([]error, atOnce)
	defer func() {
		for _, c := range ways {
			if c != nil {
				c.close()
			}
		}
		err = errors.Join(err, w.idle(ctx, p))
	}()
	var running sync.WaitGroup
	for i := range atOnce {
		running.Go(func() {
			for j := i; j < o.Sessions && errs[i] == nil; j += atOnce {
				ways[j], errs[i] = w.open(ctx, h)
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
	if m.Full, m.Processes, err = p.Memory(); err != nil {
		return m, err
	}
	// They were weighed only if they are still there.
	for i, c := range ways {
		if err := errors.Join(c.tcp.SetDeadline(time.Now().Add(bench.ReadyTime)), c.echo()); err != nil {
			return m, fmt.Errorf("session %d of %d ended: %w", i+1, o.Sessions, err)
		}
	}
	m.Sessions = o.Sessions
	m.Each = float64(m.Full-m.Idle) / float64(o.Sessions)
	return m, nil
}
