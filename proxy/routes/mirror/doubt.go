package mirror

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"aarch64.com/isthmus/proxy/routes/catalog"
	"aarch64.com/isthmus/proxy/routes/store"
)

// doubt tells why a list is not what should replace the view, or "". An emptied
// store, an old backup or a mistaken address must not take the routes of a whole
// fleet away. A store is the one of before if revisions have not gone back and any
// record is still the same one; what etcd calls its cluster's identity is made of
// members' addresses and survives a wipe. And nothing is lost by a store with all
// that was there, such as one that has been migrated to.
func (l *listing) doubt(v *View, revision store.Revision) string {
	had := v.records()
	word := l.accepted()
	switch {
	case had == 0 || l.lost == 0:
		return ""
	case word != nil && !bytes.Equal(word, v.last[lastAccepted].Value):
		return ""
	case revision < v.Revision:
		return fmt.Sprintf("the store is at revision %d and was at %d: it has been emptied or restored, or it is another one; %d of %d records are missing", revision, v.Revision, l.lost, had)
	case l.shared == 0:
		return fmt.Sprintf("none of %d records is in the store any more: it has been emptied, or it is another one", had)
	}
	return ""
}

// accepted is what has changed about an operator's word.
func (l *listing) accepted() []byte {
	for _, c := range l.changes {
		if c.Key == catalog.AcceptedKey && !c.Gone {
			return c.Value
		}
	}
	return nil
}

// looksPerList is how often an operator's word is looked for before everything is
// read again: what is missing may have been put back.
const looksPerList = 30

// awaitWord returns when it may be worth reading everything again.
func (m *Mirror) awaitWord(ctx context.Context, s store.Store) error {
	for range looksPerList {
		if !sleep(ctx, m.times.doubt/2+rand.N(m.times.doubt)) {
			return ctx.Err()
		}
		got, _, err := s.Get(ctx, catalog.AcceptedKey)
		if err != nil {
			return err
		}
		m.up()
		if e, ok := got[catalog.AcceptedKey]; ok && !bytes.Equal(e.Value, m.View().last[lastAccepted].Value) {
			break
		}
	}
	return nil
}

// doubtful notes whether there is doubt.
func (m *Mirror) doubtful(why string) {
	m.mu.Lock()
	before := m.stats.Doubt
	m.stats.Doubt = why
	m.mu.Unlock()
	if why != before {
		wake(m.announce)
	}
	switch {
	case why != "" && before == "":
		m.up()
		m.config.Log(true, fmt.Sprintf("routes: %s; going on with the %d routes of before; if the store is right as it is, run isthmus routes accept",
			why, m.View().Counts().Proxies[Served]))
	case why == "" && before != "":
		m.config.Log(false, "routes: the store is believed again")
	}
}

// trouble is for how long the store has been away, and whether that has been said.
type trouble struct {
	failed int
	told   bool
}

// down notes that the store can't be asked. The first failure alone is not worth a
// warning: a cluster that elects a leader has one.
func (m *Mirror) down(err error) {
	m.mu.Lock()
	if m.stats.Up {
		m.stats.Up, m.stats.Since = false, time.Now()
	}
	m.stats.Problem = err.Error()
	m.trouble.failed++
	tell := m.trouble.failed > 1 && !m.trouble.told
	m.trouble.told = m.trouble.told || tell
	m.mu.Unlock()
	if tell {
		m.config.Log(true, fmt.Sprintf("routes: store: %v; going on with %d routes, and trying again", err, m.View().Counts().Proxies[Served]))
	}
}

// up notes that the store answers.
func (m *Mirror) up() {
	m.mu.Lock()
	if !m.stats.Up {
		m.stats.Up, m.stats.Since = true, time.Now()
	}
	m.stats.Problem = ""
	told := m.trouble.told
	m.trouble = trouble{}
	m.mu.Unlock()
	if told {
		m.config.Log(false, "routes: the store answers again")
	}
}
