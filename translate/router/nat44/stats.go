package nat44

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Stats are the table's counters since it was made, and how full it is.
type Stats struct {
	VMs          int // that share an address
	WithoutSlice int // that asked for it when there was no slice left
	Capacity     int // slices altogether

	Opened         uint64 // connections let through
	NoSlice        uint64 // packets refused: the mapped address has no slice, or was not added
	Protocol       uint64 // packets refused: neither TCP, UDP nor ICMP, so nobody could tell whose they are
	TooMany        uint64 // connections refused: the VM has Config.MaxConnections
	TooFast        uint64 // connections dropped: the VM has opened Config.NewPerSecond; it may try again
	Invalid        uint64 // packets dropped: of no connection that conntrack knows or would begin
	Untranslatable uint64 // packets dropped: their connection was begun without being translated
	Forgotten      uint64 // connections removed from conntrack, because their slice is not theirs any more
}

// Stats reads the counters from the kernel.
func (t *Table) Stats() (Stats, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return Stats{}, errClosed
	}
	s := Stats{Capacity: t.plan.capacity, Forgotten: t.forgotten}
	for _, has := range t.mapped {
		if has {
			s.VMs++
		} else {
			s.WithoutSlice++
		}
	}
	objects, err := t.rules.c.GetNamedObjects(t.rules.table)
	if err != nil {
		return s, explain("read the counters of table "+t.config.Table, err)
	}
	into := map[string]*uint64{
		counterOpened: &s.Opened, counterNoSlice: &s.NoSlice, counterProtocol: &s.Protocol,
		counterTooMany: &s.TooMany, counterTooFast: &s.TooFast,
		counterInvalid: &s.Invalid, counterUntranslatable: &s.Untranslatable,
	}
	for _, o := range objects {
		o, ok := o.(*nftables.NamedObj)
		if !ok {
			continue
		}
		if c, ok := o.Obj.(*expr.Counter); ok && into[o.Name] != nil {
			*into[o.Name] = c.Packets
			delete(into, o.Name)
		}
	}
	if len(into) > 0 {
		return s, fmt.Errorf("read the counters of table %s: %d are missing: somebody has changed the table", t.config.Table, len(into))
	}
	return s, nil
}

// Limited tells which mapped addresses have run into a limit within the last
// hour, and how many of their connections were refused or dropped meanwhile.
func (t *Table) Limited() (map[netip.Addr]uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errClosed
	}
	elements, err := t.rules.c.GetSetElements(t.rules.limited())
	if err != nil {
		return nil, explain("read set "+setLimited+" of table "+t.config.Table, err)
	}
	limited := map[netip.Addr]uint64{}
	for _, e := range elements {
		if a, ok := netip.AddrFromSlice(e.Key); ok && e.Counter != nil {
			limited[a] = e.Counter.Packets
		}
	}
	return limited, nil
}
