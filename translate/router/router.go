package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router/dynamic"
	"aarch64.com/isthmus/translate/router/nat44"
	"aarch64.com/isthmus/translate/router/nexthop"
	"aarch64.com/isthmus/xsk"
	"aarch64.com/isthmus/xsk/tun"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// Router owns the TUN device, its routes, the steering programs and the workers.
type Router struct {
	config Config
	home   netns.NsHandle // where everything was opened
	tun    *tun.Device
	raw    int // socket for packets of the host's own, see kernelPort.originate
	mirror *nexthop.Mirror
	routes *routes
	tables *xsk.Tables // nil without ports
	shared shared

	interfaces interfaces // of the fast path

	relink chan struct{} // the kernel's tables were rebuilt: look at the ports

	mu        sync.Mutex // guards what follows
	plane     *plane     // nil while there is none
	past      []WorkerStats
	rebuilds  uint64
	shareSeen nat44.Stats

	// translateMu guards config.Translate, config.AutoVMs and what follows. A
	// worker takes it for the first packet of a host, so nobody who holds it
	// waits for one.
	translateMu sync.Mutex
	dynamic     *dynamic.Map      // nil: none
	share       *nat44.Table      // nil: the pool is not shared
	fast        *fastpath.Program // nil: off
	host        host              // as the translator was told
}

// host is what the translator is told of this host.
type host struct {
	source translate.Sources // addresses for errors
	local4 []netip.Addr
	vms    []netip.Prefix // where the routes say that VMs are
}

func (r *Router) look() host {
	t := r.mirror.Table()
	return host{t.Source(), t.Local4(), t.Nearby6()}
}

func (h *host) equal(o *host) bool {
	return h.source == o.source && slices.Equal(h.local4, o.local4) && slices.Equal(h.vms, o.vms)
}

// Open makes the TUN device and its routes, attaches to the ports and prepares
// everything for Run. It works in the network namespace of the calling thread.
// The errors say what is missing and what to do; nothing is left behind then.
func Open(c Config) (r *Router, err error) {
	c.setDefaults()
	r = &Router{config: c, raw: -1, relink: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			// A start that failed leaves what it found.
			if r.share != nil && !r.share.Found() {
				r.ForGood()
			}
			r.Close()
			r = nil
		}
	}()
	if r.home, err = netns.Get(); err != nil {
		return r, fmt.Errorf("find the network namespace: %w", err)
	}
	if len(c.Ports) > 0 {
		if r.tables, err = xsk.NewTables(); err != nil {
			return r, err
		}
	}
	workers, err := r.countWorkers()
	if err != nil {
		return r, err
	}
	if r.tun, err = tun.Open(tun.Config{Name: c.Kernel.Interface, Queues: workers, Offload: true}); err != nil {
		return r, err
	}
	if r.raw, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW); err != nil {
		return r, fmt.Errorf("open a raw socket: %w (the capability CAP_NET_RAW is missing)", err)
	}
	r.forwarding()
	names := make([]string, len(c.Ports))
	for i := range c.Ports {
		names[i] = c.Ports[i].Interface
	}
	r.mirror, err = nexthop.Open(nexthop.Config{Ports: names, OnChange: r.changed, Warn: func(m string) { r.log(true, m) }})
	if err != nil {
		return r, err
	}
	r.shared.hops = r.mirror.Table
	r.shared.ownAddress = c.OwnAddress
	if r.routes, err = openRoutes(r.tun.Ifindex()); err != nil {
		return r, err
	}
	// A network that has no room for us is found before anything is changed.
	if err = r.collide(c.Translate); err != nil {
		return r, err
	}
	if err = r.openDynamic(); err != nil {
		return r, err
	}
	if err = r.openFastPath(); err != nil {
		return r, err
	}
	r.translateMu.Lock()
	err = r.update(c.Translate, c.AutoVMs)
	r.translateMu.Unlock()
	if err != nil {
		return r, err
	}
	if err = r.openPlane(); err != nil {
		return r, err
	}
	// A port that is missing at the start is a mistake; later it is an event.
	for i, p := range r.plane.programs {
		if p == nil {
			return r, fmt.Errorf("port %s: no such interface (see `ip link`; fix [[router.port]] interface)", names[i])
		}
	}
	if err := r.routes.stand(); err != nil {
		r.log(true, err.Error())
	}
	return r, nil
}

func (c *Config) setDefaults() {
	if c.Kernel.Interface == "" {
		c.Kernel.Interface = DefaultKernelInterface
	}
	if c.ErrorRate == 0 {
		c.ErrorRate = defaultErrorRate
	}
	if c.ErrorBurst == 0 {
		c.ErrorBurst = defaultErrorBurst
	}
}

func (r *Router) log(warn bool, message string) {
	if r.config.Log != nil {
		r.config.Log(warn, message)
	}
}

