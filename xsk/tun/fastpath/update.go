package fastpath

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Update makes the program go by these tables. While more than mappings changes,
// everything falls through. Tables that can't be are refused before anything
// is changed; after another error everything falls through, and Update can be
// called again.
func (p *Program) Update(t Tables) error {
	want, err := compile(t, p.size)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("update the fast path: %w", ErrClosed)
	}
	same := p.on && want.settings == p.now.settings && maps.Equal(want.special, p.now.special)
	if !same {
		if err := p.pause(); err != nil {
			return err
		}
	}
	if err := p.bring(&want); err != nil {
		return errors.Join(err, p.pause())
	}
	p.now.pool, p.now.local4, p.now.local6 = want.pool, want.local4, want.local6
	if same {
		return nil
	}
	p.now.settings = want.settings
	return p.resume()
}

// Add maps one more host, with no gap for the others. Tell user space first. A host
// that there is no room for is left to it.
func (p *Program) Add(h Host) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("map %v to %v: %w", h.IPv6, h.IPv4, ErrClosed)
	}
	if err := p.now.conflict(h); err != nil {
		return err
	}
	if p.now.pool.IsValid() && p.now.pool.Contains(h.IPv6) {
		return fmt.Errorf("fast path: %v lies in pool6 %v, which only Update can allow for", h.IPv6, p.now.pool)
	}
	next := newImage()
	next.local4, next.local6 = p.now.local4, p.now.local6
	mapped := next.add(h, p.size-len(p.now.hosts))
	for i, row := range next.rows {
		if err := p.putRow(i, union(row, p.now.rows[i])); err != nil {
			return err
		}
	}
	if !mapped {
		return p.putSpecial(netip.PrefixFrom(h.IPv4, 32))
	}
	return p.putHost(h)
}

// Remove takes a host's mapping away, before user space forgets it. A host that
// isn't mapped is no error.
func (p *Program) Remove(h Host) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("remove the mapping of %v: %w", h.IPv6, ErrClosed)
	}
	if p.now.hosts[h.IPv6] != h.IPv4 {
		return nil
	}
	return p.deleteHost(h)
}

// pause makes everything fall through. When it returns, no packet is under way
// by the old settings: the kernel waits for that (bpf(2), maps of maps).
func (p *Program) pause() error {
	p.on = false
	if err := p.maps.Current.Put(uint32(0), p.off); err != nil {
		return explain("switch the fast path off", err)
	}
	return nil
}

func (p *Program) resume() error {
	m, err := p.newSettings(p.now.settings)
	if err != nil {
		return err
	}
	defer m.Close() // the outer map keeps it
	if err := p.maps.Current.Put(uint32(0), m); err != nil {
		return explain("switch the fast path on", err)
	}
	p.on = true
	return nil
}

// newSettings makes a map for the map of maps.
func (p *Program) newSettings(s fastSettings) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(p.spec.Maps[fastMapCurrent].InnerMap)
	if err != nil {
		return nil, explain("make settings of the fast path", err)
	}
	if err := m.Put(uint32(0), s); err != nil {
		m.Close()
		return nil, explain("write settings of the fast path", err)
	}
	return m, nil
}

// bring makes the kernel's tables what is wanted. What goes, goes first, so that
// an address that changes hands has no mapping in between. It keeps count of what
// they hold also when it fails halfway.
func (p *Program) bring(want *image) error {
	for six, four := range p.now.hosts {
		if want.hosts[six] != four {
			if err := p.deleteHost(Host{six, four}); err != nil {
				return err
			}
		}
	}
	for prefix := range want.special {
		if !p.now.special[prefix] {
			if err := p.putSpecial(prefix); err != nil {
				return err
			}
		}
	}
	// A cleared mark is a promise: none goes before what it stands for has,
	// and each comes before that.
	for i, row := range want.rows {
		if err := p.putRow(i, union(row, p.now.rows[i])); err != nil {
			return err
		}
	}
	for six, four := range want.hosts {
		if p.now.hosts[six] != four {
			if err := p.putHost(Host{six, four}); err != nil {
				return err
			}
		}
	}
	for prefix := range p.now.special {
		if !want.special[prefix] {
			if err := p.deleteSpecial(prefix); err != nil {
				return err
			}
		}
	}
	for i := range p.now.rows {
		if err := p.putRow(i, want.rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func union(a, b fastRow) fastRow {
	for i := range a.Of {
		a.Of[i] |= b.Of[i]
	}
	return a
}

func (p *Program) putRow(i uint32, row fastRow) error {
	if row == p.now.rows[i] {
		return nil
	}
	if err := p.maps.Nets4.Put(i, row); err != nil {
		return explain("mark IPv4 networks", err)
	}
	p.now.rows[i] = row
	return nil
}

func (p *Program) putSpecial(prefix netip.Prefix) error {
	if err := p.maps.Special4.Put(keyLPM(prefix), uint8(1)); err != nil {
		return explain(fmt.Sprintf("block %v", prefix), err)
	}
	p.now.special[prefix] = true
	return nil
}

func (p *Program) deleteSpecial(prefix netip.Prefix) error {
	if err := p.maps.Special4.Delete(keyLPM(prefix)); err != nil {
		return explain(fmt.Sprintf("unblock %v", prefix), err)
	}
	delete(p.now.special, prefix)
	return nil
}

func (p *Program) putHost(h Host) error {
	if err := p.maps.Hosts4.Put(key4(h.IPv4), fastHost4{Six: key6(h.IPv6)}); err != nil {
		return explain(fmt.Sprintf("map %v to %v", h.IPv4, h.IPv6), err)
	}
	p.now.hosts[h.IPv6], p.now.taken[h.IPv4] = h.IPv4, h.IPv6
	if err := p.maps.Hosts6.Put(key6(h.IPv6), fastHost6{Four: key4(h.IPv4)}); err != nil {
		return explain(fmt.Sprintf("map %v to %v", h.IPv6, h.IPv4), err)
	}
	return nil
}

func (p *Program) deleteHost(h Host) error {
	for _, err := range []error{p.maps.Hosts6.Delete(key6(h.IPv6)), p.maps.Hosts4.Delete(key4(h.IPv4))} {
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return explain(fmt.Sprintf("remove the mapping of %v", h.IPv6), err)
		}
	}
	delete(p.now.hosts, h.IPv6)
	delete(p.now.taken, h.IPv4)
	return nil
}
