package mirror

import (
	"time"

	"aarch64.com/isthmus/proxy/routes/store"
)

// Stats are the figures of a Mirror since its start.
type Stats struct {
	Counts   Counts
	Hidden   int            // routes that give way to the operator's file
	Applied  store.Revision // up to which all changes are in force
	Loaded   Origin         // where what is in force came from
	Up       bool           // the store answers
	Since    time.Time      // for how long it does, or doesn't
	Problem  string         // why not, or ""
	Doubt    string         // why what the store says is not believed, or ""
	Nodes    int            // that live, as far as this one knows
	Relists  uint64         // times that all has been read, without the first
	Tallies  uint64         // times that the copy has been compared with the store
	Repaired uint64         // records that were not as in the store, though they should have been
	Stuck    uint64         // watches that told nothing though there were changes
	Lag      Lag
	Disk     DiskStats
}

// Origin is where routes come from.
type Origin uint8

// Origins.
const (
	Nowhere Origin = iota // nothing has been read yet
	FromDisk
	FromStore
)

// String is one word for people.
func (o Origin) String() string { return [...]string{"nowhere", "disk", "store"}[o] }

// LagBounds are the upper bounds of [Lag].Counts; the last of those has none.
var LagBounds = [...]time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, time.Minute,
}

// maxLag is what is believed: records that are imported keep their times.
const maxLag = time.Hour

// Lag is the time from when a proxy was changed, by the clock of the node that
// did, to when it was in force here, by this one's. Where clocks differ it is off
// by as much; less than none is taken for none. What a list brings is not in it.
type Lag struct {
	Counts [len(LagBounds) + 1]uint64
	Sum    time.Duration
	Last   time.Duration
}

func (l *Lag) observe(changed []int64, now time.Time) {
	for _, at := range changed {
		lag := max(0, time.Duration(now.UnixNano()-at))
		if lag > maxLag {
			continue
		}
		i := 0
		for i < len(LagBounds) && lag > LagBounds[i] {
			i++
		}
		l.Counts[i]++
		l.Sum += lag
		l.Last = lag
	}
}

// Stats are the figures.
func (m *Mirror) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	v := m.View()
	s.Counts, s.Applied = v.Counts(), v.Revision
	s.Hidden = m.config.Table.Hidden()
	s.Lag, s.Nodes = m.lag, m.nodes
	s.Disk = m.disk.stats()
	return s
}
