package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/xsk"
)

// plane is the part of a router that depends on devices: steering programs,
// UMEMs, sockets and the workers with them. When a device goes or comes back,
// the whole plane is replaced, which is rare and leaves no state in between.
type plane struct {
	programs []*xsk.Program // by index of Config.Ports; nil: the device is not there
	names    []string
	devices  []device
	chunk    int // bytes of a frame's memory, in all UMEMs
	umems    []*xsk.UMEM
	workers  []*worker
	broken   chan error
	cancel   context.CancelFunc
	running  sync.WaitGroup
	started  bool
	// dead is closed when a worker has ended by itself, so that nobody waits
	// for its answer.
	dead chan struct{}
}

// device is what a port's interface was when the plane was opened.
type device struct {
	index  int
	mtu    int
	mac    string
	queues []int
	chunk  int // bytes that zero-copy mode needs, where it may be used
}

// portQueues are the queues that a port's config and its device give.
func portQueues(c *PortConfig, ifindex int) ([]int, error) {
	have, err := xsk.QueueCount(ifindex)
	if err != nil {
		return nil, fmt.Errorf("port %s: %w", c.Interface, err)
	}
	if c.Queues == nil {
		all := make([]int, have)
		for i := range all {
			all[i] = i
		}
		return all, nil
	}
	for _, q := range c.Queues {
		if q < 0 || q >= have {
			return nil, fmt.Errorf("port %s: queue %d is configured, but the interface has queues 0 to %d (see `ethtool -l %s`)", c.Interface, q, have-1, c.Interface)
		}
	}
	return c.Queues, nil
}

// openPlane opens all ports whose devices are there.
func (r *Router) openPlane() (err error) {
	n := len(r.config.Ports)
	p := &plane{
		programs: make([]*xsk.Program, n), names: make([]string, n), devices: make([]device, n),
		broken: make(chan error, r.tun.Queues()), dead: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for i := range r.config.Ports {
		p.names[i] = r.config.Ports[i].Interface
		if p.devices[i], err = findDevice(&r.config.Ports[i]); err != nil {
			return err
		}
	}
	p.chunk = r.chunkSize(p.devices)
	for i := range r.config.Ports {
		if p.devices[i].index == 0 {
			continue
		}
		p.programs[i], err = xsk.AttachProgram(r.tables, xsk.ProgramConfig{
			Ifindex: p.devices[i].index, Attach: r.config.Ports[i].Attach, Room: p.chunk - xsk.RxHeadroom,
		})
		if err != nil {
			return fmt.Errorf("port %s: %w", p.names[i], err)
		}
		r.logAttached(p.names[i], p.programs[i])
		if large := xsk.CheckMTU(p.devices[i].mtu, p.chunk); large != nil {
			r.log(false, fmt.Sprintf("port %s: %v; larger ones take the kernel's way", p.names[i], large))
		}
	}
	cpus, err := usableCPUs()
	if err != nil {
		return err
	}
	for id := range r.tun.Queues() {
		w, err := r.newWorker(id, p)
		if err != nil {
			return err
		}
		w.cpu = -1
		if n > 0 {
			w.cpu = cpus[id%len(cpus)]
		}
		p.workers = append(p.workers, w)
	}
	r.mu.Lock()
	r.plane = p
	r.mu.Unlock()
	return nil
}

func (r *Router) logAttached(name string, p *xsk.Program) {
	m := fmt.Sprintf("port %s: XDP program attached in %s mode", name, p.Mode())
	if refused := p.Refused(); refused != nil {
		m += fmt.Sprintf(" (driver mode refused: %v)", refused)
	}
	r.log(p.Refused() != nil, m)
}

// findDevice looks a port's interface up; index 0 means that there is none.
func findDevice(c *PortConfig) (device, error) {
	l, err := netlink.LinkByName(c.Interface)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return device{}, nil
	}
	if err != nil {
		return device{}, fmt.Errorf("port %s: %w", c.Interface, err)
	}
	d := device{index: l.Attrs().Index, mtu: l.Attrs().MTU, mac: string(l.Attrs().HardwareAddr)}
	if d.queues, err = portQueues(c, d.index); err != nil {
		return d, err
	}
	if c.ZeroCopy != xsk.ZeroCopyOff {
		if d.chunk, err = xsk.ZeroCopyChunk(d.index); err != nil {
			return d, fmt.Errorf("port %s: %w", c.Interface, err)
		}
	}
	return d, nil
}

// chunkSize is what frames need for all ports: the smallest size that all MTUs
// fit into and zero-copy mode works with, or the largest there is.
func (r *Router) chunkSize(devices []device) int {
	size := xsk.Chunk2K
	for i := range r.config.Ports {
		want := r.config.Ports[i].ChunkSize
		if want == 0 {
			want = devices[i].chunk
			if xsk.CheckMTU(devices[i].mtu, xsk.Chunk2K) != nil {
				want = xsk.Chunk4K
			}
		}
		size = max(size, want)
	}
	return size
}

// newWorker opens queue id of every port that has one.
func (r *Router) newWorker(id int, p *plane) (*worker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open worker %d: %w", id, err)
	}
	w := &worker{
		id: id, shared: &r.shared, wakeup: fd, answers: make(chan WorkerStats, 1),
		wire:   make([]*wirePort, len(p.programs)),
		kernel: &kernelPort{queue: r.tun.Queue(id), raw: r.raw, pool: newPlainPool(kernelFrames, frameStart+maxSuperpacket)},
		state:  translate.NewState(rand.Uint64()),
		limit:  newBucket(r.config.ErrorRate, r.config.ErrorBurst, time.Now()),
		polled: []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(r.tun.Queue(id).FD()), Events: unix.POLLIN}},
	}
	if err := r.openWire(w, p); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// openWire opens the worker's sockets: all on one UMEM where the kernel can,
