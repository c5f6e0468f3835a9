package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"aarch64.com/isthmus/translate"
	"aarch64.com/isthmus/translate/router/dynamic"
)

// openDynamic makes the map of hosts that get an address from a pool.
func (r *Router) openDynamic() error {
	c := r.config.Dynamic
	if !c.Pool4.IsValid() {
		return nil
	}
	c.Static = r.config.Translate.EAM
	plan, err := r.planShare()
	if err != nil {
		return err
	}
	if plan != nil {
		c.Limit = plan.Capacity()
	}
	m, problem, err := dynamic.New(c)
	if err != nil {
		return err
	}
	if problem != nil {
		r.log(true, problem.Error())
	}
	r.dynamic = m
	r.shared.learn = r.learn
	return r.openShare()
}

// runDynamic ages the mappings and keeps them on disk until ctx ends. The
// function that it returns ends it and waits for the last write.
func (r *Router) runDynamic(ctx context.Context, cancel func()) (wait func()) {
	if r.dynamic == nil {
		return func() {}
	}
	var running sync.WaitGroup
	running.Go(func() { r.dynamic.Keep(ctx, func(err error) { r.log(true, err.Error()) }) })
	if r.share != nil {
		running.Go(func() { r.watchHostPorts(ctx, hostPortsInterval) })
		running.Go(func() {
			if err := r.share.Run(ctx); err != nil {
				r.log(true, fmt.Sprintf("limits of connections are not enforced any more: %v", err))
			}
		})
	}
	running.Go(func() {
		ticker := time.NewTicker(r.dynamic.Epoch())
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				freed := r.dynamic.Age()
				if err := errors.Join(r.retranslate(), r.unshare(freed...)); err != nil {
					r.log(true, err.Error())
				}
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// retranslate makes the translator know the mappings that are active now. Routes
// and steering cover the whole pool already.
func (r *Router) retranslate() error {
	r.translateMu.Lock()
	defer r.translateMu.Unlock()
	effective := r.effective(r.config.Translate, r.config.AutoVMs, &r.host)
	tr, err := translate.New(effective)
	if err != nil {
		return err
	}
	r.shared.translator.Store(tr)
	r.updateFastPath(effective)
	return nil
}

// learn is a worker's question about a packet that it could not translate for
// want of a mapping: old is the translator that it asked, v what that said. It
// returns the translator to ask instead, or the verdict that holds.
func (r *Router) learn(old *translate.Translator, v translate.Verdict, p []byte) (*translate.Translator, translate.Verdict) {
	woken := false
	if v == translate.NoMapping6 {
		four, w, err := r.dynamic.Assign(netip.AddrFrom16([16]byte(p[8:24])))
		if err != nil {
			return nil, translate.PoolExhausted6
		}
		if woken = w; w {
			if err := r.shareWith(four); err != nil {
				r.log(true, err.Error())
			}
		}
	} else if !r.dynamic.Wake(netip.AddrFrom4([4]byte(p[16:20]))) {
		return nil, v
	}
	// Another worker may have learned it since this one took its translator.
	if tr := r.shared.translator.Load(); tr != old && !woken {
		return tr, v
	}
	if err := r.retranslate(); err != nil {
		r.log(true, err.Error())
		return nil, v
	}
	return r.shared.translator.Load(), v
}

// Mappings are the dynamic mappings, in order of their IPv4 addresses; nil
// without a pool.
func (r *Router) Mappings() []dynamic.Entry {
	if r.dynamic == nil {
		return nil
	}
	return r.dynamic.List()
}

// ErrNoPool tells that the router gives no addresses.
var ErrNoPool = errors.New("no pool is configured ([router.dynamic] pool4)")

// AddMapping maps by hand.
func (r *Router) AddMapping(six, four netip.Addr) error {
	if r.dynamic == nil {
		return ErrNoPool
	}
	if err := r.dynamic.Add(six, four); err != nil {
		return err
	}
	return errors.Join(r.shareWith(four), r.retranslate())
}

// RemoveMapping forgets the mapping of an address of either family. A host that
// goes on sending gets another one.
func (r *Router) RemoveMapping(a netip.Addr) error {
	if r.dynamic == nil {
		return ErrNoPool
	}
	four, err := r.dynamic.Remove(a)
	if err != nil {
		return err
	}
	return errors.Join(r.retranslate(), r.unshare(four))
}