// countWorkers is one per queue of the port that has most, or one per CPU where
// there is no port.
func (r *Router) countWorkers() (int, error) {
	if n := r.config.Kernel.Queues; n > 0 && len(r.config.Ports) == 0 {
		return n, nil
	}
	if len(r.config.Ports) == 0 {
		return min(runtime.NumCPU(), maxKernelWorkers), nil
	}
	workers := 1
	for i := range r.config.Ports {
		l, err := netlink.LinkByName(r.config.Ports[i].Interface)
		if err != nil {
			return 0, fmt.Errorf("port %s: %w (see `ip link`; fix [[router.port]] interface)", r.config.Ports[i].Interface, err)
		}
		queues, err := portQueues(&r.config.Ports[i], l.Attrs().Index)
		if err != nil {
			return 0, err
		}
		workers = max(workers, len(queues))
	}
	return workers, nil
}

// Update is Reload with other translation tables only.
func (r *Router) Update(c translate.Config) error {
	r.translateMu.Lock()
	defer r.translateMu.Unlock()
	if err := r.collide(c); err != nil {
		return err
	}
	return r.update(c, r.config.AutoVMs)
}

// Reload takes over what a running Router can change of its Config, which is
// Translate and AutoVMs: the next batch of every worker goes by them. After an
// error everything is as it was.
func (r *Router) Reload(c Config) error {
	r.translateMu.Lock()
	defer r.translateMu.Unlock()
	if err := r.collide(c.Translate); err != nil {
		return err
	}
	return r.update(c.Translate, c.AutoVMs)
}

func (r *Router) collide(c translate.Config) error {
	return r.routes.collide(newClaims(&c, r.config.Dynamic.Pool4), func(m string) { r.log(true, m) })
}

// update is Reload for holders of translateMu. First comes what may fail, each
// step with its way back; what only clears away comes last, and can but warn.
func (r *Router) update(c translate.Config, autoVMs bool) (err error) {
	h := r.look()
	effective := r.effective(c, autoVMs, &h)
	tr, err := translate.New(effective)
	if err != nil {
		return err
	}
	// Packets for new prefixes must find the new tables when they are led to
	// them.
	mapped := r.mapped4(c.EAM)
	want := append(c.Pool6[:len(c.Pool6):len(c.Pool6)], mapped...)
	added, err := r.routes.add(want)
	if err != nil {
		return err
	}
	old := r.shared.translator.Swap(tr)
	if r.tables != nil {
		if err := r.tables.Update(c.Pool6, mapped); err != nil {
			r.shared.translator.Store(old)
			was := r.config.Translate
			return errors.Join(err, r.tables.Update(was.Pool6, r.mapped4(was.EAM)), r.routes.remove(added))
		}
	}
	r.updateFastPath(effective)
	if err := r.routes.keep(want); err != nil {
		r.log(true, err.Error())
	}
	r.config.Translate, r.config.AutoVMs, r.host = c, autoVMs, h
	return nil
}

// nobody is a source that no packet has.
var nobody = []netip.Prefix{netip.PrefixFrom(netip.IPv6Unspecified(), 128)}

// effective is a translator's whole Config: what was configured, what is to be
// known of the host, and the dynamic mappings.
func (r *Router) effective(c translate.Config, autoVMs bool, h *host) translate.Config {
	if !r.config.OwnAddress {
		c.Local4 = slices.Concat(c.Local4, h.local4)
	}
	// RFC 6791 wants a pool; without one, an address of our own is what
	// RFC 7915 section 5.2 leaves.
	if len(c.ICMPSource4) == 0 && h.source.V4 != [4]byte{} {
		c.ICMPSource4 = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(h.source.V4), 32)}
	}
	if autoVMs {
		// The routes to pool6 lead to ourselves.
		c.VMPrefixes = slices.DeleteFunc(slices.Clone(h.vms), func(p netip.Prefix) bool { return slices.Contains(c.Pool6, p) })
		if len(c.VMPrefixes) == 0 { // which would mean all
			c.VMPrefixes = nobody
		}
	}
	if r.dynamic != nil {
		c.EAM = slices.Concat(c.EAM, r.dynamic.Active())
	}
	return c
}

// mapped4 is the IPv4 side of the mappings, as few prefixes as possible: the EAM
// table, and the whole pool for those still to come.
func (r *Router) mapped4(eam []translate.EAM) []netip.Prefix {
	out := make([]netip.Prefix, len(eam))
	for i := range eam {
		out[i] = eam[i].IPv4
	}
	if r.dynamic != nil {
		out = append(out, r.dynamic.Pool())
	}
	return xsk.Aggregate(out)
}

// changed is called by the mirror after each new table.
func (r *Router) changed() {
	select {
	case r.relink <- struct{}{}:
	default:
	}
}

