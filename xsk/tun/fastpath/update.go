package fastpath

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Update makes the program go by these tables. While more than mappings changes,
// everything falls through. It works fully, or it returns an error and everything
// falls through from then on, so that the program never goes by tables that user
// space has left behind; Update can then be called again.
func (p *Program) Update(t Tables) error {
	want, err := compile(t, p.size)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("update the fast path: %w", ErrClosed)
	}
	if err == nil {
		err = p.become(&want)
	}
	if err != nil {
		return errors.Join(err, p.pause())
	}
	return nil
}

func (p *Program) become(want *image) error {
	same := p.on && want.settings == p.now.settings && maps.Equal(want.special, p.now.special)
	if !same {
		if err := p.pause(); err != nil {
			return err
		}
	}
	if err := p.bring(want); err != nil {
		return err
	}
	if same {
		return nil
	}
	p.now.settings = want.settings
	return p.resume()
}

// pause makes everything fall through. When it returns, no packet is under way
// by the old settings: the kernel waits for that (bpf(2), maps of maps). If the
// kernel refuses, it takes the program from its devices.
func (p *Program) pause() error {
	p.on = false
	if err := p.maps.Current.Put(uint32(0), p.off); err != nil {
		return errors.Join(explain("switch the fast path off", err), p.detach())
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
	for six, h := range p.now.hosts {
		if want.hosts[six] != h {
			if err := p.deleteHost(six, h); err != nil {
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
	for six, h := range want.hosts {
		if p.now.hosts[six] != h {
			if err := p.putHost(six, h); err != nil {
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

func (p *Program) putHost(six netip.Addr, h host) error {
	var routed uint32
	if h.routed {
		routed = 1
	}
	if err := p.maps.Hosts4.Put(key4(h.four), fastHost4{Six: key6(six), Routed: routed}); err != nil {
		return explain(fmt.Sprintf("map %v to %v", h.four, six), err)
	}
	p.now.hosts[six], p.now.taken[h.four] = h, six
	if err := p.maps.Hosts6.Put(key6(six), fastHost6{Four: key4(h.four), Routed: routed}); err != nil {
		return explain(fmt.Sprintf("map %v to %v", six, h.four), err)
	}
	return nil
}

func (p *Program) deleteHost(six netip.Addr, h host) error {
	for _, err := range []error{p.maps.Hosts6.Delete(key6(six)), p.maps.Hosts4.Delete(key4(h.four))} {
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return explain(fmt.Sprintf("remove the mapping of %v", six), err)
		}
	}
	delete(p.now.hosts, six)
	delete(p.now.taken, h.four)
	return nil
}
