package mirror

import (
	"context"
	"math/rand/v2"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// nodeWrites is how many announcements a second all nodes make together at most.
const nodeWrites = 300

// perAnnouncement ends an attempt.
const perAnnouncement = 10 * time.Second

// announcer says under the node's name what has been applied, until ctx ends: soon
// after each change, but not more often than the store takes from that many nodes,
// and not all of them at once.
func (m *Mirror) announcer(ctx context.Context, s store.Store) {
	if m.config.Node.Name == "" {
		return
	}
	var own store.Announcement
	defer func() {
		if own != nil {
			own.Close()
		}
	}()
	var last time.Time
	wait := m.times.retry
	for {
		select {
		case <-m.announce:
		case <-ctx.Done():
			return
		}
		m.mu.Lock()
		share := time.Second * time.Duration(max(m.nodes, 1)) / nodeWrites
		m.mu.Unlock()
		if !sleep(ctx, max(rand.N(share), time.Until(last.Add(share)))) {
			return
		}
		select { // what came since is in this one
		case <-m.announce:
		default:
		}
		last = time.Now()
		err := m.tell(ctx, s, &own)
		if err == nil {
			wait = m.times.retry
			continue
		}
		if !sleep(ctx, rand.N(wait)) {
			return
		}
		wait = min(2*wait, m.times.longest)
		wake(m.announce)
	}
}

// tell announces the node as it is now.
func (m *Mirror) tell(ctx context.Context, s store.Store, own *store.Announcement) (err error) {
	ctx, cancel := context.WithTimeout(ctx, perAnnouncement)
	defer cancel()
	n := m.config.Node
	if *own == nil {
		a, err := s.Announce(ctx, catalog.NodePrefix+n.Name)
		if err != nil {
			return err
		}
		*own = a
	}
	m.mu.Lock()
	v, from, doubt := m.View(), m.stats.Loaded, m.stats.Doubt
	m.mu.Unlock()
	counts := v.Counts()
	n.At, n.Routes, n.Skipped, n.Problem = time.Now().UTC(), counts.Proxies[Served], counts.Skipped(), doubt
	if from == FromStore && doubt == "" {
		n.Applied = v.Revision // and not one of another store
	}
	return (*own).Set(ctx, n.Encode())
}