// since a frame then leaves by another port than it came in by without a copy.
func (r *Router) openWire(w *worker, p *plane) error {
	ports := 0
	for i := range p.programs {
		if p.programs[i] != nil && w.id < len(p.devices[i].queues) {
			ports++
		}
	}
	var common *pool
	for i, prog := range p.programs {
		if prog == nil || w.id >= len(p.devices[i].queues) {
			continue
		}
		c := xsk.SocketConfig{
			Ifindex: p.devices[i].index, Queue: p.devices[i].queues[w.id], ZeroCopy: r.config.Ports[i].ZeroCopy,
			Rx: ringSize, Tx: ringSize, Fill: 2 * ringSize, Completion: 2 * ringSize,
		}
		port := &wirePort{name: p.names[i], mtu: p.devices[i].mtu, complete: r.config.Ports[i].CompleteChecksums}
		var err error
		if common != nil {
			// A zero-copy and a copy device can't share (af_xdp.rst).
			if port.sock, err = xsk.Open(common.umem, c); err == nil {
				port.pool = common
			}
		}
		if port.sock == nil {
			u, err := xsk.NewUMEM(xsk.UMEMConfig{Chunks: ports * 3 * ringSize, ChunkSize: p.chunk, Reserve: 4 * batchSize})
			if err != nil {
				return fmt.Errorf("worker %d: %w", w.id, err)
			}
			p.umems = append(p.umems, u)
			if port.sock, err = xsk.Open(u, c); err != nil {
				return fmt.Errorf("worker %d: %w", w.id, err)
			}
			port.pool = &pool{umem: u}
			if common == nil {
				common = port.pool
			}
		}
		w.wire[i] = port
		w.polled = append(w.polled, unix.PollFd{Fd: int32(port.sock.FD()), Events: unix.POLLIN})
		port.sock.Service()
		if err := prog.Register(c.Queue, port.sock); err != nil {
			return fmt.Errorf("worker %d: %w", w.id, err)
		}
		r.log(false, fmt.Sprintf("port %s queue %d: AF_XDP socket in %s mode, worker %d", port.name, c.Queue, port.sock.Mode(), w.id))
	}
	return nil
}

// usableCPUs are those that this process may run on.
func usableCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read the CPU affinity: %w", err)
	}
	var cpus []int
	for i := 0; len(cpus) < set.Count(); i++ {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus, nil
}

// start lets the workers run until ctx ends or close is called.
func (p *plane) start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	p.started = true
	var once sync.Once
	for _, w := range p.workers {
		p.running.Go(func() {
			err := w.run(ctx)
			if err != nil {
				p.broken <- err
			}
			once.Do(func() { close(p.dead) })
		})
	}
	context.AfterFunc(ctx, func() {
		for _, w := range p.workers {
			w.wake()
		}
	})
}

// stats asks each worker for a copy of its counters.
func (p *plane) stats() []WorkerStats {
	out := make([]WorkerStats, len(p.workers))
	for i, w := range p.workers {
		out[i] = WorkerStats{ID: w.id, CPU: w.cpu}
		if !p.started {
			continue
		}
		select {
		case <-w.answers: // left over from a question that nobody waited for
		default:
		}
		w.asked.Store(true)
		w.wake()
		select {
		case out[i] = <-w.answers:
		case <-p.dead:
		}
	}
	return out
}

func (p *plane) portStats() []PortStats {
	out := make([]PortStats, len(p.programs))
	for i, prog := range p.programs {
		out[i].Interface = p.names[i]
		if prog == nil {
			continue
		}
		out[i].Attached, out[i].Mode = true, prog.Mode()
		// The counters of a program whose device has gone are gone too.
		out[i].Steering, _ = prog.Counters()
	}
	return out
}

// close ends the workers, then detaches. It returns their last counters.
func (p *plane) close() []WorkerStats {
	if p.started {
		p.cancel()
		p.running.Wait()
	}
	var last []WorkerStats
	// Programs first: from then on the kernel gets the frames.
	for _, prog := range p.programs {
		if prog != nil {
			prog.Close()
		}
	}
	for _, w := range p.workers {
		last = append(last, w.snapshot())
		w.close()
	}
	for _, u := range p.umems {
		u.Close()
	}
	return last
}

func (w *worker) close() {
	for _, port := range w.wire {
		if port != nil {
			port.sock.Close()
		}
	}
	unix.Close(w.wakeup)
}

// replacePlane closes the current plane, keeps what it had counted, and puts
// the next one, which may be nil, in its place.
func (r *Router) replacePlane(next *plane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plane != nil {
		for i, s := range r.plane.close() {
			if i == len(r.past) {
				r.past = append(r.past, WorkerStats{ID: s.ID, CPU: s.CPU})
			}
			r.past[i].add(&s)
		}
	}
	r.plane = next
}

// portsChanged tells whether a port's device is another one than the plane was
// opened with: gone, back, or with other queues, MTU or address.
func (r *Router) portsChanged() bool {
	changed := false
	err := r.inHome(func() error {
		for i := range r.config.Ports {
			now, err := findDevice(&r.config.Ports[i])
			if err != nil {
				return err
			}
			was := r.plane.devices[i]
			changed = changed || now.index != was.index || now.mtu != was.mtu || now.mac != was.mac || !slices.Equal(now.queues, was.queues)
		}
		return nil
	})
	return changed || err != nil
}
