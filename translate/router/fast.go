package router

import (
	"errors"
	"fmt"
	"slices"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/xsk/tun/fastpath"
)

// FastPathStats count what the kernel translated by itself.
type FastPathStats struct {
	Attached bool
	fastpath.Counters
}

// openFastPath puts the BPF program on the TUN device. Where it can't, the router
// works without, and says why: user space does all that it would.
func (r *Router) openFastPath() {
	if !r.config.FastPath {
		return
	}
	p, err := fastpath.Load(fastpath.Config{})
	if err == nil {
		if err = p.Attach(r.tun.Ifindex()); err != nil {
			p.Close()
		}
	}
	if err != nil {
		r.log(true, fmt.Sprintf("the fast path is off, and all packets take user space: %v", err))
		return
	}
	r.fast = p
	r.log(false, fmt.Sprintf("fast path on %s, attached by %v", r.tun.Name(), p.Mode()))
}

// updateFastPath tells the program what the translator knows. Where it can't, it
// leaves everything to user space and says so: no reason not to go on.
func (r *Router) updateFastPath(c translate.Config) {
	if r.fast == nil {
		return
	}
	if err := r.fast.Update(FastPathTables(c)); err != nil {
		// Tables that are refused leave the old ones in use.
		err = errors.Join(err, r.fast.Update(fastpath.Tables{}))
		r.log(true, fmt.Sprintf("the fast path rests, and all packets take user space: %v", err))
	}
}

// FastPathTables is a translator's configuration in the words of the fast path.
func FastPathTables(c translate.Config) fastpath.Tables {
	t := fastpath.Tables{
		Pool6: c.Pool6, LowestIPv6MTU: c.LowestIPv6MTU, TOS: fastpath.TOS(c.TOS), AllowPrivate4: c.AllowPrivate4,
		Blocked4: c.Deny4, Local4: c.Local4, Local6: c.Local6,
	}
	t.Blocked4 = slices.Clip(t.Blocked4)
	maySend := c.MaySend()
	for _, e := range c.EAM {
		if maySend(e.IPv6) {
			t.EAM = append(t.EAM, fastpath.EAM(e))
		} else { // nothing may come from it; what goes to it is seldom
			t.Blocked4 = append(t.Blocked4, e.IPv4)
		}
	}
	return t
}

func (r *Router) fastPathStats() FastPathStats {
	if r.fast == nil {
		return FastPathStats{}
	}
	s := FastPathStats{Attached: true}
	// Counters of a program that is closed are gone.
	s.Counters, _ = r.fast.Counters()
	return s
}
