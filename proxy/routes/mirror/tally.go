package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// With each node reading everything once a minute, a thousand of them would have a
// store of 100,000 records send 700 MB a second. Instead one reads it, whoever is
// first after a random time, and says in the store what the sum of all fingerprints
// was at which revision. Everybody hears it from the watch that it is about, and
// compares. So the cost is one list and two small commits, for any number of nodes.
//
// A watch that is stuck is found by this, too: the node it belongs to hears nobody,
// wants to count itself, and can't, since the tally is not the one it knows of.

// tallies counts, or compares with what others have counted.
func (m *Mirror) tallies(ctx context.Context, s store.Store) {
	every := m.config.Reconcile
	next := time.NewTimer(every/2 + rand.N(every))
	defer next.Stop()
	var repair *time.Timer
	defer func() {
		if repair != nil {
			repair.Stop()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-m.tallied:
			t, err := catalog.DecodeTally(e)
			if err == nil && t.Revision > 0 {
				m.knowNodes(t.Nodes)
				if m.compare(t.Revision, t.Sum) {
					repair = m.repair(repair)
				}
			}
		case <-next.C:
			differs, err := m.count(ctx, s)
			if errors.Is(err, errStuck) {
				m.mu.Lock()
				m.stats.Stuck++
				m.mu.Unlock()
				m.config.Log(true, fmt.Sprintf("routes: %v; reading all of the store again", err))
				m.relist(needStuck)
			}
			if differs {
				repair = m.repair(repair)
			}
			// Other errors are the store's being away, which the watch tells of.
		}
		next.Reset(every + rand.N(every/2))
	}
}

var errStuck = errors.New(string(needStuck))

// synced tells whether the copy is one of what the store has.
func (m *Mirror) synced() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats.Up && m.stats.Doubt == "" && m.stats.Loaded == FromStore
}

func (m *Mirror) knowNodes(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes = n
}

// perCount ends a count that takes too long.
const perCount = 2 * time.Minute

// count counts what the store has: for this node if it is the only one, or else
// for all if nobody else does.
func (m *Mirror) count(ctx context.Context, s store.Store) (differs bool, err error) {
	if !m.synced() {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, perCount)
	defer cancel()
	var t catalog.Tally
	if _, err := s.List(ctx, catalog.NodePrefix, func(store.Entry) error { t.Nodes++; return nil }); err != nil {
		return false, err
	}
	m.knowNodes(t.Nodes)
	t.By = m.config.Node.Name
	if t.Nodes <= 1 || t.By == "" {
		if err := add(ctx, s, &t); err != nil {
			return false, err
		}
		m.settle(ctx, &t)
		return m.compare(t.Revision, t.Sum), ctx.Err()
	}
	known := m.View().last[lastTally]
	if known.Value == nil {
		known.Modified = 0
	}
	put := func(after store.Revision) (store.Revision, error) {
		t.At = time.Now().UTC()
		return s.Commit(ctx, store.Txn{If: []store.Condition{{Key: catalog.TallyKey, Modified: after}}, Put: []store.Put{{Key: catalog.TallyKey, Value: t.Encode()}}})
	}
	claim, err := put(known.Modified)
	if errors.Is(err, store.ErrConflict) {
		// Somebody else was faster, and this node should hear of it.
		got, now, err := s.Get(ctx, catalog.TallyKey)
		if err != nil {
			return false, err
		}
		if e, ok := got[catalog.TallyKey]; ok {
			now = e.Modified
		}
		return false, m.caughtUp(ctx, now)
	}
	if err != nil {
		return false, err
	}
	if err := add(ctx, s, &t); err != nil {
		return false, err
	}
	_, err = put(claim)
	return false, err
}

// add counts the records.
func add(ctx context.Context, s store.Store, t *catalog.Tally) (err error) {
	t.Revision, err = s.List(ctx, catalog.Serving, func(e store.Entry) error {
		if isRecord(e.Key) {
			t.Records++
			t.Sum += catalog.Fingerprint(e)
		}
		return nil
	})
	return err
}

// caughtUp waits until a revision is applied, or gives errStuck if that takes
// longer than a watch that works may take.
func (m *Mirror) caughtUp(ctx context.Context, r store.Revision) error {
	within, cancel := context.WithTimeout(ctx, m.times.catchUp)
	defer cancel()
	if err := m.WaitFor(within, r); err != nil && ctx.Err() == nil && m.synced() {
		return errStuck
	}
	return ctx.Err()
}

// settle gives the watch time to tell what was counted. That is not to wait for its
// revision, which old members of etcd never report if it is of keys elsewhere.
func (m *Mirror) settle(ctx context.Context, t *catalog.Tally) {
	ctx, cancel := context.WithTimeout(ctx, m.times.catchUp)
	defer cancel()
	for {
		m.mu.Lock()
		changed := m.changed
		own, ok := m.points.at(t.Revision)
		m.mu.Unlock()
		if !ok || own == t.Sum || m.View().Revision >= t.Revision {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// compare tells whether the copy was another at a revision than the store.
func (m *Mirror) compare(r store.Revision, sum uint64) (differs bool) {
	if !m.synced() {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	own, ok := m.points.at(r)
	if !ok {
		return false // before this node's last list
	}
	m.stats.Tallies++
	return own != sum && time.Now().After(m.muted)
}

// repair has everything read again, not by all nodes at once: the one that counted
// might be the one that is wrong.
func (m *Mirror) repair(before *time.Timer) *time.Timer {
	if before != nil {
		before.Stop()
	}
	return time.AfterFunc(rand.N(m.spread(m.View().records())), func() {
		m.config.Log(true, "routes: "+string(needDrift)+"; reading all of it again")
		m.relist(needDrift)
	})
}