// Run forwards until ctx ends; then it leaves nothing behind. A port whose
// device goes is served again when it is back.
func (r *Router) Run(ctx context.Context) error {
	defer r.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mirrorEnded := make(chan error, 1)
	go func() { mirrorEnded <- r.mirror.Run(ctx) }()
	defer func() { cancel(); <-mirrorEnded }()
	defer r.runDynamic(ctx, cancel)()

	r.mu.Lock()
	r.plane.start(ctx)
	r.mu.Unlock()
	defer func() { r.replacePlane(nil) }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-mirrorEnded:
			mirrorEnded <- nil
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("follow the kernel's routes: %w", err)
		case err := <-r.plane.broken:
			if errors.Is(err, tun.ErrGone) {
				return fmt.Errorf("interface %s was deleted: %w", r.tun.Name(), err)
			}
			r.log(true, err.Error()+"; opening the ports that are left")
			if err := r.reopen(ctx); err != nil {
				return err
			}
		case <-r.relink:
			if err := errors.Join(r.refreshHost(), r.refreshShare(), r.refreshFastPath()); err != nil {
				r.log(true, err.Error())
			}
			if r.portsChanged() {
				r.log(false, "a port's device has changed; opening the ports anew")
				if err := r.reopen(ctx); err != nil {
					return err
				}
			}
		}
	}
}

// refreshHost tells the translator when the host's own addresses, or the prefixes
// of its VMs, change.
func (r *Router) refreshHost() error {
	r.translateMu.Lock()
	defer r.translateMu.Unlock()
	if now := r.look(); now.equal(&r.host) {
		return nil
	}
	return r.update(r.config.Translate, r.config.AutoVMs)
}

// reopen replaces the plane. It goes on trying, for a device may be on its way
// out or not fully in yet; meanwhile the kernel path rests too, which its queue
// bridges.
func (r *Router) reopen(ctx context.Context) error {
	r.replacePlane(nil)
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := r.inHome(r.openPlane)
		if err == nil {
			r.mu.Lock()
			r.rebuilds++
			r.plane.start(ctx)
			r.mu.Unlock()
			return nil
		}
		r.log(true, err.Error())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
}

// inHome calls f on a thread in the network namespace that the router was
// opened in.
func (r *Router) inHome(f func() error) error {
	runtime.LockOSThread()
	here, err := netns.Get()
	if err != nil {
		return fmt.Errorf("find the network namespace: %w", err)
	}
	defer here.Close()
	if !here.Equal(r.home) {
		if err := netns.Set(r.home); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		defer func() {
			// A thread that can't go back stays locked, and ends with
			// its goroutine.
			if netns.Set(here) == nil {
				runtime.UnlockOSThread()
			}
		}()
	} else {
		defer runtime.UnlockOSThread()
	}
	return f()
}

// Stats copies all counters.
func (r *Router) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{Tables: r.mirror.Builds(), Policy: r.mirror.Table().Policy(), Rebuilds: r.rebuilds, FastPath: r.fastPathStats(), Share: r.shareStats()}
	if r.dynamic != nil {
		s.Mappings = r.dynamic.Len()
	}
	if r.plane != nil {
		s.Workers = r.plane.stats()
		s.Ports = r.plane.portStats()
	}
	for i := range r.past {
		if i < len(s.Workers) {
			s.Workers[i].add(&r.past[i])
		} else {
			s.Workers = append(s.Workers, r.past[i])
		}
	}
	return s
}

// ForGood makes Close remove what would else stay for the next start: the NAT
// (see ShareConfig.Keep), and unreachable routes to what was translated.
func (r *Router) ForGood() {
	r.translateMu.Lock()
	if r.routes != nil {
		r.routes.forGood = true
	}
	r.translateMu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.share != nil {
		r.share.ForGood()
	}
}

// Close detaches from the ports and removes the TUN device and its routes.
// Run does it by itself; only a Router that never ran needs it.
func (r *Router) Close() {
	r.replacePlane(nil)
	if r.fast != nil {
		if err := r.fast.Close(); err != nil {
			r.log(true, err.Error())
		}
		r.fast = nil
	}
	if r.share != nil {
		if err := r.share.Close(); err != nil {
			r.log(true, err.Error())
		}
		r.share = nil
	}
	if r.routes != nil {
		if err := r.routes.close(); err != nil {
			r.log(true, err.Error())
		}
		r.routes = nil
	}
	if r.mirror != nil {
		r.mirror.Close()
	}
	if r.tun != nil {
		r.tun.Close()
	}
	if r.raw >= 0 {
		unix.Close(r.raw)
		r.raw = -1
	}
	if r.tables != nil {
		r.tables.Close()
		r.tables = nil
	}
	if r.home > 0 {
		r.home.Close()
	}
}
