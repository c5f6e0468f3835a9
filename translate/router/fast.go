package router

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// FastPathStats count what the kernel translated by itself.
type FastPathStats struct {
	Attached   bool
	Interfaces []FastPathInterface // as configured
	Counters   fastpath.Counters
}

// FastPathInterface is an interface that packets are translated at the ingress of.
type FastPathInterface struct {
	Name     string
	Attached bool
}

// Packets is how many were translated: index 0 for those that came as IPv6, 1 for
// IPv4. To a worker each would have been a [translate.Forward].
func (s *FastPathStats) Packets() (n [2]uint64) {
	for at := range s.Counters {
		for d := range n {
			n[d] += s.Counters[at].Packets[d]
		}
	}
	return n
}

// Traffic is what was taken in and given out at a point, as a worker would have
// counted it at the TUN device.
func (s *FastPathStats) Traffic(at fastpath.Point) (p PortCounters) {
	const longer = 40 - 20 // an IPv6 header than an IPv4 one
	c := &s.Counters[at]
	p.RxPackets, p.RxBytes = c.Packets[0]+c.Packets[1], c.Bytes[0]+c.Bytes[1]
	p.TxPackets, p.TxBytes = p.RxPackets, p.RxBytes-longer*c.Packets[0]+longer*c.Packets[1]
	return p
}

// openFastPath puts the BPF program on the TUN device. Where it can't, the router
// works without, and says why: user space does all that it would.
func (r *Router) openFastPath() error {
	if !r.config.FastPath {
		return nil
	}
	p, err := fastpath.Load(fastpath.Config{})
	if err == nil {
		if err = p.Attach(r.tun.Ifindex()); err != nil {
			p.Close()
		}
	}
	if err != nil {
		r.log(true, fmt.Sprintf("the fast path is off, and all packets take user space: %v", err))
		return nil
	}
	r.fast = p
	r.log(false, fmt.Sprintf("fast path on %s, attached by %v", r.tun.Name(), p.Mode()))
	// An interface of the wrong kind is a mistake at the start; later it is
	// an event.
	return r.followInterfaces(func(err error) error { return err })
}

// interfaces are where the fast path hangs besides the TUN device.
type interfaces struct {
	mu sync.Mutex
	at map[string]fastInterface
}

type fastInterface struct {
	index    int // 0: not there
	attached bool
}

// refreshFastPath follows interfaces that come and go.
func (r *Router) refreshFastPath() error {
	if r.fast == nil || len(r.config.FastPathInterfaces) == 0 {
		return nil
	}
	return r.inHome(func() error {
		return r.followInterfaces(func(err error) error { r.log(true, err.Error()); return nil })
	})
}

// followInterfaces attaches to interfaces that are new. One that can't be attached
// to is told to refused, once.
func (r *Router) followInterfaces(refused func(error) error) error {
	f := &r.interfaces
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range r.config.FastPathInterfaces {
		index := 0
		l, err := netlink.LinkByName(name)
		switch {
		case err == nil:
			index = l.Attrs().Index
		case !errors.As(err, &netlink.LinkNotFoundError{}):
			return fmt.Errorf("find fast path interface %s: %w", name, err)
		}
		old, known := f.at[name]
		if known && old.index == index {
			continue
		}
		if f.at == nil {
			f.at = map[string]fastInterface{}
		}
		f.at[name] = fastInterface{index: index}
		if err := r.fast.DetachInterface(old.index); err != nil {
			r.log(true, fmt.Sprintf("fast path interface %s: %v", name, err))
		}
		if index == 0 {
			r.log(!known, fmt.Sprintf("fast path interface %s is not there; it is attached to when it appears", name))
			continue
		}
		switch err := r.fast.AttachInterface(index); {
		case errors.Is(err, fastpath.ErrDeviceGone):
			f.at[name] = fastInterface{} // there will be an event
		case err != nil:
			err = fmt.Errorf("fast path interface %s: %w (fix [router.kernel] fast_path_interfaces)", name, err)
			if err := refused(err); err != nil {
				return err
			}
		default:
			f.at[name] = fastInterface{index, true}
			r.log(false, "fast path at the ingress of "+name)
		}
	}
	return nil
}

// updateFastPath tells the program what the translator knows. Where it can't, it
// leaves everything to user space and says so: no reason not to go on.
func (r *Router) updateFastPath(c translate.Config) {
	if r.fast == nil {
		return
	}
	t := FastPathTables(c)
	if r.config.Share.enabled() {
		// What shares an address must pass the kernel's NAT.
		for i := range t.EAM {
			t.EAM[i].Routed = t.EAM[i].IPv4.Overlaps(r.config.Dynamic.Pool4)
		}
	}
	if err := r.fast.Update(t); err != nil {
		r.log(true, fmt.Sprintf("the fast path rests, and all packets take user space: %v", err))
	}
}

// FastPathTables is a translator's configuration in the words of the fast path.
func FastPathTables(c translate.Config) fastpath.Tables {
	t := fastpath.Tables{
		Pool6: c.Pool6, LowestIPv6MTU: c.LowestIPv6MTU, TOS: fastpath.TOS(c.TOS), AllowPrivate4: c.AllowPrivate4,
		Blocked4: c.Deny4, Local4: c.Local4, Local6: c.Local6, ClampMSS: c.MSSClamp != translate.MSSClamp{},
	}
	t.Blocked4 = slices.Clip(t.Blocked4)
	maySend := c.MaySend()
	for _, e := range c.EAM {
		if maySend(e.IPv6) {
			t.EAM = append(t.EAM, fastpath.EAM{IPv6: e.IPv6, IPv4: e.IPv4})
		} else { // nothing may come from it; what goes to it is seldom
			t.Blocked4 = append(t.Blocked4, e.IPv4)
		}
	}
	return t
}

func (r *Router) fastPathStats() (s FastPathStats) {
	if r.fast == nil {
		return s
	}
	s.Attached = r.fast.Mode() != fastpath.Detached
	// Counters of a program that is closed are gone.
	s.Counters, _ = r.fast.Counters()
	r.interfaces.mu.Lock()
	defer r.interfaces.mu.Unlock()
	for _, name := range r.config.FastPathInterfaces {
		s.Interfaces = append(s.Interfaces, FastPathInterface{name, r.interfaces.at[name].attached})
	}
	return s
}
